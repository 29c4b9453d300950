"""Folders with one ONNX graph of a language model: for ONNX Runtime GenAI, and for optimum's ORTModelForCausalLM."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hardware_profiles.errors import ModelError
from nas.engine.process_memory import release_free_memory
from nas.errors import ExportFailedError
from nas.jobs.evaluation.parity import MAX_PARITY
from nas.jobs.evaluation.scoring import in_precision
from nas.results.export.formats.folder_format import ExportedNetwork, WrittenFolder, check_tokens, usage_of_texts
from nas.results.export.formats.transformers_folder import texts_of
from nas.results.export.scripts.reading import session_of
from nas.results.export.served_models import Continuation
from supernets.data import BlockFormat
from supernets.errors import ExportError
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.library_graph import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    PAST,
    POSITION_IDS,
    PRESENT,
    lower_library_graph,
)
from supernets.families.decoder.writing import library_network
from supernets.files import write_atomically
from supernets.networks.formats.pretrained import CONFIG

_MODEL = "model.onnx"


@dataclass(frozen=True, slots=True)
class _Graph:
    """A written graph.

    Attributes:
        settings: The network's ``config.json`` in a folder of the transformers library.
        session: Session of the graph.
        continuation: Texts that it continued greedily.
        checks: Results of its checks.
    """

    settings: Mapping[str, Any]
    session: Any
    continuation: Continuation
    checks: Mapping[str, Any]

    @property
    def cache_shape(self) -> tuple[int, int, int]:
        """The numbers of layers with a cache, of its heads, and of channels of a head."""
        caches = [entry for entry in self.session.get_inputs() if entry.name.startswith(PAST)]
        return len(caches) // 2, int(caches[0].shape[1]), int(caches[0].shape[3])


class GenAIFolder:
    """What ``onnxruntime_genai.Model`` loads."""

    name = "genai"
    keeps_precision = True
    part: str | None = None

    def write(self, folder: Path, network: ExportedNetwork) -> WrittenFolder:
        family, format = network.language_model("ONNX Runtime GenAI")
        graph = _write_graph(folder, network, family, format)
        layers, heads, size = graph.cache_shape
        inputs = {"input_ids": INPUT_IDS, "attention_mask": ATTENTION_MASK}
        decoder = {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": _MODEL,
            "head_size": size,
            "hidden_size": graph.settings.get("hidden_size", graph.settings.get("n_embd")),
            "num_attention_heads": graph.settings.get("num_attention_heads", graph.settings.get("n_head")),
            "num_hidden_layers": layers,
            "num_key_value_heads": heads,
            "inputs": {**inputs, "past_key_names": f"{PAST}.%d.key", "past_value_names": f"{PAST}.%d.value"},
            "outputs": {
                "logits": LOGITS,
                "present_key_names": f"{PRESENT}.%d.key",
                "present_value_names": f"{PRESENT}.%d.value",
            },
        }
        config = {
            "model": {
                "type": "llama",  # of which the graph has what matters
                "bos_token_id": format.separator,
                "eos_token_id": format.separator,
                "pad_token_id": _padding_token(format),
                "context_length": family.positions,
                "vocab_size": family.vocabulary,
                "decoder": decoder,
            },
            "search": {
                "max_length": family.positions,
                "do_sample": False,
                "num_beams": 1,
                "past_present_share_buffer": False,
            },
        }
        write_atomically(folder / "genai_config.json", json.dumps(config, indent=2).encode())
        checks = {**graph.checks, **self._checked_by_library(folder, graph.continuation, family.positions)}
        usage = (
            "import onnxruntime_genai as og\n"
            "model = og.Model({path!r})\ntokenizer = og.Tokenizer(model)\n"
            "parameters = og.GeneratorParams(model)\n"
            f"parameters.set_search_options(max_length={min(128, family.positions)})\n"
            "generator = og.Generator(model, parameters)\n"
            f'generator.append_tokens([{format.separator}, *tokenizer.encode("Once upon a time")])\n'
            "while not generator.is_done():\n    generator.generate_next_token()\n"
            "print(tokenizer.decode(generator.get_sequence(0)))"
        )
        loader = "onnxruntime_genai.Model({path!r})"
        return WrittenFolder(loader, usage, checks, network.precision, library="onnxruntime-genai")

    def _checked_by_library(self, folder: Path, expected: Continuation, positions: int) -> dict[str, Any]:
        """Compares greedy tokens of the library, where it is installed; returns what was found."""
        if importlib.util.find_spec("onnxruntime_genai") is None:
            return {}
        import onnxruntime_genai as og

        model, length = og.Model(str(folder)), expected.prompt.shape[1]
        n = min(len(expected.logits), positions - length)
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(max_length=length + n, do_sample=False)
        generator = og.Generator(model, parameters)
        generator.append_tokens(expected.prompt.astype(np.int32))
        tokens: list[int] = []
        while len(tokens) < n and not generator.is_done():
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
        name = f"onnxruntime-genai {importlib.metadata.version('onnxruntime-genai')}"
        same = check_tokens(tokens, expected, largest_gap=MAX_PARITY, loader=name)
        return {"checked_by": name, "same_tokens": same}


class OptimumFolder:
    """What optimum's ``ORTModelForCausalLM.from_pretrained`` loads."""

    name = "optimum"
    keeps_precision = True
    part: str | None = None

    def write(self, folder: Path, network: ExportedNetwork) -> WrittenFolder:
        family, format = network.language_model("optimum")
        graph = _write_graph(folder, network, family, format, has_positions=True)
        settings = {key: value for key, value in graph.settings.items() if key not in ("auto_map", "per_layer_config")}
        if settings["model_type"] not in _HEAD_SIZES_READ and "num_attention_heads" in settings:
            # optimum divides the width by the heads to find the channels of a head in the cache.
            _, _, size = graph.cache_shape
            settings["num_attention_heads"] = heads = settings["hidden_size"] // size
            if heads < 1 or settings["hidden_size"] // heads != size:
                raise ExportError(
                    f"optimum divides the width of a network among its heads, and this network has heads of {size} channels "
                    f"in a width of {settings['hidden_size']}; export the format genai"
                )
        write_atomically(folder / CONFIG, json.dumps(settings, indent=2).encode())
        loader = "ORTModelForCausalLM.from_pretrained({path!r})"
        usage = usage_of_texts("optimum.onnxruntime", loader, family.positions)
        remark = "The sizes in config.json are those that optimum makes the cache of; the graph has the network's own."
        return WrittenFolder(loader, usage, graph.checks, network.precision, [remark], library="optimum")


