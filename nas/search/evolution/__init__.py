"""Evolutionary search by pymoo: `search` asks; `breeding` has the methods, `mating` makes children of whole populations, and survival that pymoo lacks is beside them."""
