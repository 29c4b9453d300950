"""Fine-tunes one network of a run and measures the improvement."""