_HEAD_SIZES_READ = ("gemma",)
"""Kinds of networks of which optimum reads ``head_dim``."""


def _padding_token(format: BlockFormat) -> int:
    """A token that no text begins with: GenAI takes it for padding wherever it stands."""
    return format.vocabulary - 1 if format.separator != format.vocabulary - 1 else format.vocabulary - 2


def _write_graph(
    folder: Path, network: ExportedNetwork, family: DecoderFamily, format: BlockFormat, *, has_positions: bool = False
) -> _Graph:
    """Writes the graph in the network's precision with the tokenizer, compared with torch and, in fp32, itself.

    Args:
        folder, network: Where to, and what.
        family, format: Its family and preprocessing.
        has_positions: Whether the graph has the input `POSITION_IDS`, too.
    """
    settings_and_texts = library_network(family, network.architecture, network.module.state_dict(), **texts_of(format))
    path, module = folder / _MODEL, network.module
    expected = network.continuation
    model = lower_library_graph(module, has_positions=has_positions)  # type: ignore[arg-type]  # a Decoder, as the family's networks are
    write_atomically(path, model)
    session = _session(path)
    continuation, parity = _continued(session, expected)
    if not parity <= MAX_PARITY:
        message = f"differ from torch's by {parity:.2g} of their deviation (at most {MAX_PARITY:g})"
        raise ExportFailedError(f"{network.name}: the graph's outputs {message}", code="export.outputs-differ")
    checks: dict[str, Any] = {"parity": parity}
    if network.precision != "fp32":
        del session
        write_atomically(path, in_precision(model, network.precision, network.calibration, network.task))
        session = _session(path)
        same, _ = _continued(session, expected)
        checks["agreement"] = float(
            np.mean([a.argmax() == b.argmax() for a, b in zip(same.logits, expected.logits, strict=True)])
        )
        continuation, _ = _continued(
            session, Continuation(expected.source, expected.prompt, []), n=len(expected.logits)
        )
    del model
    release_free_memory()
    for name, text in settings_and_texts.texts.items():
        if not name.endswith(".py"):
            write_atomically(folder / name, text.encode())
    return _Graph(settings_and_texts.settings, session, continuation, checks)


def _session(path: Path) -> Any:
    try:
        return session_of(str(path))
    except Exception as error:  # the exceptions of the runtime share no base class
        raise ModelError(f"onnxruntime rejects the model: {error}", code="model.rejected") from error


def _continued(session: Any, expected: Continuation, *, n: int | None = None) -> tuple[Continuation, float]:
    """The logits of a graph while it reads a prompt and then token by token, and their largest difference from those expected,
    over the deviation of these.

    Args:
        session: Session of the graph.
        expected: What is read: the prompt, and then the likeliest tokens of each logits.
        n: Number of tokens to continue the prompt by with the graph's own likeliest ones instead; None for the expected ones.
    """
    inputs, outputs = session.get_inputs(), [entry.name for entry in session.get_outputs()]
    ids, past, logits, worst = expected.prompt, dict[str, NDArray[Any]](), list[torch.Tensor](), 0.0
    past = {
        entry.name: np.zeros((len(ids), entry.shape[1], 0, entry.shape[3]), np.float32)
        for entry in inputs
        if entry.name.startswith(PAST)
    }
    n_read = 0
    for step in range(len(expected.logits) if n is None else n):
        n_read += ids.shape[1]
        mask = np.ones((len(ids), n_read), np.int64)
        given = {INPUT_IDS: ids, ATTENTION_MASK: mask, **past}
        if any(entry.name == POSITION_IDS for entry in inputs):
            given[POSITION_IDS] = np.broadcast_to(np.arange(n_read - ids.shape[1], n_read), ids.shape)
        answered = dict(zip(outputs, session.run(None, given), strict=True))
        past = {name: answered[name.replace(PAST, PRESENT)] for name in past}
        logits.append(torch.from_numpy(answered[LOGITS][:, -1]))
        if n is None:
            wanted = expected.logits[step]
            worst = max(worst, float((logits[-1] - wanted).abs().max() / wanted.std()))
        ids = (logits[-1] if n is not None else expected.logits[step]).argmax(1, keepdim=True).numpy()
    return Continuation(expected.source, expected.prompt, logits), worst
