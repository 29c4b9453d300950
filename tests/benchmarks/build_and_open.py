"""The cost of building a subnet's ONNX model and opening it in ONNX Runtime, by each exporter.

    python -m tests.benchmarks.build_and_open [--subnets 20] [--exported 3] [--seed 0]

Method. For each preset, the smallest, the largest and random subnets of a freshly initialised supernet (weights do not affect
the time). CPU time of this process (`time.process_time`), one thread, median over the subnets; each is built once, as in a
search, after one warm-up subnet (the capture of the largest network, imports):

- extracted: `lower` of an extracted module (*extract* is the time to extract it);
- legacy and dynamo: torch's two exporters of the extracted module, on `--exported` of the subnets, since they are slow.

*Open* is the creation of a session of the lowered model, CPU provider, one thread, all optimisations. All models are checked to
give the same outputs.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Annotated, TypeVar

import numpy as np
import onnxruntime
import torch
import typer
from torch import Tensor

from hardware_profiles.runtime import run_model
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.benchmarks.markdown import table_head, table_row
from tests.benchmarks.onnx_models import exported_by_torch, open_session

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
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the older exporter, which is deprecated
                models.append(timed(values, "legacy", partial(exported_by_torch, module, example, dynamo=False)))
                models.append(timed(values, "dynamo", partial(exported_by_torch, module, example, dynamo=True)))
        check(model, models, example)
    return {name: found[1:] for name, found in values.items()}


def check(model: bytes, others: list[bytes], example: Tensor) -> None:
    """Raises unless all models give the same outputs."""
    inputs = {INPUT: example.numpy()}
    (expected,) = run_model(model, inputs)
    for other in others:
        (came,) = run_model(other, inputs)
        np.testing.assert_allclose(came, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def row(preset: str, n_subnets: int, n_exported: int, seed: int) -> str:
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
    within = [ms <= 5 + 5 * millions for ms, millions in zip(values["open"], parameters, strict=True)]
    cells = (f"{median(values[name]):,.1f}" if values[name] else "-" for name in COLUMNS)
    return table_row(preset, f"{median(parameters):.2f}", *cells, f"{sum(within) / len(within):.0%}")


def main(
    subnets: Annotated[int, typer.Option(min=2, help="subnets a preset, the smallest and the largest included")] = 20,
    exported: Annotated[int, typer.Option(min=0, help="how many of them torch's exporters write, too")] = 3,
    seed: Annotated[int, typer.Option(help="of weights and subnets")] = 0,
) -> None:
    """Prints a table."""
    torch.set_num_threads(1)
    print(__doc__)
    print(f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}; CPU ms, medians over {subnets} subnets")
    print(table_head("preset", "parameters, M", *COLUMNS, "opened within 5 + 5 ms per million"))
    for preset in NETWORKS:
        print(row(preset, subnets, exported, seed), flush=True)


if __name__ == "__main__":
    typer.run(main)
