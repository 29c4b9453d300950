"""Families of networks: each folder holds one, and `registry` lists them."""
