"""What is made of measurements: their analysis, plots, and exported networks."""
