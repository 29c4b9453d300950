"""All formats of exports that are folders, by name."""

from __future__ import annotations

from collections.abc import Mapping

from nas.results.export.formats.folder_format import FolderFormat
from nas.results.export.formats.gguf_folder import GGUFFolder
from nas.results.export.formats.onnx_folders import GenAIFolder, OptimumFolder
from nas.results.export.formats.transformers_folder import TransformersFolder

FOLDER_FORMATS: Mapping[str, FolderFormat] = {
    format.name: format for format in (TransformersFolder(), GGUFFolder(), GenAIFolder(), OptimumFolder())
}
