"""Half of the parameters of a decoder's experts: pruned, merged and of low rank, with and without distillation.

    python -m tests.benchmarks.experts_halved TEXT RESULTS.jsonl [--seeds 3] [--steps 100] [--epochs 6] [--only METHOD ...]

TEXT is tiny Shakespeare: input.txt of karpathy/char-rnn, or that file compressed by gzip (1.1 MB). A second call continues the
first, and `--table` only prints the results.

Method. Of the recipe `shakespeare-experts`, a supernet is trained for each seed: 4 layers of 8 experts of 128 channels, of
which each token asks 1 or 2 (sandwich rule). The experts of its largest network are then made fewer or smaller, so that those
of all layers have at most half of their parameters; usage, importance, similarity and means are of the first 8,192 tokens of
the training part. The perplexity is that of the whole validation part, in torch and single precision. With distillation, all
weights are then trained for --steps steps of 16 blocks, with the sum of the loss and of the divergence from the original
network's tokens (AdamW, a learning rate of 0.0003).

- *random*, *usage*, *importance*: four experts of each layer are kept, at random, the most asked, or those that add most
  (`tests.benchmarks.expert_selection`); their rows of the router stay.
- *importance, by layer*: as many in all, divided among the layers by importance.
- *merged, not aligned*: the others are averaged with the most similar of the four most asked, by the router's logits, weighted
  by usage, neuron by neuron in their given order (the baseline of alignment).
- *merged*: the same, with neurons aligned (MC-SMoE).
- *merged, by layer*: as many in all, divided among the layers by usage.
- *common base*: the first layers of the experts are factors with one base (MoLAE).
- *residuals*: experts are their mean and a residual of low rank.

Baselines: *random*, and *usage*, the same number of experts in each layer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrize import register_parametrization

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.prepared_job import TrainedRun
from nas.jobs.run.run_options import RunOptions
from supernets.experts.expert_weights import ExpertWeights
from supernets.experts.layer import ExpertLayer
from supernets.experts.low_rank import common_factors
from supernets.experts.merging import (
    aligned_in_turn,
    merging_weights,
    nested_groups,
)
from supernets.experts.mixing import ACTIVATIONS, routed
from supernets.families.decoder.network import Decoder, Layer
from supernets.tasks.language_modelling import LanguageModelling
from supernets.training.trainer import outputs_of
from tests.benchmarks.decoder_oneshot import Row, add, read
from tests.benchmarks.expert_selection import expert_importance, kept_by_layer
from tests.benchmarks.shakespeare_experts import Epochs, Show, print_results, recipe_job, trained

EXPERTS, ACTIVE, KEPT, EPOCHS = 8, 2, 4, 6
CALIBRATION_TOKENS, BLOCKS, RATE = 8192, 16, 3e-4
SPACE = {
    "head_size": 32, "depth": [4], "width": [192], "heads": [4], "hidden": [128], "experts": [EXPERTS],
    "active_experts": [1, ACTIVE],
}  # fmt: skip


@dataclass(frozen=True)
class Observed:
    """What a layer of experts does with the calibration tokens.

    Attributes:
        usage: (experts,), the share of tokens that ask each.
        importance: (experts,), as of `expert_importance`.
        logits: (tokens, experts).
    """

    layer: ExpertLayer
    weights: ExpertWeights
    usage: NDArray[np.float64]
    importance: NDArray[np.float64]
    logits: NDArray[np.float64]


def trained_at(text: Path, work: Path, *, seed: int, epochs: int | None) -> TrainedRun:
    """The trained supernet of a seed, from the folder if it is done."""
    supernet = {"family": "decoder", "space": SPACE}
    job = recipe_job(text, work, epochs=epochs or EPOCHS, name=f"experts-{seed}", seed=seed, supernet=supernet)
    kept = ("epochs", "batch_size", "learning_rate", "weight_decay", "balance_loss")
    job["training"] = {key: job["training"][key] for key in kept}
    job["training"] |= {"strategy": "sandwich", "random_subnets": 1, "threads": 1}
    return trained(job, RunOptions(RunsFolder(work / "runs")))


@torch.no_grad()
def observed(network: Decoder, texts: Tensor) -> list[Observed]:
    """What each layer of experts does with texts."""
    layers = [cast(ExpertLayer, cast(Layer, own).mlp) for own in network.layers.values()]
    read: dict[ExpertLayer, Tensor] = {}
    handles = [
        layer.register_forward_pre_hook(lambda layer, inputs: read.update({layer: inputs[0].flatten(0, -2)}))
        for layer in layers
    ]
    network(texts)
    for handle in handles:
        handle.remove()
    found = []
    for layer in layers:
        x, weights = read[layer], layer.weights
        logits = layer.router(x)
        chosen, factors = routed(logits, ACTIVE, layer.gates, len(weights))
        gates = torch.zeros_like(logits).scatter_(1, chosen, factors)
        importance = expert_importance(gates, weights.outputs(x, ACTIVATIONS[layer.activation]))
        used = (gates > 0).double().mean(0).numpy()
        found.append(Observed(layer, weights, used, importance.double().numpy(), logits.double().numpy()))
    return found


def replace_experts(layer: ExpertLayer, experts: ExpertWeights, rows: Tensor) -> None:
    """Gives a layer other experts, and rows of the router, in place."""
    for name in ("up", "down", "gate", "up_bias"):
        own = getattr(experts, name)
        if own is not None:
            setattr(layer, name, nn.Parameter(own.clone()))
    layer.router.weight = nn.Parameter(rows.clone())
    layer.router.out_features = len(rows)


def kept(own: Observed, order: NDArray[np.float64], n: int) -> None:
    """Keeps the n experts of the largest values."""
    best = torch.from_numpy(np.sort(np.argsort(-order, kind="stable")[:n]))
    replace_experts(own.layer, own.weights.chosen(best), own.layer.router.weight.detach()[best])


def merge(own: Observed, n: int, *, align: bool = True) -> None:
    """Merges the experts into n."""
    found = nested_groups(own.logits.T, own.usage, [n])
    experts = aligned_in_turn(own.weights, found.joins, own.usage) if align else own.weights
    weights = merging_weights(found.groups[n], own.usage)
    router = own.layer.router.weight.detach()
    replace_experts(own.layer, experts.mixed(weights), weights.to(router) @ router)


class CommonBase(nn.Module):
    """Matrices of experts as factors (experts, rows, rank) and their base (rank, columns)."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, factors: Tensor, base: Tensor) -> Tensor:
        return factors @ base

    def right_inverse(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        return common_factors(weights.detach(), self.rank)


class Residuals(nn.Module):
    """Matrices of experts as their mean and residuals of low rank."""

    def __init__(self, mean: Tensor, rank: int) -> None:
        super().__init__()
        self.mean, self.rank = nn.Parameter(mean.clone()), rank

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.mean + left @ right

    def right_inverse(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        left, values, right = torch.linalg.svd(weights.detach() - self.mean, full_matrices=False)
        return left[..., : self.rank] * values[:, None, : self.rank], right[:, : self.rank]


def n_parameters(experts: ExpertWeights) -> int:
    """Of all experts."""
    return sum(tensor.numel() for tensor in vars(experts).values() if tensor is not None)


def common_base_parameters(experts: ExpertWeights, rank: int) -> int:
    """Parameters of experts whose first layers are factors with one base each."""
    n, hidden, width = experts.up.shape
    saved = n * hidden * width - rank * (n * hidden + width)
    return n_parameters(experts) - saved * (1 if experts.gate is None else 2)


def residual_parameters(experts: ExpertWeights, rank: int) -> int:
    """Parameters of experts that are their mean and residuals of this rank, as factors."""
    n, hidden, width = experts.up.shape
    matrices = 2 if experts.gate is None else 3
    return n_parameters(experts) - matrices * ((n - 1) * hidden * width - n * rank * (hidden + width))


def largest_rank(parameters: Callable[[ExpertWeights, int], int], experts: ExpertWeights) -> int:
    """The largest rank with at most half of the parameters."""
    return max(rank for rank in range(experts.hidden + 1) if parameters(experts, rank) <= n_parameters(experts) / 2)


def factor(own: Observed) -> None:
    """Makes the experts' first layers factors on a common base, which are then trained."""
    rank = largest_rank(common_base_parameters, own.weights)
    for name in ("up", "gate"):
        register_parametrization(own.layer, name, CommonBase(rank))


def factor_residuals(own: Observed) -> None:
    """Makes the experts their mean and residuals of low rank, which are then trained.

    The mean is weighted by usage, after alignment to the most used (D2-MoE, arXiv 2502.17298, with the mean of MC-SMoE).
    """
    all_in_one = nested_groups(own.logits.T, own.usage, [1])
    experts = aligned_in_turn(own.weights, all_in_one.joins, own.usage)
    means = experts.mixed(merging_weights(all_in_one.groups[1], own.usage))
    replace_experts(own.layer, experts, own.layer.router.weight.detach())
    rank = largest_rank(residual_parameters, experts)
    for name in ("up", "gate", "down"):
        register_parametrization(own.layer, name, Residuals(getattr(means, name), rank))


Method = Callable[[list[Observed], np.random.Generator], None]


def each(apply: Callable[[Observed, int], None], counts: Callable[[list[Observed]], list[int]] | None = None) -> Method:
    """A method that treats layers one by one, with these numbers of experts; `KEPT` each without."""

    def run(layers: list[Observed], rng: np.random.Generator) -> None:
        numbers = [KEPT] * len(layers) if counts is None else counts(layers)
        for own, n in zip(layers, numbers, strict=True):
            apply(own, n)

    return run


def at_random(layers: list[Observed], rng: np.random.Generator) -> None:
    for own in layers:
        kept(own, rng.random(EXPERTS), KEPT)


def by_layer(name: str) -> Callable[[list[Observed]], list[int]]:
    """Experts of each layer by usage or importance; a token needs `ACTIVE` of them at least."""

    def counts(layers: list[Observed]) -> list[int]:
        rest = [np.sort(getattr(own, name))[::-1] for own in layers]
        first = sum(ACTIVE - 1 for _ in layers)
        found = kept_by_layer([own[ACTIVE - 1 :] for own in rest], KEPT * len(layers) - first)
        return [n + ACTIVE - 1 for n in found]

    return counts


METHODS: Mapping[str, Method] = {
    "random": at_random,
    "usage": each(lambda own, n: kept(own, own.usage, n)),
    "importance": each(lambda own, n: kept(own, own.importance, n)),
    "importance, by layer": each(lambda own, n: kept(own, own.importance, n), by_layer("importance")),
    "merged, not aligned": each(partial(merge, align=False)),
    "merged": each(merge),
    "merged, by layer": each(merge, by_layer("usage")),
    "common base": each(lambda own, n: factor(own)),
    "residuals": each(lambda own, n: factor_residuals(own)),
}


def distil(network: Decoder, teacher: Decoder, texts: Tensor, *, steps: int, rng: np.random.Generator) -> None:
    """Trains all weights on blocks of tokens, in place."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    network.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / steps)
        ids = texts[torch.from_numpy(rng.choice(len(texts), BLOCKS, replace=False))]
        logits = network(ids)[:, :-1].flatten(0, 1)
        with torch.no_grad():
            wanted = teacher(ids)[:, :-1].flatten(0, 1).log_softmax(1)
        loss = functional.cross_entropy(logits, ids[:, 1:].flatten())
        loss = loss + functional.kl_div(logits.log_softmax(1), wanted, reduction="batchmean", log_target=True)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()


def score(network: Decoder, run: TrainedRun) -> Row:
    part, task = run.data.dataset.validation, LanguageModelling()
    losses = outputs_of(task.scored(network), part, batch_size=16)
    found = task.score("perplexity", losses.numpy(), part.labels.numpy())
    return {"perplexity": found.value, "error": found.error}


def expert_parameters(network: Decoder) -> int:
    """Parameters of experts, of factors where they are such."""
    return sum(own.numel() for name, own in network.named_parameters() if ".mlp." in name and ".router." not in name)


def run_seed(
    text: Path, work: Path, results: Path, methods: Sequence[str], *, seed: int, steps: int, epochs: int | None
) -> None:
    """Appends the rows of a seed that the results lack."""
    done = {(row["method"], row["steps"]) for row in read(results) if row["seed"] == seed}
    found = trained_at(text, work, seed=seed, epochs=epochs)
    supernet, texts = found.checkpoint.supernet, found.data.dataset.train.inputs
    original = cast(Decoder, supernet.extract(supernet.space.largest))
    if ("original", 0) not in done:
        base = {"seed": seed, "method": "original", "steps": 0, "parameters": expert_parameters(original)}
        add(results, {**base, **score(original, found)})
    for name in methods:
        method = METHODS[name]
        missing = [n for n in dict.fromkeys((0, steps)) if (name, n) not in done]
        if not missing:
            continue
        network, rng = cast(Decoder, supernet.extract(supernet.space.largest)), np.random.default_rng(seed)
        method(observed(network, texts[: CALIBRATION_TOKENS // texts.shape[1]]), rng)
        for n in missing:
            started = time.perf_counter()
            if n:
                distil(network, original, texts, steps=n, rng=rng)
            row = {"seed": seed, "method": name, "steps": n, "parameters": expert_parameters(network)}
            add(results, {**row, "seconds": time.perf_counter() - started, **score(network, found)})


def table(results: Path) -> str:
    """The perplexity of each method, the mean and the range over seeds, by the number of steps."""
    rows = read(results)
    steps = sorted({row["steps"] for row in rows})
    heads = " | ".join("as made" if n == 0 else f"after {n} steps" for n in steps)
    lines = [f"| | expert parameters | {heads} |", "|---" * (len(steps) + 2) + "|"]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        cells = [f"{np.mean([row['parameters'] for row in own]):,.0f}"]
        for n in steps:
            values = [row["perplexity"] for row in own if row["steps"] == n]
            cells.append(f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(
    text: Path,
    results: Path,
    seeds: int = 3,
    steps: Annotated[int, typer.Option(help="of the distillation")] = 100,
    epochs: Epochs = None,
    only: Annotated[list[str] | None, typer.Option(help="a method; all without")] = None,
    work: Path = Path("runs/experts-halved"),
    show: Show = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    torch.set_num_threads(1)
    if unknown := set(only or ()) - set(METHODS):
        raise typer.BadParameter(f"methods are {', '.join(METHODS)}; not {', '.join(sorted(unknown))}")
    if not show:
        for seed in range(1, seeds + 1):
            run_seed(text, work, results, only or list(METHODS), seed=seed, steps=steps, epochs=epochs)
    print_results(__doc__, table, results)


if __name__ == "__main__":
    typer.run(main)
