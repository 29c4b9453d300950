"""The names of the formats of exports (no torch)."""

from __future__ import annotations

from collections.abc import Mapping

ONNX, TORCH, TRANSFORMERS, GGUF, GENAI, OPTIMUM = "onnx", "torch", "transformers", "gguf", "genai", "optimum"
FORMATS: Mapping[str, str] = {
    ONNX: "a verified ONNX file with its manifest and script",
    TORCH: "a Python file of torch's layers",
    TRANSFORMERS: "a folder of the transformers library",
    GGUF: "a folder with GGUF files for llama.cpp",
    GENAI: "a folder for ONNX Runtime GenAI",
    OPTIMUM: "a folder for optimum's ORTModelForCausalLM",
}
"""What each format is, by its name."""
FOLDERS = (TRANSFORMERS, GGUF, GENAI, OPTIMUM)
"""Formats that are folders with a model card."""
