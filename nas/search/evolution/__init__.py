"""Evolutionary search by pymoo: `search` asks; `breeding` has the methods, and survival that pymoo lacks is beside it."""
