"""Before a run: search space costs, time estimates, latency calibration and latency sweeps."""
