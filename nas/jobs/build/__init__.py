"""Turns a job file into the objects of a run: model family, data, checkpoints and evaluators."""
