"""Benchmarks of weight sharing and training strategies on real data."""
