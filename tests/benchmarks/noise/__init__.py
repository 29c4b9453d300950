"""Recorded rounds of latency measurements on quiet and busy machines, and estimators compared on them."""
