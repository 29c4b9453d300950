"""What the measurements of a run say: report, selection, significance, convergence, importance, diversity."""
