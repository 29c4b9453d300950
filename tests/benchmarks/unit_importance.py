"""Orders of the units of trained models, by the accuracy of uniformly narrower networks that are corrected without training.

    python -m tests.benchmarks.unit_importance ORIGINALS [--model resnet20 ...]

Units are sorted by the norms of the weights that read them, by Taylor importance, or by elimination on activations; then
networks of one width for all layers are extracted as they are, and corrected on 512 training images without labels. Test
accuracy.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from supernets.sharing.base import Supernet
from supernets.sharing.removal import removal_importance
from supernets.sharing.sorting import importance, orders
from supernets.space import Architecture
from supernets.training.recalibration import Extraction
from tests.benchmarks.any_model_value import trained
from tests.benchmarks.any_model_value_methods import sort_by_taylor
from tests.benchmarks.any_model_value_tasks import ValueTask, task
from tests.benchmarks.any_model_value_training import WHOLE, Lesson, captured_supernet, correct
from tests.benchmarks.markdown import table_head, table_row

SHARES = (0.75, 0.5, 0.3)
ORDERS = ("weights", "taylor", "activations")


def main(
    originals: Annotated[Path, typer.Argument(help="folder in which trained originals are kept")],
    model: Annotated[list[str] | None, typer.Option(help="names of models")] = None,
    seed: int = 0,
) -> None:
    """Prints a row for each model and order: accuracies as extracted / corrected at shares of the multiply-accumulates."""
    torch.set_num_threads(1)
    originals.mkdir(exist_ok=True)
    print(table_head("model", "sort", "seconds", *(f"{share:.0%} of the MACs" for share in SHARES)))
    for name in model or ("resnet20", "mobilenet-v2", "vit"):
        own = task(name, Path())
        original = trained(originals / f"{name}-{seed}.pt", own, seed)
        inputs = own.prepared(own.train.inputs[:512])
        for order in ORDERS:
            supernet = captured_supernet(original, own, WHOLE).eval()
            started = time.perf_counter()
            _sort(supernet, order, own, inputs)
            seconds = time.perf_counter() - started
            corrected = captured_supernet(original, own, WHOLE, correction="least-squares").eval()
            corrected.load_state_dict(supernet.state_dict())
            kinds = Extraction(supernet, [inputs]), Extraction(corrected, [inputs])
            cells = []
            for share in SHARES:
                network = uniform(supernet, share)
                accuracies = [float(correct(kind(network), own, own.test).float().mean()) for kind in kinds]
                cells.append(" / ".join(f"{100 * accuracy:.1f}" for accuracy in accuracies))
            print(table_row(name, order, f"{seconds:.0f}", *cells), flush=True)


def uniform(supernet: Supernet, share: float) -> Architecture:
    """The network of one width for all layers whose multiply-accumulates are nearest to a share of the largest one's."""
    space, n_macs = supernet.space, supernet.cost(supernet.space.largest).macs
    widths = [i for i, choice in enumerate(space.choices) if choice.name.endswith("width")]
    networks = []
    for level in range(len(space.choices[widths[0]].options)):
        genes = [len(choice.options) - 1 for choice in space.choices]
        for i in widths:
            genes[i] = level
        networks.append(space.canonical(genes))
    return min(networks, key=lambda network: abs(supernet.cost(network).macs / n_macs - share))


def _sort(supernet: Supernet, order: str, own: ValueTask, inputs: Tensor) -> None:
    match order:
        case "weights":
            supernet.sort(orders(importance(supernet)))
        case "taylor":
            sort_by_taylor(supernet, Lesson.of(own, supernet.extract(supernet.space.largest)))
        case _:
            supernet.sort(orders(removal_importance(supernet, [inputs])))


if __name__ == "__main__":
    typer.run(main)
