"""Folders of the transformers library: encoders of sentences and images, and language models."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import ExportFailedError
from nas.jobs.evaluation.parity import MAX_PARITY
from nas.results.export.formats.folder_format import ExportedNetwork, WrittenFolder, check_tokens, usage_of_texts
from supernets.data import BlockFormat, PairFormat
from supernets.errors import ExportError
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.reading_back import read_back
from supernets.families.decoder.writing import HETEROGENEOUS, MODELLING, LibraryNetwork, write_decoder
from supernets.families.encoder.bert_pretrained import read_bert, write_bert
from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.shared.pretrained_transformer import renumbered
from supernets.families.vision_transformer.vision_transformer_family import ViTEncoderFamily
from supernets.families.vision_transformer.vit_pretrained import read_vit, write_vit
from supernets.networks.capture.transformers_folder import quiet_library
from supernets.networks.family_program import outline
from supernets.sharing.base import Family
from supernets.space import Architecture

ROUNDING = 1e-5
"""Largest accepted difference, as a share of the largest output: sums over weights at other addresses may be reordered."""


class TransformersFolder:
    """What ``from_pretrained`` of the library's classes loads."""

    name = "transformers"
    keeps_precision = False
    part: str | None = None

    def write(self, folder: Path, network: ExportedNetwork) -> WrittenFolder:
        family, architecture, data = network.family, network.architecture, network.data
        weights, class_names = network.module.state_dict(), data.class_names
        match family:
            case DecoderFamily() if isinstance(data.format, BlockFormat) and not isinstance(data.format, PairFormat):
                return self._write_language_model(folder, network, family, data.format)
            case EncoderFamily():
                tokenizer = data.sentences.tokenizer
                write_bert(folder, family, architecture, weights, class_names=class_names, tokenizer=tokenizer)
                tensors, loader = read_bert(folder).tensors, "AutoModelForSequenceClassification"
            case ViTEncoderFamily():
                images = data.images
                write_vit(
                    folder, family, architecture, weights, class_names=class_names, mean=images.mean, std=images.std
                )
                tensors, loader = read_vit(folder).tensors, "AutoModelForImageClassification"
            case _:
                names = (EncoderFamily.name, ViTEncoderFamily.name, DecoderFamily.name)
                available = f"{', '.join(names[:-1])} and {names[-1]}, and this one is of {family.name}"
                raise ExportError(f"the transformers library has networks of the families {available}; export ONNX")
        tensors = renumbered(tensors, dict(enumerate(family.layer_numbers(architecture))))
        copy = _loaded(family, architecture, tensors)
        read_weights = copy.state_dict()
        same = all(torch.equal(tensor, read_weights[name]) for name, tensor in weights.items())
        parity = _parity(copy, network.module, data.validation.inputs[:8])
        if not (same and parity <= ROUNDING):
            raise _differs(network)
        usage = f"from transformers import {loader}\nnetwork = {loader}.from_pretrained({{path!r}})"
        return WrittenFolder(f"{loader}.from_pretrained({{path!r}})", usage, {"parity": parity}, "fp32")

    def _write_language_model(
        self, folder: Path, network: ExportedNetwork, family: DecoderFamily, format: BlockFormat
    ) -> WrittenFolder:
        written = write_decoder(folder, family, network.architecture, network.module.state_dict(), **texts_of(format))
        copy = read_back(folder, family, network.architecture, network.module)
        parity = _parity(copy, network.module, network.data.validation.inputs[:1])
        if not parity <= ROUNDING:
            raise _differs(network)
        differ = MODELLING in written.texts
        checks = {"parity": parity, **_checked_by_library(folder, network, written)}
        trust = ", trust_remote_code=True" if differ else ""
        loader = f"AutoModelForCausalLM.from_pretrained({{path!r}}{trust})"
        usage = usage_of_texts("transformers", loader, family.positions)
        remark = (
            f"Its layers differ: `per_layer_config` in config.json states their sizes, and {MODELLING} makes them of the "
            "library's own layers, which is why `trust_remote_code` is needed."
        )
        return WrittenFolder(loader, usage, checks, "fp32", [remark] if differ else [])


def texts_of(format: BlockFormat) -> dict[str, Any]:
    """Arguments of `library_network` that describe how texts become tokens."""
    return {
        "tokenizer": format.tokenizer,
        "separator": format.separator,
        "separator_token": format.separator_token,
    }


def _differs(network: ExportedNetwork) -> ExportFailedError:
    message = f"{network.name}: the network read back gives other outputs than the one written"
    return ExportFailedError(message, code="export.outputs-differ")


@torch.no_grad()
def _parity(copy: nn.Module, network: nn.Module, examples: Tensor) -> float:
    """The largest difference of outputs, as a share of the largest output; NaN where one is."""
    outputs, expected = (module.eval()(examples) for module in (copy, network))
    return float((outputs - expected).abs().max() / expected.abs().max())


def _loaded(family: Family, network: Architecture, tensors: Mapping[str, Tensor]) -> nn.Module:
    return family.standalone(outline(family), network, tensors)


@torch.no_grad()
def _checked_by_library(folder: Path, network: ExportedNetwork, written: LibraryNetwork) -> dict[str, Any]:
    """Compares logits and greedy tokens of the library, with its cache, where it is installed; returns what was found.

    The file that makes layers that differ is imported as it is: the library would keep a copy of it.
    """
    if importlib.util.find_spec("transformers") is None:
        return {}
    import transformers

    expected = network.continuation
    prompt = torch.from_numpy(expected.prompt)
    loader: Any = transformers.AutoModelForCausalLM
    if MODELLING in written.texts:
        namespace: dict[str, Any] = {"__name__": MODELLING}
        exec(compile(written.texts[MODELLING], str(folder / MODELLING), "exec"), namespace)
        loader = namespace[HETEROGENEOUS]
    with quiet_library(transformers):
        model = loader.from_pretrained(folder).eval()
        logits, wanted = model(prompt).logits[:, -1], expected.logits[0]
        tokens = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=len(expected.logits),
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0, prompt.shape[1] :].tolist()
    if not (logits - wanted).abs().max() <= ROUNDING * wanted.abs().max():
        raise _differs(network)
    version = importlib.metadata.version("transformers")
    n = check_tokens(tokens, expected, largest_gap=MAX_PARITY, loader=f"transformers {version}")
    return {"checked_by": f"transformers {version}", "same_tokens": n}
