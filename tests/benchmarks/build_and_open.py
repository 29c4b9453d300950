"""The cost of building a subnet's ONNX model and opening it in ONNX Runtime, by each exporter.

    python -m tests.benchmarks.build_and_open [--subnets 20] [--exported 3] [--seed 0] [--json]

Method. For each preset, the smallest, the largest and random subnets of a freshly initialised supernet (weights do not affect
the time). CPU time of this process (`time.process_time`), one thread, median over the subnets; each is built once, as in a
search, after one warm-up subnet (the capture of the largest network, imports):

- extracted: `lower` of an extracted module (*extract* is the time to extract it);
- legacy and dynamo: torch's two exporters of the extracted module, on `--exported` of the subnets, since they are slow.

*Open* is the creation of a session of the lowered model, CPU provider, one thread, all optimisations. All models are checked to
give the same outputs.
"""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Annotated, Any, TypeVar

import numpy as np
import onnxruntime
import torch
import typer
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.spec import MOBILE_CNN
from supernets.networks.module_to_onnx import BATCH, INPUT, OPSET, OUTPUT, lower, to_onnx
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet

NETWORKS = {"tiny": (28, 1, 10), "mobile": (224, 3, 1000)}
"""Image size, channels and classes of each preset."""
COLUMNS = ("extract", "extracted", "legacy", "dynamo", "open")
T = TypeVar("T")


def timed(values: dict[str, list[float]], name: str, function: Callable[[], T]) -> T:
    """The result of a function, whose CPU milliseconds are appended to the times."""
    started = time.process_time()
    result = function()
    values[name].append(1e3 * (time.process_time() - started))
    return result


def legacy(module: nn.Module, example: Tensor) -> bytes:
    """A model by torch's deprecated exporter."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            buffer,  # type: ignore[arg-type]  # the older exporter takes a file object
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: BATCH}, OUTPUT: {0: BATCH}},
            opset_version=OPSET,
        )
    return buffer.getvalue()


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    """A session with the settings of the measuring worker, one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def measure(net: Supernet, architectures: list[Architecture], n_exported: int) -> dict[str, list[float]]:
    """CPU milliseconds by column, one per subnet; the first subnet is the warm-up and left out."""
    values: dict[str, list[float]] = {name: [] for name in COLUMNS}
    example = torch.randn(2, *net.family.example().shape[1:], generator=torch.Generator().manual_seed(0))
    for i, architecture in enumerate(architectures):
        module = timed(values, "extract", partial(net.extract, architecture))
        model = timed(values, "extracted", partial(lower, module, example))
        timed(values, "open", partial(open_session, model))
        models = []
        if i <= n_exported:
            models.append(timed(values, "legacy", partial(legacy, module, example)))
            models.append(timed(values, "dynamo", partial(to_onnx, module, example)))
        check(model, models, example)
    return {name: found[1:] for name, found in values.items()}


def check(model: bytes, others: list[bytes], example: Tensor) -> None:
    """Raises unless all models give the same outputs."""
    inputs = {INPUT: example.numpy()}
    (expected,) = run_model(model, inputs)
    for other in others:
        (came,) = run_model(other, inputs)
        np.testing.assert_allclose(came, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def row(preset: str, n_subnets: int, n_exported: int, seed: int) -> dict[str, Any]:
    """One line of the table."""
    size, channels, classes = NETWORKS[preset]
    torch.manual_seed(seed)
    family = MobileCNNFamily(MOBILE_CNN[preset], image_size=size, channels=channels, n_classes=classes)
    net = make_supernet(family).eval()
    rng = np.random.default_rng(seed)
    ends = [net.space.smallest, net.space.largest]
    chosen = [net.space.sample(rng), *ends, *(net.space.sample(rng) for _ in range(n_subnets - len(ends)))]
    with torch.no_grad():
        values = measure(net, chosen, n_exported)
    parameters = [net.cost(a).parameters / 1e6 for a in chosen[1:]]
    allowed = [5 + 5 * m for m in parameters]
    within = [ms <= limit for ms, limit in zip(values["open"], allowed, strict=True)]
    return {
        "family": family.name,
        "preset": preset,
        "subnets": n_subnets,
        "parameters_millions": median(parameters),
        **{f"{name}_ms": median(found) if found else None for name, found in values.items()},
        "opened_within_5_ms_and_5_a_million": sum(within) / len(within),
    }


def main(
    subnets: Annotated[int, typer.Option(min=2, help="subnets a preset, the smallest and the largest included")] = 20,
    exported: Annotated[int, typer.Option(min=0, help="how many of them torch's exporters write, too")] = 3,
    seed: Annotated[int, typer.Option(help="of weights and subnets")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="rows as JSON, instead of the method and a table")] = False,
) -> None:
    """Prints a table."""
    torch.set_num_threads(1)
    rows = [row(preset, subnets, exported, seed) for preset in NETWORKS]
    if as_json:
        print(json.dumps(rows))
        return
    print(__doc__)
    print(f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}; CPU ms, medians over {subnets} subnets")
    print("| preset | parameters, M | " + " | ".join(COLUMNS) + " | opened within 5 + 5 ms per million |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    for r in rows:
        cells = ("-" if r[f"{name}_ms"] is None else f"{r[f'{name}_ms']:,.1f}" for name in COLUMNS)
        share = r["opened_within_5_ms_and_5_a_million"]
        print(f"| {r['preset']} | {r['parameters_millions']:.2f} | {' | '.join(cells)} | {share:.0%} |")


if __name__ == "__main__":
    typer.run(main)
