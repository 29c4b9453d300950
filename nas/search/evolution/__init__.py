"""Evolutionary search by pymoo's algorithms, and the ones that pymoo lacks."""
