"""Training of supernets: the loop and its steps, strategies, checkpoints, recalibration, and training on several workers."""
