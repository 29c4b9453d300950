"""Conversion of models to 8-bit and 16-bit precisions."""
