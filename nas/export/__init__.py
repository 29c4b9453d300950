"""What a run gives: its report, plots and pages, and the exported networks."""
