"""Runs: the driver, the search loop, and everything that follows or resumes a run."""
