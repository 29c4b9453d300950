"""Predictors: arrays in, mean and interval out; they know neither torch nor architectures."""
