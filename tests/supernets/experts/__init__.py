"""Tests of `supernets.experts`."""
