"""Makes a trained model smaller, without labels or training."""
