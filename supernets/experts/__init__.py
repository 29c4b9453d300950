"""Experts of a layer, as weights and as routings: partitions of dense MLPs, merging, and simulated caches."""
