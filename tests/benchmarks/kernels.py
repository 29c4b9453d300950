"""The kernels that ONNX Runtime runs for ten models, and their latency, by the way in which a model becomes ONNX.

    python -m tests.benchmarks.kernels [--model bert_tiny] [--rounds 25] [--tokens 32] [--types]

Needs torchvision, timm, transformers and onnxscript (`pip install torchvision timm transformers onnxscript`); nothing is
downloaded, so weights are random.

Method. Each model becomes ONNX, with a dynamic batch and texts of a fixed length, in these ways:

- ours: the captured program of the module, as `lower` writes it;
- dynamo and trace: both exporters of torch (`dynamo=True`, `dynamo=False`), same opset;
- ours+opt, dynamo+opt and trace+opt: these models after `onnxruntime.transformers.optimizer`, with the model type that the
  list of the benchmark states. It is for transformers, so that convolutional networks go without.

*Kernels* are the nodes of the graph that ONNX Runtime's session runs, as the session saves it: the CPU provider, all graph
optimisations. A model whose outputs differ from torch's by more than 1e-4 of the largest output is no baseline. The *best* is
the one with the fewest kernels, of the ways that are not ours. *More than the best* has the kinds of which ours has more
kernels than the best. Types are of one kind where they do the same work:

- Reshape: Flatten, Squeeze and Unsqueeze, too, none of which computes;
- MatMul: FusedMatMul, which also scales or transposes;
- ReduceMean: GlobalAveragePool;
- LayerNormalization: SkipLayerNormalization, which also adds; the same of SimplifiedLayerNormalization.

Latency: one thread, a batch of one; sessions run in turns, in rounds that begin with another session each time. Of a round,
the minimum of its calls (at least three calls and 20 ms); of the rounds, the median. *Way / ours* is the median, over rounds,
of the time of a way divided by ours in the same round: above 1, ours is faster. *Noise* is the same ratio for a second session
of our model (A/A), with the 10 % and 90 % quantiles of its rounds.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import onnxruntime
import torch
import typer
from numpy.typing import NDArray
from onnxruntime.transformers import optimizer
from torch import Tensor, nn

from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.specialisation import specialised
from supernets.networks.capture.tracing import capture
from supernets.networks.module_to_onnx import lower
from supernets.networks.network import Network
from tests.benchmarks.markdown import table_head, table_row
from tests.benchmarks.onnx_models import exported_by_torch, open_session

OURS, REPEATED = "ours", "ours again"
TOLERANCE = 1e-4
"""Of the largest output: single precision after the reordered sums of a whole network."""
N_CALLS, ROUND_S = 3, 0.02
"""A round has at least this number of calls, and lasts at least this time."""
QUANTILES = (0.1, 0.9)
DECODER = {
    "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 688,
    "vocab_size": 1000, "use_cache": False, "pad_token_id": 0,
}  # fmt: skip
BERT = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 1000,
}
KINDS = {
    "Flatten": "Reshape", "Squeeze": "Reshape", "Unsqueeze": "Reshape", "FusedMatMul": "MatMul",
    "GlobalAveragePool": "ReduceMean",
    "SkipLayerNormalization": "LayerNormalization", "SkipSimplifiedLayerNormalization": "SimplifiedLayerNormalization",
}  # fmt: skip
"""Kinds of types that do the same work as another one."""
OTHERS = ("dynamo", "trace", "dynamo+opt", "trace+opt")
OPTIMISED = f"{OURS}+opt"
WAYS = (OURS, *OTHERS, OPTIMISED)
Build = Callable[[], nn.Module]


class States(nn.Module):
    """The last hidden states of a transformer by its token ids."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=ids)[0]
        return states


@dataclass(frozen=True)
class Case:
    """A model of the benchmark.

    Attributes:
        tokens: number of tokens of a text, or 0 for images; negative: the number that the command line states.
        model_type: of ONNX Runtime's transformer optimiser, with its heads and width; "" for networks that are none.
    """

    build: Build
    tokens: int = 0
    model_type: str = ""
    n_heads: int = 0
    width: int = 0


