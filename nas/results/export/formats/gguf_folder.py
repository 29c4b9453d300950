"""Folders with GGUF files of a language model, which llama.cpp loads: in half precision, and in blocks of 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch

from nas.errors import ExportFailedError
from nas.results.export.formats.folder_format import ExportedNetwork, WrittenFolder
from nas.results.export.formats.transformers_folder import texts_of
from supernets.families.decoder.reading_back import read_back
from supernets.families.decoder.writing import library_network
from supernets.networks.formats.gguf_writing import Quantisation, check_writable, write_gguf

_LARGEST_ERROR = {"F16": 2.0**-11, "Q8_0": 1.01 * (1 / 254 + 2.0**-11)}
"""Largest errors of a weight, as shares of the largest weight of its tensor: half of the last bit, or of a step of 1/127, with
that of the scale, in half precision."""
_SMALLEST_HALF = 2.0**-24


class GGUFFolder:
    """Files of all types, with the tokenizer inside."""

    name = "gguf"
    keeps_precision = False
    part: str | None = "gguf"

    def write(self, folder: Path, network: ExportedNetwork) -> WrittenFolder:
        family, format = network.language_model("GGUF")
        written = library_network(family, network.architecture, network.module.state_dict(), **texts_of(format))
        architecture = check_writable(written.settings)
        facts = {"name": network.name, "description": f"a network of the run {network.run}"}
        if network.license is not None:
            facts["license"] = network.license
        checks: dict[str, Any] = {"architecture": architecture}
        for quantisation in get_args(Quantisation):
            path = folder / f"{network.name}-{quantisation}.gguf"
            write_gguf(
                path, written.settings, written.tensors, format.tokenizer, quantisation=quantisation, facts=facts
            )
            checks[quantisation] = self._checked(path, network, quantisation)
        file = f"{network.name}-Q8_0.gguf"
        loader = f"llama-cli -m {{path}}/{file}"
        usage = (
            "from llama_cpp import Llama\n"
            f'network = Llama({{path!r}} + "/{file}")\nprint(network("Once upon a time", max_tokens=64, temperature=0))'
        )
        remarks = ["llama.cpp begins each prompt with the separator of the training's documents, as the file says."]
        if architecture == "deci":
            remarks.append(
                "Its layers differ, which files of the architecture `deci` may: llama.cpp reads them since 2025."
            )
        if architecture == "phi3" and (window := written.settings["sliding_window"]) is not None:
            remarks.append(f"llama.cpp ignores the windows of Phi-3: after {window} tokens it attends to more of them.")
        return WrittenFolder(loader, usage, checks, "F16 and Q8_0", remarks, library="llama.cpp")

    @torch.no_grad()
    def _checked(self, path: Path, network: ExportedNetwork, quantisation: str) -> dict[str, float]:
        """The share of tokens that the file's network finds as likely, and the largest difference of its logits, as a share of
        their deviation; raises `ExportFailedError` if a weight is another one."""
        family, _ = network.language_model("GGUF")
        copy = read_back(path, family, network.architecture, network.module).eval()
        read_tensors = copy.state_dict()
        for name, tensor in network.module.state_dict().items():
            bound = _LARGEST_ERROR[quantisation] * tensor.abs().max() + _SMALLEST_HALF
            if not (read_tensors[name] - tensor).abs().max() <= bound:
                message = f"{path.name}: the tensor {name} read back is another one than was written"
                raise ExportFailedError(message, code="export.outputs-differ")
        examples = network.data.validation.inputs[:1]
        outputs, expected = copy(examples), network.module(examples)
        same = (outputs.argmax(-1) == expected.argmax(-1)).float().mean()
        return {"agreement": float(same), "difference": float((outputs - expected).abs().max() / expected.std())}
