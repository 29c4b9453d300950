"""Exports of a run: networks as ONNX or for the transformers library, and its search as an Optuna study."""