@dataclass
class Measurement:
    """What is known of one way of export of one model.

    Attributes:
        kernels: by type; of a failed export empty.
        difference: of the outputs from torch's, relative to the largest output.
        times: milliseconds, by round.
        error: why there is no model; "" if there is one.
    """

    kernels: Counter[str] = field(default_factory=Counter)
    difference: float = 0.0
    times: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the model computes what torch computes."""
        return not self.error and self.difference <= TOLERANCE


def vision_model(library: str, constructor: str, name: str) -> Build:
    """A constructor of a model of a library of images with random weights."""
    return lambda: getattr(importlib.import_module(library), constructor)(name)


def text_model(name: str, options: Mapping[str, Any]) -> Build:
    """A constructor of a model of transformers with random weights."""

    def build() -> nn.Module:
        library = importlib.import_module("transformers")
        return States(getattr(library, f"{name}Model")(getattr(library, f"{name}Config")(**options)))

    return build


torchvision_model = partial(vision_model, "torchvision.models", "get_model")
timm_model = partial(vision_model, "timm", "create_model")
_LLAMA, _QWEN = text_model("Llama", DECODER), text_model("Qwen3", {**DECODER, "head_dim": 32})
CASES: Mapping[str, Case] = {
    "resnet18": Case(torchvision_model("resnet18")),
    "mobilenet_v3_small": Case(torchvision_model("mobilenet_v3_small")),
    "efficientnet_b0": Case(torchvision_model("efficientnet_b0")),
    "convnext_tiny": Case(torchvision_model("convnext_tiny")),
    "vit_tiny": Case(timm_model("vit_tiny_patch16_224"), 0, "vit", 3, 192),
    "swin_tiny": Case(torchvision_model("swin_t"), 0, "swin"),
    "mixer_s32": Case(timm_model("mixer_s32_224"), 0, "vit"),
    "bert_tiny": Case(text_model("Bert", BERT), -1, "bert", 2, 128),
    "llama_1_token": Case(_LLAMA, 1, "qwen3", 8, 256),
    "llama_prompt": Case(_LLAMA, -1, "qwen3", 8, 256),
    "qwen3_1_token": Case(_QWEN, 1, "qwen3", 8, 256),
    "qwen3_prompt": Case(_QWEN, -1, "qwen3", 8, 256),
}


def randomise(model: nn.Module) -> None:
    """Makes outputs depend on all tensors: fresh norms, biases and layer scales are constants, which exporters could drop."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim == 1 or not tensor.any():
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.05)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)


def inputs_of(case: Case, n: int, tokens: int) -> Tensor:
    """Random images or token ids, n of them."""
    generator = torch.Generator().manual_seed(n)
    if not case.tokens:
        return torch.randn(n, 3, 224, 224, generator=generator)
    return torch.randint(1, 1000, (n, case.tokens if case.tokens > 0 else tokens), generator=generator)


def captured(module: nn.Module, example: Tensor) -> bytes:
    """Our model: by `lower`; of texts by the program with their length, since attention of transformers fixes it."""
    if example.is_floating_point():
        return lower(module, example)
    program = capture(module, [example])
    elastic = infer_axes(program.program)
    return Network(specialised(elastic, elastic.full_sizes), program.tensors).onnx()


def optimised(model: bytes, case: Case) -> bytes:
    """The model after ONNX Runtime's transformer optimiser."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model)
        better = optimizer.optimize_model(str(path), case.model_type, num_heads=case.n_heads, hidden_size=case.width)
        return bytes(better.model.SerializeToString())


@contextmanager
def silenced() -> Iterator[None]:
    """Without output of this process, C++ included: exporters print whole graphs where they fail."""
    saved = [os.dup(stream) for stream in (1, 2)]
    with open(os.devnull, "w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stdout.flush()
        for stream in (1, 2):
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            sys.stdout.flush()
            for stream, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, stream)
                os.close(copy)


def models_of(case: Case, module: nn.Module, example: Tensor) -> tuple[dict[str, bytes], dict[str, str]]:
    """The models by way of export, and the errors of those that there are none of."""
    models: dict[str, bytes] = {}
    errors: dict[str, str] = {}

    def add(way: str, build: Callable[[], bytes]) -> None:
        try:
            with silenced():
                models[way] = build()
        except Exception as error:  # a row states why
            errors[way] = f"{type(error).__name__}: {str(error).splitlines()[0][:80]}"

    add(OURS, lambda: captured(module, example))
    add("dynamo", lambda: exported_by_torch(module, example, dynamo=True))
    add("trace", lambda: exported_by_torch(module, example, dynamo=False))
    for source in (OURS, "dynamo", "trace") if case.model_type else ():
        if source in models:
            add(f"{source}+opt", lambda source=source: optimised(models[source], case))  # type: ignore[misc]
    return models, errors


def kernels_of(model: bytes) -> Counter[str]:
    """The nodes, by type, of the graph that a session of the model runs; those of subgraphs, too."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        open_session(model, path)
        return _counted(onnx.load(path).graph)


