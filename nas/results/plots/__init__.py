"""Plots (matplotlib), interactive charts (plotly) and the HTML page of a run."""
