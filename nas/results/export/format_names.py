"""The names of the formats of exports (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

FormatName = Literal["onnx", "torch", "transformers", "gguf", "genai", "optimum"]
ONNX: FormatName = "onnx"
TORCH: FormatName = "torch"
TRANSFORMERS: FormatName = "transformers"
FORMATS: Mapping[FormatName, str] = {
    ONNX: "a verified ONNX file with its manifest and script",
    TORCH: "a Python file of torch's layers",
    TRANSFORMERS: "a folder of the transformers library",
    "gguf": "a folder with GGUF files for llama.cpp",
    "genai": "a folder for ONNX Runtime GenAI",
    "optimum": "a folder for optimum's ORTModelForCausalLM",
}
"""What each format is, by its name."""
FOLDERS: tuple[FormatName, ...] = (TRANSFORMERS, "gguf", "genai", "optimum")
"""Formats that are folders with a model card."""
LANGUAGE_FOLDERS = FOLDERS[1:]
"""Those of language models alone."""
