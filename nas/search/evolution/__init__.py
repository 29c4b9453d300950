"""Evolutionary search by pymoo: `search` asks by one of `breeding`'s methods; what pymoo lacks is beside them."""
