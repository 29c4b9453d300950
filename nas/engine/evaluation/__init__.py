"""Evaluators: requests in, measurements out; they wrap each other."""
