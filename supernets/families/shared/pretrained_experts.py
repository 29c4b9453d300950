"""Experts of transformers that are made of parts of a pretrained network: of its MLPs, of its experts, or of its attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.errors import SpaceError
from supernets.experts.expert_weights import ExpertWeights, common_factors, stacked
from supernets.experts.mixing import ACTIVATIONS
from supernets.experts.partition import (
    RouterFit,
    co_activation,
    partition_by_co_activation,
    partition_by_weights,
    partitioned,
    random_partition,
)
from supernets.families.shared.transformer_family import TransformerFamily
from supernets.networks.family_program import outline

Partition = Literal["random", "weights", "co-activation"]
Activation = Callable[[Tensor], Tensor]
MAX_TOKENS = 2**13
"""Number of tokens of examples that co-activations, importance and routers are computed on."""
_BATCH_SIZE = 16
"""Number of examples that a network reads at once."""
_NAMES = {
    "up": ("up.weight", "0.weight"),
    "down": ("down.weight", "2.weight"),
    "gate": ("gate.weight",),
    "up_bias": ("up.bias", "0.bias"),
    "down_bias": ("down.bias", "2.bias"),
}
"""Names of the tensors of MLPs, by those of `ExpertWeights`."""


def dense_family(family: TransformerFamily, hidden: int | None) -> TransformerFamily:
    """The family of networks with one attention in each layer, and with MLPs of `hidden` channels in place of experts.

    Args:
        family: Family of the networks.
        hidden: Hidden channels of the MLPs; None to keep experts or MLPs as they are.
    """
    changes: dict[str, Any] = {"attention_experts": None} if has_attention_experts(family) else {}
    if hidden is not None:
        changes |= dict.fromkeys(("experts", "active_experts", "expert_rank", "top_p"))
        changes |= {"hidden": (hidden,), "gates": "softmax", "routers": "learned"}
    spec = replace(family.spec, **changes)
    make: Any = type(family)
    numbers = {name: getattr(family, name) for name in make.numbers}
    dense: TransformerFamily = make(spec, **numbers)
    return dense


def check_experts(spec: Any, hidden: int) -> None:
    """Raises `SpaceError` unless a space's experts can be made of MLPs of `hidden` channels: as parts of them, or as copies."""
    experts, expert_hidden = spec.experts[-1], spec.hidden[-1]
    if spec.shared_hidden is not None:
        raise SpaceError("shared_hidden: experts that are made of MLPs have no shared one; remove it")
    if expert_hidden == hidden:
        if spec.gates == "equal":
            raise SpaceError("gates: factors of copies of an MLP add up to 1; take softmax or sigmoid")
    elif hidden % experts:
        near = ", ".join(str(n) for n in range(2, 65) if hidden % n == 0)
        raise SpaceError(
            f"experts: {experts} experts do not divide MLPs of {hidden} channels; end experts in one of {near}"
        )
    elif expert_hidden * experts != hidden:
        parts = f"{experts} experts of an MLP of {hidden} channels have {hidden // experts} each"
        raise SpaceError(
            f"hidden: {parts}, and hidden ends in {expert_hidden}; end it in {hidden // experts}, or in {hidden} for copies"
        )
    elif spec.gates != "equal":
        raise SpaceError(
            f"gates: parts of an MLP add up to it where their factors are 1, got {spec.gates}; write equal"
        )


def experts_of_dense(
    family: TransformerFamily,
    dense: TransformerFamily,
    tensors: Mapping[str, Tensor],
    partition: Partition,
    batches: Sequence[Tensor],
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """The tensors of a family's largest network, which computes what a network with MLPs does where all experts are active.

    An MLP's neurons are divided among the experts (see `supernets.experts.partition`), or each expert is a copy (sparse
    upcycling; Komatsuzaki et al. 2022, arXiv 2212.05055). Parts have routers that predict the norms of their outputs
    (`RouterFit`), and come in the order of their importance, the mean norm over tokens; so do the neurons of each part, whose
    importance is the mean of their activation times the norm of the weights that read it. Copies have fresh routers.

    Args:
        family: Family with experts.
        dense: Family with MLPs in place of them, see `dense_family`.
        tensors: Tensors of its largest network by name.
        partition: Method that divides the neurons of an MLP; not read for copies.
        batches: Inputs of the network; of the first ones about `MAX_TOKENS` tokens are read.
    """
    fresh, n = family.template().state_dict(), family.spec.experts[-1]
    copies = family.spec.hidden[-1] == dense.spec.hidden[-1]
    converted = {name: tensors[name] for name in fresh if name in tensors}
    inputs_by_module = {} if copies else _mlp_inputs(dense, tensors, batches, family.modules_of_layers("mlp"))
    for module in family.modules_of_layers("mlp"):
        mlp = _mlp(tensors, module)
        if copies:
            layer_tensors = _named(stacked([mlp] * n), mlp)
        else:
            layer_tensors = _parts(mlp, n, partition, inputs_by_module[module], ACTIVATIONS[family.activation], rng)
        converted |= {f"{module}.{name}": tensor for name, tensor in layer_tensors.items()}
    return {name: converted.get(name, tensor) for name, tensor in fresh.items()}


def _mlp(tensors: Mapping[str, Tensor], module: str) -> ExpertWeights:
    """The MLP of a module, as one expert."""
    weights: dict[str, Any] = {}
    for field, names in _NAMES.items():
        weights[field] = next(
            (tensors[f"{module}.{name}"][None] for name in names if f"{module}.{name}" in tensors), None
        )
    return ExpertWeights(**weights)


def _named(experts: ExpertWeights, mlp: ExpertWeights) -> dict[str, Tensor]:
    """Experts by the names of an `ExpertLayer`, which has the last bias of the MLP that they are made of once."""
    tensors = {"up": experts.up, "down": experts.down, "gate": experts.gate, "up_bias": experts.up_bias}
    bias = {} if mlp.down_bias is None else {"bias": mlp.down_bias[0]}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None} | bias


