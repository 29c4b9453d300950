"""Predictor-guided search: `search` asks; models, candidates and the choice among them are its parts."""
