"""Before a run: costs of a search space, time estimates, latency calibration and width sweeps."""
