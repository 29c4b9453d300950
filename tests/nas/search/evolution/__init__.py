"""Tests of `nas.search`."""