def _counted(graph: onnx.GraphProto) -> Counter[str]:
    counts: Counter[str] = Counter(node.op_type for node in graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                counts += _counted(attribute.g)
    return counts


def run(session: onnxruntime.InferenceSession, x: Tensor) -> NDArray[np.float32]:
    """The first output of a session."""
    name = session.get_inputs()[0].name
    out: NDArray[np.float32] = session.run(None, {name: x.numpy()})[0]
    return out


def time_rounds(sessions: Mapping[str, onnxruntime.InferenceSession], x: Tensor, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each round, by name: sessions run in turns, of a round the fastest call."""
    order, times = list(sessions), {name: list[float]() for name in sessions}
    for session in sessions.values():
        run(session, x)
    for i in range(rounds):
        first = i % len(order)
        for name in (*order[first:], *order[:first]):
            calls: list[float] = []
            while len(calls) < N_CALLS or sum(calls) < ROUND_S:
                started = time.perf_counter()
                run(sessions[name], x)
                calls.append(time.perf_counter() - started)
            times[name].append(1e3 * min(calls))
    return times


@torch.no_grad()
def measure(case: Case, *, tokens: int, rounds: int) -> dict[str, Measurement]:
    """Kernels, agreement and latency of one model by way of export, and of our model once more."""
    torch.manual_seed(0)
    module = case.build().eval()
    randomise(module)
    models, errors = models_of(case, module, inputs_of(case, 2, tokens))
    rows = {way: Measurement(error=error) for way, error in errors.items()}
    sessions = {}
    for way, model in models.items():
        try:
            sessions[way] = open_session(model)
            row = rows[way] = Measurement(kernels_of(model))
            for n in (1, 3):
                x = inputs_of(case, n, tokens)
                expected = module(x).numpy()
                gap = np.abs(run(sessions[way], x) - expected).max() / np.abs(expected).max()
                row.difference = max(row.difference, float(gap))
        except Exception as error:  # a row states why
            sessions.pop(way, None)
            rows[way] = Measurement(error=f"{type(error).__name__}: {str(error).splitlines()[0][:80]}")
    if rounds and OURS in sessions:
        sessions[REPEATED] = open_session(models[OURS])
        rows[REPEATED] = Measurement(rows[OURS].kernels, rows[OURS].difference)
        for way, times in time_rounds(sessions, inputs_of(case, 1, tokens), rounds).items():
            rows[way].times = times
    return rows


def best_of(rows: Mapping[str, Measurement]) -> str:
    """The way with the fewest kernels, of those that agree with torch and are not ours; "" if there is none."""
    others = {way: rows[way] for way in OTHERS if way in rows and rows[way].agrees}
    return min(others, key=lambda way: others[way].kernels.total(), default="")


def excess(kernels: Counter[str], others: Counter[str]) -> str:
    """The kinds of which there are more kernels than others, as text."""
    ours, theirs = by_kind(kernels), by_kind(others)
    return ", ".join(f"{kind} {n} > {theirs[kind]}" for kind, n in sorted(ours.items()) if n > theirs[kind]) or "–"


def by_kind(kernels: Counter[str]) -> Counter[str]:
    """The numbers of kernels by kind of work."""
    counts: Counter[str] = Counter()
    for kind, n in kernels.items():
        counts[KINDS.get(kind, kind)] += n
    return counts


def ratio(times: Sequence[float], base: Sequence[float]) -> NDArray[np.float64]:
    """The median, and the lower and upper quantile, of the ratios of the rounds."""
    ratios = np.array(times) / np.array(base)
    return np.asarray(np.quantile(ratios, [0.5, *QUANTILES]))


def as_row(name: str, rows: Mapping[str, Measurement]) -> str:
    """A line of the table."""
    ours, best = rows[OURS], best_of(rows)
    if ours.error:
        return table_row(name, ours.error)
    cells = [name]
    for way in WAYS:
        row = rows.get(way)
        total = "–" if row is None else "fails" if row.error else str(row.kernels.total())
        cells.append(total if row is None or row.error or row.agrees else f"{total} (differs)")
    cells += [best, excess(ours.kernels, rows[best].kernels) if best else "–", f"{ours.difference:.0e}"]
    if ours.times:
        cells.append(f"{np.median(ours.times):.2f}")
        for way in (*OTHERS, OPTIMISED):
            timed = rows.get(way)
            cells.append(f"{ratio(timed.times, ours.times)[0]:.2f}" if timed and timed.times else "–")
        middle, lower_end, upper_end = ratio(rows[REPEATED].times, ours.times)
        cells.append(f"{middle:.2f} ({lower_end:.2f} to {upper_end:.2f})")
    return table_row(*cells)


HEAD = ("model", *WAYS, "best", "ours has more than the best", "difference")
TIMES = ("ours, ms", *(f"{way} / ours" for way in (*OTHERS, OPTIMISED)), "noise (A/A)")


def print_types(rows: Mapping[str, Measurement]) -> None:
    """Prints the kernels of each way by type."""
    for way, row in rows.items():
        if way != REPEATED:
            text = ", ".join(f"{kind} {n}" for kind, n in sorted(row.kernels.items()))
            print(f"    {way}: {row.error or f'{row.kernels.total()} ({text}); differs by {row.difference:.0e}'}")


def main(
    model: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(CASES)}; else all")] = None,
    rounds: Annotated[int, typer.Option(help="of latency; 0 for kernels alone")] = 25,
    tokens: Annotated[int, typer.Option(help="of a prompt and of a text")] = 32,
    types: Annotated[bool, typer.Option(help="print all kernels by type")] = False,
) -> None:
    """Counts and times the kernels of each model, and prints each."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # of the exporters and of the optimiser
    for name in model or CASES:
        if name not in CASES:
            raise typer.BadParameter(f"unknown model {name!r}; expected one of {', '.join(CASES)}")
    print(table_head(*HEAD, *(TIMES if rounds else ())))
    for name in model or CASES:
        rows = measure(CASES[name], tokens=tokens, rounds=rounds)
        print(as_row(name, rows), flush=True)
        if types:
            print_types(rows)


if __name__ == "__main__":
    typer.run(main)
