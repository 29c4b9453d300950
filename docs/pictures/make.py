"""Draws the pictures of the concepts from a finished run of the recipe ``digits-cnn``.

Run ``make demo``, then ``python -m docs.pictures.make runs digits-cnn-1``.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from nas.results.analysis.report import RunReport
from nas.results.plots import colours
from nas.results.plots.matplotlib_charts import INK, SOFT, STYLE
from nas.runs.run import Run, open_run
from nas.search.problem.objectives import Fidelity
from supernets.sharing.base import Supernet
from supernets.training.checkpoint import load_checkpoint

FOLDER = Path(__file__).parent
_SIZE = (7.2, 4.0)
_BLUE, _GREY, _ORANGE = colours.FRONT.light, colours.MEASURED.light, colours.PREDICTED.light


def main() -> None:
    """Draws all pictures of the run that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("run", help="a finished search by the recipe digits-cnn")
    given = parser.parse_args()
    run = open_run(given.run, given.runs)
    supernet = load_checkpoint(run.folder.checkpoint).supernet
    with tempfile.TemporaryDirectory() as folder:
        run.plot(Path(folder))
        for name in ("front", "predictors"):
            shutil.copy(Path(folder, f"{name}.svg"), FOLDER)
    drawn: Mapping[str, Callable[[], Figure]] = {
        "supernet": lambda: supernet_figure(run.report, supernet),
        "sharing": lambda: sharing_figure(supernet),
        "noise": lambda: noise_figure(run),
        "parts": lambda: parts_figure(run.report),
    }
    for name, draw in drawn.items():
        with matplotlib.rc_context(STYLE):
            draw().savefig(FOLDER / f"{name}.svg", metadata={"Date": None})


def supernet_figure(report: RunReport, supernet: Supernet) -> Figure:
    """The accuracy of every measured network against its parameters: all of them have one set of weights."""
    points = list(report.evaluated)
    sizes = supernet.costs([point.architecture for point in points]).parameters.sum(axis=1) / 1000
    figure, axis = _axes("parameters (thousands)", "validation accuracy")
    axis.scatter(
        sizes, [p.values["accuracy"] for p in points], color=_GREY, s=22, label="a subnet, with inherited weights"
    )
    for name, colour, marker in (("smallest", colours.SMALLEST, "v"), ("largest", colours.LARGEST, "^")):
        anchor = report.anchors[name]  # type: ignore[index]
        size = supernet.cost(anchor.architecture).parameters / 1000
        axis.scatter(
            size, anchor.values["accuracy"], color=colour.light, marker=marker, s=70, label=f"the {name} subnet"
        )
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axis.legend(loc="lower right")
    return figure


def sharing_figure(supernet: Supernet) -> Figure:
    """The magnitudes of the stored weights of one 1 x 1 convolution, with the slices that narrower subnets use."""
    space = supernet.space
    gene, width = next((i, choice) for i, choice in enumerate(space.choices) if choice.name.endswith("width"))
    largest = list(space.largest.genes)
    architectures = [space.canonical([*largest[:gene], k, *largest[gene + 1 :]]) for k in range(len(width.options))]
    tensors = [supernet.weights(architecture) for architecture in architectures]
    name = max(
        (key for key, value in tensors[-1].items() if value.ndim == 4 and value.shape[2:] == (1, 1)),
        key=lambda key: tensors[-1][key].shape[0] != tensors[0][key].shape[0],
    )
    stored = tensors[-1][name].detach().abs()[:, :, 0, 0].numpy()
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    axis.grid(visible=False)
    shown = axis.imshow(stored, cmap="Blues", aspect="auto", extent=(0, stored.shape[1], stored.shape[0], 0))
    edges = (colours.SMALLEST, colours.PREDICTED, colours.LARGEST)
    for option, tensor, colour in zip(width.options, tensors, edges, strict=False):
        rows, columns = tensor[name].shape[:2]
        axis.add_patch(Rectangle((0, 0), columns, rows, fill=False, edgecolor=colour.light, linewidth=3, clip_on=False))
        axis.text(columns - 0.4, rows - 0.25, f"{width.name} = {option}", color=INK, ha="right", fontsize=9)
    axis.set_xlabel("input channel")
    axis.set_ylabel("output channel")
    figure.colorbar(shown, ax=axis, label=f"magnitude of {name}")
    return figure


def noise_figure(run: Run) -> Figure:
    """Latencies by the short protocol and by the longer one, of the networks that were measured by both."""
    with run.store() as store:
        found = {
            fidelity: {m.request.architecture.key: m for m in store.measurements(fidelity) if m.request.metric == "latency_ms"}
            for fidelity in (Fidelity.SEARCH, Fidelity.FINAL)
        }  # fmt: skip
    again = found[Fidelity.FINAL]
    both = sorted(
        (key for key in again if again[key].value and found[Fidelity.SEARCH][key].value),
        key=lambda k: again[k].value or 0,
    )
    figure, axis = _axes("network, by its final latency", "latency (ms)")
    for fidelity, colour, text, shift in (
        (Fidelity.SEARCH, _GREY, "during the search", -0.12),
        (Fidelity.FINAL, _BLUE, "measured again at its end", 0.12),
    ):
        values = [found[fidelity][key] for key in both]
        axis.errorbar(
            np.arange(len(both)) + shift, [m.value or 0 for m in values], [m.error or 0 for m in values],
            fmt="o", color=colour, markersize=4, capsize=3, label=f"{text}, ± the error",
        )  # fmt: skip
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(loc="upper left")
    return figure


def parts_figure(report: RunReport) -> Figure:
    """Validation accuracy against test accuracy of the members of the front, each ± one standard error."""
    figure, axis = _axes("validation accuracy (the search has seen these images)", "test accuracy (it has not)")
    points = [point for point in report.front if point.test is not None]
    axis.errorbar(
        [p.values["accuracy"] for p in points], [p.test["accuracy"] for p in points if p.test],
        xerr=[p.errors["accuracy"] for p in points], yerr=[p.test["error"] for p in points if p.test],
        fmt="o", color=_BLUE, ecolor=_GREY, capsize=2, label="a member of the front, ± one standard error",
    )  # fmt: skip
    low = min(p.values["accuracy"] for p in points) - 0.02
    axis.plot([low, 1], [low, 1], color=SOFT, linestyle="--", linewidth=1, label="equal accuracies")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(loc="upper left")
    return figure


def _axes(x: str, y: str) -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=_SIZE, layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    return figure, axis


if __name__ == "__main__":
    main()
