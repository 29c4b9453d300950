"""The share of tokens that a network of a run routes to each of its experts, and its quality with other numbers of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nas.engine.store.folder import RunsFolder
from nas.engine.store.stored_run import StoredRun
from nas.errors import SelectionError
from nas.jobs.build.trained_run import TrainedRun, load_trained_run
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH
from nas.results.analysis.network_selection import choose
from nas.results.analysis.report import build_report
from nas.results.export.cost_selection import largest_network, networks_by_cost
from nas.search.problem.objectives import Objective
from supernets.data import head
from supernets.experts.layer import ExpertLayer
from supernets.experts.routing_metrics import observed_routings
from supernets.experts.routing_statistics import load_entropy, usage
from supernets.space import Architecture
from supernets.training.recalibration import Extraction
from supernets.training.trainer import outputs_of

_MAX_EXAMPLES, _MAX_SCORED = 256, 1024
"""Of the validation part: that routings are observed on, and that networks are scored on."""


@dataclass(frozen=True)
class ExpertQuality:
    """A metric of a network with other numbers of active experts, the same one in all layers.

    Attributes:
        network: Key of the network.
        metric: Metric of the run's task.
        examples: Number of examples of the validation part on which it is scored.
        chosen: Numbers of active experts of the network itself, by layer, with the value and its standard error.
        active: Numbers of active experts; a layer that keeps fewer experts sends tokens to all of them.
        values, errors: Value of the metric for each number, and its standard error.
        searched: Numbers that the space has.
        layers: Usage of its experts by layer, see `expert_usage`.
    """

    run: str
    network: str
    metric: Objective
    examples: int
    chosen: tuple[tuple[int, ...], float, float]
    active: tuple[int, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    searched: frozenset[int]
    layers: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``nas plot --experts --json``."""
        chosen = dict(zip(("active_experts", "value", "error"), self.chosen, strict=True))
        columns = zip(self.active, self.values, self.errors, strict=True)
        numbers = [
            {"active_experts": k, "value": value, "error": error, "searched": k in self.searched}
            for k, value, error in columns
        ]
        return {"metric": self.metric.name, "examples": self.examples, "chosen": chosen, "numbers": numbers}


def expert_usage(runs: RunsFolder, run: str, *, select: str | None = None) -> dict[str, Any]:
    """The usage of experts, layer by layer, of the network that `nas.results.export.onnx_export.export_onnx` would write.

    Args:
        select: The network, as for that export; of a training, without it the largest network.

    Returns:
        JSON-able: the `run`, the key of the `network`, the number of `examples` (at most 256, the first ones), and `layers`,
        each with its name, its number of `active_experts`, their mean over tokens (`mean_active_experts`; without null experts
        and those that `top_p` drops), the `usage` of each expert (the share of tokens that are routed to it), their `entropy`
        (1 for equal usage) and the `unused` experts.

    Raises:
        SelectionError: the network has no experts, or none is selected.
    """
    architecture, network, trained = _extracted(runs, run, select)
    texts = trained.data.dataset.validation.inputs[:_MAX_EXAMPLES]
    return {"run": run, "network": architecture.key, "examples": len(texts), "layers": _usage_by_layer(network, texts)}


def _usage_by_layer(network: nn.Module, texts: Tensor) -> list[dict[str, Any]]:
    names = [name for name, module in network.named_modules() if isinstance(module, ExpertLayer)]
    layers = []
    for name, layer in zip(names, observed_routings(network, texts), strict=True):
        shares = usage(layer.routing, layer.experts)
        unused = [i for i, share in enumerate(shares) if share == 0]
        statistics = {
            "mean_active_experts": float(layer.n_requests.sum() / layer.routing[..., 0].size),
            "usage": shares.tolist(),
            "entropy": load_entropy(shares),
            "unused": unused,
        }
        layers.append({"name": name, "active_experts": layer.routing.shape[2], **statistics})
    return layers


def expert_quality(runs: RunsFolder, run: str, *, select: str | None = None) -> ExpertQuality:
    """The quality of the same network with 1, 2, 4, ... and all experts active, in torch and single precision.

    With `top_p`, these are the maxima for a token.

    Args:
        select: The network, as for `expert_usage`.

    Raises:
        SelectionError: For the same reasons as `expert_usage`.
        DataError: the data lack the examples of the metric.
    """
    architecture, network, trained = _extracted(runs, run, select)
    config, task, task_metrics = trained.data.job.config, trained.data.task, trained.data.job.task
    metric = task_metrics.scored(m for name in config.objectives for m in task_metrics.metrics if m.name == name)
    part = head(task.examples(metric.name, trained.data.dataset.validation), _MAX_SCORED)

    def score() -> tuple[float, float]:
        outputs = outputs_of(task.scored(network), part, batch_size=task.scored_together)
        scores = task.score(metric.name, outputs.numpy(), part.labels.numpy())
        return scores.value, scores.error

    used = _usage_by_layer(network, trained.data.dataset.validation.inputs[:_MAX_EXAMPLES])
    layers = [module for module in network.modules() if isinstance(module, ExpertLayer)]
    chosen = tuple(len(layer.active) for layer in layers), *score()
    max_experts = max(len(layer.up) for layer in layers)
    active = tuple(sorted({2**i for i in range(max_experts.bit_length())} | {max_experts}))
    scores = []
    for k in active:
        for layer in layers:
            layer.active = torch.arange(min(k, len(layer.up)))
        scores.append(score())
    space = trained.checkpoint.supernet.space
    searched = {int(option) for i in space.kinds.get("active_experts", ()) for option in space.choices[i].options}
    values, errors = zip(*scores, strict=True)
    return ExpertQuality(
        run, architecture.key, metric, len(part), chosen, active, values, errors, frozenset(searched), tuple(used)
    )


def _extracted(runs: RunsFolder, run: str, select: str | None) -> tuple[Architecture, nn.Module, TrainedRun]:
    """The network that is chosen; raises `SelectionError` where it has no experts."""
    opened = StoredRun.open(runs, run)
    trained = load_trained_run(opened)
    architecture = _chosen(opened, run, select)
    network = Extraction(trained.checkpoint.supernet, trained.data.calibration.split(CALIBRATION_BATCH))(architecture)
    if not any(isinstance(module, ExpertLayer) for module in network.modules()):
        raise SelectionError(
            f"{run}: the network {architecture.key} has no experts; select another one",
            code="selection.no-experts",
        )
    return architecture, network, trained


def _chosen(opened: StoredRun, run: str, select: str | None) -> Architecture:
    if opened.kind == "training":
        return largest_network(opened)[0] if select is None else networks_by_cost(opened).satisfying(select)[-1][0]
    with opened.store() as store:
        report = build_report(store, run=run)
        return store.search_facts().variants.split(choose(report, select, None).architecture)[0]