@torch.no_grad()
def _mlp_inputs(
    dense: TransformerFamily, tensors: Mapping[str, Tensor], batches: Sequence[Tensor], modules: Sequence[str]
) -> dict[str, Tensor]:
    """Returns the inputs of each MLP on the first batches, (tokens, width), by the name of its module."""
    network = dense.standalone(outline(dense), dense.space.largest, tensors).eval()
    inputs_by_module: dict[str, list[Tensor]] = {name: [] for name in modules}

    def record(name: str, inputs: Tensor) -> None:
        inputs_by_module[name].append(inputs.flatten(0, -2))

    for name in modules:
        network.get_submodule(name).register_forward_pre_hook(
            lambda _, arguments, name=name: record(name, arguments[0])
        )
    for inputs in (part for batch in batches for part in batch.split(_BATCH_SIZE)):
        if sum(map(len, inputs_by_module[modules[0]])) >= MAX_TOKENS:
            break
        network(inputs)
    return {name: torch.cat(inputs)[:MAX_TOKENS] for name, inputs in inputs_by_module.items()}


@torch.no_grad()
def _parts(
    mlp: ExpertWeights, n: int, partition: Partition, x: Tensor, activation: Activation, rng: np.random.Generator
) -> dict[str, Tensor]:
    """The experts of a partition and their router, by the names of an `ExpertLayer`; the most important ones first."""
    inner = mlp.inner(x, activation)[0]
    neurons = _partition(mlp, n, partition, inner, rng)
    weight = (inner.abs().mean(0) * mlp.down[0].norm(dim=0)).numpy()
    neurons = np.take_along_axis(neurons, np.argsort(-weight[neurons], axis=1, kind="stable"), axis=1)
    outputs = inner.T[neurons].transpose(1, 2) @ mlp.down[0].T[neurons]
    order = outputs.norm(dim=2).mean(1).argsort(descending=True, stable=True)
    experts = partitioned(mlp, neurons[order.numpy()])
    fit = RouterFit(experts, activation)
    fit.add(x)
    router, bias = fit.solve()
    return {**_named(experts, mlp), "router.weight": router, "router.bias": bias}


def _partition(
    mlp: ExpertWeights, n: int, partition: Partition, inner: Tensor, rng: np.random.Generator
) -> NDArray[np.int64]:
    match partition:
        case "random":
            return random_partition(mlp.hidden, n, rng)
        case "weights":
            return partition_by_weights(mlp, n, rng)
        case "co-activation":
            return partition_by_co_activation(co_activation(inner), n, rng)


def with_bases(family: TransformerFamily, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a family's largest network, whose experts are factors if its spec has an `expert_rank`.

    The first matrices of all experts of a layer become factors on one base (`common_factors`). Where its rank is the width,
    the network computes what it did; a smaller rank is the first channels of it, of the least squared error.

    Args:
        family: Family of the networks.
        tensors: Tensors of the largest network by name, with whole matrices of experts; what they have as a base is replaced.
    """
    largest_tensors = dict(tensors)
    if family.spec.expert_rank is None:
        return largest_tensors
    for module in family.modules_of_layers("mlp"):
        names = [name for name in (f"{module}.up", f"{module}.gate") if name in largest_tensors]
        factors, base = common_factors(
            torch.cat([largest_tensors[name] for name in names], dim=1), family.spec.expert_rank[-1]
        )
        largest_tensors |= dict(zip(names, factors.chunk(len(names), dim=1), strict=True))
        largest_tensors[f"{module}.base.weight"] = base
    return largest_tensors


def has_attention_experts(family: TransformerFamily) -> bool:
    """Returns True if the layers of a family's networks have attention experts."""
    return getattr(family.spec, "attention_experts", None) is not None


def with_attention_copies(family: TransformerFamily, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a family's largest network, whose attention experts, if it has some, are copies of one attention.

    The factors of the experts add up to 1, so that the network computes what it did with one, whatever its routers.

    Args:
        family: Family of the networks.
        tensors: Tensors of the largest network by name, with the queries and projections of one attention in each layer, and
            with the routers of the experts.
    """
    largest_tensors = dict(tensors)
    if not has_attention_experts(family):
        return largest_tensors
    groups, n = family.spec.heads[-1], family.spec.attention_experts[-1]
    for module in family.modules_of_layers("attention"):
        for name in (f"{module}.query.weight", f"{module}.query.bias"):
            if name in largest_tensors:
                largest_tensors[name] = _repeated_rows(largest_tensors[name], groups, n)
        project = f"{module}.project.weight"
        largest_tensors[project] = _repeated_rows(largest_tensors[project].T.contiguous(), groups, n).T.contiguous()
    return largest_tensors


def _repeated_rows(rows: Tensor, groups: int, n: int) -> Tensor:
    """The rows of each group, n times: (groups x k, ...) -> (groups x n x k, ...)."""
    return rows.view(groups, -1, *rows.shape[1:]).repeat_interleave(n, dim=0).flatten(0, 1)
