"""Torch-Pruning on the models of the any-model benchmark.

Each model is given to Torch-Pruning with the options of its examples: layers of the output are ignored; attention modules get
their number of heads (whole heads are removed where positions are rotary), and packed gates their number of parts; biases of
positions by head are ignored; timm's and transformers' attention is not fused; and widths that a module keeps as numbers are
updated after the pruning. Parameters outside of known layers are pruned in the dimension that the tool proposes. Three
questions are answered:

- does it convert: its graph is built, and has a group of layers to prune;
- is it pruned: its pruner halves all groups by magnitude, and the network runs for batches of 1 and 3;
- are outputs kept: up to four units of each group change places, by the indices that the tool would remove for each of them
  and by its own functions of each layer. Outputs must not change in double precision (1e-10, or ten times the response to
  inputs that differ by one unit in the last place; 1e-6 if the forward itself converts to single precision).
"""

from __future__ import annotations

import copy
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch_pruning.pruner.function import BasePruningFunc

from supernets.networks.capture.comparison import relative_difference
from tests.benchmarks.any_model_zoo import Entry, Inputs
from tests.benchmarks.json_lines import Row

os.environ["TIMM_FUSED_ATTN"] = "0"  # as in the tool's examples; read when timm is imported

RATIO = 0.5
UNITS = 4
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")
_QUERIES = {"qkv", "qkv_proj", "query_key_value", "in_proj", "to_qkv", "Wqkv", "qk"}  # also of keys and values
_QUERIES |= {"q", "query", "q_proj", "q_lin", "to_q", "query_proj", "to_query", "wq"}
_KEYS = {"k", "key", "k_proj", "k_lin", "to_k", "key_proj", "to_key", "wk"}
_KEYS |= {"v", "value", "v_proj", "v_lin", "to_v", "value_proj", "to_value", "wv", "kv"}
_PACKED = {"gate_up_proj", "w12", "Wi"}
_BIASES = re.compile("relative_position|rel_pos|attention_bias")  # by head
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


class OutOfTimeError(Exception):
    """The limit of CPU time is reached."""


@dataclass
class Hints:
    """What the tool is told about a model."""

    heads: dict[nn.Module, int] = field(default_factory=dict)
    channel_groups: dict[nn.Module, int] = field(default_factory=dict)
    rotary: bool = False


def hints_of(model: nn.Module) -> Hints:
    """Heads of attention modules and parts of packed gates, by the usual names."""
    hints = Hints()
    for module in model.modules():
        kind = type(module).__name__.lower()
        hints.rotary |= "rotary" in kind or "rope" in kind
        if isinstance(module, nn.MultiheadAttention):
            hints.channel_groups[module] = module.num_heads
            continue
        config = getattr(module, "config", None) if "attention" in kind else None
        found = [getattr(own, name, None) for own in (module, config) for name in _HEADS]
        heads = next((int(n) for n in found if isinstance(n, int) and n > 0), 0)
        keys = getattr(module, "num_key_value_heads", None) or getattr(config, "num_key_value_heads", None) or heads
        for name, child in module.named_children():
            layers = [own for own in child.modules() if isinstance(own, _LAYERS)]
            if heads and layers and name in _QUERIES | _KEYS:
                hints.heads[layers[-1]] = heads if name in _QUERIES else keys
            elif layers and (name in _PACKED or (name == "fc1" and "glu" in kind)):
                hints.channel_groups[layers[-1]] = 2
    return hints


def pruner_of(model: nn.Module, x: Tensor, hints: Hints, row: Row) -> tuple[Any, list[Any]]:
    """The tool's pruner, whose ignored layers are those of the output, and the groups as it sees them."""
    started = time.process_time()
    pruner = torch_pruning.pruner.BasePruner(
        model,
        (x[:1],),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=RATIO,
        ignored_layers=[own for name, own in model.named_parameters() if _BIASES.search(name)],
        num_heads=dict(hints.heads),
        in_channel_groups={},
        out_channel_groups=dict(hints.channel_groups),
        prune_num_heads=hints.rotary,
        prune_head_dims=not hints.rotary,
        head_pruning_ratio=RATIO if hints.rotary else 0.0,
    )
    row["convert_s"] = time.process_time() - started
    graph, groups = pruner.DG, []
    output = next(iter(graph.module2node.values()))
    for group in graph.get_all_groups(root_module_types=pruner.root_module_types):
        members = [dep for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
        if any(dep.target is output for dep in members):
            pruner.ignored_layers += [dep.target.module for dep in members if isinstance(dep.target.module, _LAYERS)]
        else:
            groups.append(group)
    attention = {id(group): pruner._is_atten_group(group)[0] for group in groups}
    roots = [pruner._downstream_node_as_root_if_attention(own) if attention[id(own)] else own for own in groups]
    return pruner, [own for own in roots if own is not None]


def share_of(model: nn.Module, x: Tensor, groups: list[Any]) -> float:
    """The share of multiply-accumulates of layers that a group makes smaller."""
    members = {id(dep.target.module) for group in groups for dep, _ in group}
    macs: dict[bool, float] = {True: 0.0, False: 0.0}

    def count(module: Any, _: Any, out: Tensor) -> None:
        macs[id(module) in members] += out.numel() * module.weight[0].numel()

    hooks = [own.register_forward_hook(count) for own in model.modules() if isinstance(own, _LAYERS)]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return macs[True] / max(sum(macs.values()), 1.0)


def units_of(pruner: Any, group: Any, hints: Hints) -> list[list[int]]:
    """Indices that the pruner removes together in the root of a group: one of each channel group or head, or a whole head."""
    n = len(group[0].idxs)
    attention, layers = pruner._is_atten_group(group)
    if attention and hints.rotary:
        heads, keys = (choose(hints.heads[layer] for layer in layers) for choose in (max, min))
        shared = heads // keys if heads != keys else heads  # those that read the same keys
        return [list(range(h * n // heads, (h + 1) * n // heads)) for h in range(shared)]
    groups = pruner._get_channel_groups(group)
    if n % groups:
        raise ValueError(f"{n} units are no multiple of {groups} groups")
    size = n // groups
    return [[unit + size * own for own in range(groups)] for unit in range(size)]


def members_of(pruner: Any, group: Any, unit: list[int], hints: Hints) -> dict[Any, Any]:
    """By layer and function: the dependency, and the indices that are removed with a unit."""
    root = group[0].dep
    found = pruner.DG.get_pruning_group(root.target.module, root.handler, unit)
    layers = pruner._is_atten_group(found)[1] if hints.rotary else []
    kept = {layer for layer in layers if hints.heads[layer] < max(hints.heads[own] for own in layers)}
    members = {}
    for dep, indices in found:
        function = getattr(dep.handler, "__self__", None)
        if isinstance(function, BasePruningFunc) and dep.target.module not in kept:
            members[dep.target.module, dep.handler] = (dep, sorted(indices))
    return members


@contextmanager
def permuting(order: list[int]) -> Iterator[None]:
    """Makes the tool's functions reorder parameters where they would remove entries."""
    original = BasePruningFunc._prune_parameter_and_grad

    def reorder(_: Any, weight: Any, kept: Any, dim: int) -> Any:
        n, m = (
            len(order),
            len(kept),
        )  # more for queries, keys and values in one; fewer for inputs of a grouped convolution
        own = [i + n * part for part in range(m // n) for i in order] if m >= n else order[:m]
        weight.data = weight.data.index_select(dim, torch.tensor(own))
        return weight

    BasePruningFunc._prune_parameter_and_grad = reorder
    try:
        yield
    finally:
        BasePruningFunc._prune_parameter_and_grad = original


def exchange(pruner: Any, group: Any, hints: Hints) -> int:
    """Units of a group that changed places."""
    units = units_of(pruner, group, hints)
    chosen: list[dict[Any, Any]] = []
    for i in torch.randperm(len(units), generator=torch.Generator().manual_seed(0))[: 2 * UNITS].tolist():
        own = members_of(pruner, group, units[i], hints)
        if all(set(own[key][1]).isdisjoint(other[key][1]) for other in chosen for key in own.keys() & other.keys()):
            chosen.append(own)
        if len(chosen) == UNITS:
            break
    if len(chosen) < 2:
        return 0
    for key, (dep, _) in chosen[0].items():
        places = [one[key][1] if key in one else [] for one in chosen]
        if len({len(own) for own in places}) > 1:
            raise ValueError(f"units of {dep.target.name} differ in size")
        graph = pruner.DG
        size = graph.get_out_channels if graph.is_out_channel_pruning_fn(dep.handler) else graph.get_in_channels
        order = list(range(size(dep.target)))
        if max(map(max, filter(None, places)), default=0) >= len(order):
            raise ValueError(f"indices beyond the size of {dep.target.name}")
        for own, other in zip(places, [*places[1:], places[0]], strict=True):
            for i, j in zip(own, other, strict=True):
                order[i] = j
        with permuting(order):
            dep([])
        if isinstance(module := dep.target.module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            for name in ("running_mean", "running_var"):
                setattr(module, name, getattr(module, name)[order])
    return len(chosen)


class Casts(TorchDispatchMode):
    """Whether an operation returns single precision."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.found |= isinstance(out, Tensor) and out.dtype is torch.float32 and out.numel() > 1
        return out


def permutation(model: nn.Module, inputs: Inputs, hints: Hints, row: Row) -> None:
    """How much outputs change when units of all groups change places."""
    x = inputs(2)
    if x.is_floating_point():
        x = x.double()
    pruner, groups = pruner_of(model.double(), x, hints, {})
    with torch.no_grad(), Casts() as casts:
        before = model(x)
    row["casts"] = casts.found
    with torch.no_grad():
        row["response"] = relative_difference([before], [model(x * (1 + 2**-52))]) if x.is_floating_point() else 0.0
    row["exchanged"] = sum(exchange(pruner, group, hints) > 0 for group in groups)
    with torch.no_grad():
        row["permuted"] = relative_difference([before], [model(x)])


def sizes_of(layer: Any) -> tuple[int, ...]:
    """Inputs and outputs of a layer."""
    names = ("in_features", "out_features", "in_channels", "out_channels", "embedding_dim", "num_features", "embed_dim")
    return tuple(getattr(layer, name) for name in names if isinstance(getattr(layer, name, None), int))


def follow(model: nn.Module, before: Mapping[nn.Module, tuple[int, ...]], hints: Hints, pruner: Any) -> None:
    """Updates widths and heads that modules keep as numbers, as the tool's examples do by hand."""
    for module in model.modules():
        changes: dict[int, set[int]] = {}
        head: dict[int, int] = {}
        inputs: dict[int, int] = {}
        for layer in module.children():
            for old, new in zip(before[layer], sizes_of(layer), strict=True):
                changes.setdefault(old, set()).add(new)
                inputs.setdefault(old, new)
            for own in layer.modules():
                if own not in hints.heads:
                    continue
                n, m = hints.heads[own], pruner.num_heads[own]
                for parts in (1, 2, 3):  # queries, keys and values in one
                    old, new = (size // parts for size in (before[own][1], sizes_of(own)[1]))
                    changes.setdefault(old, set()).add(new)
                    head |= {old: new, old // n: new // m}
                for name in _HEADS:
                    if getattr(module, name, None) == n != m:
                        setattr(module, name, m)
        for name, value in list(vars(module).items()):
            if type(value) is not int or not re.search("dim|size|channels|features|width", name):
                continue
            if "head" in name and value in head:
                setattr(module, name, head[value])
            elif value in inputs and re.search("^(in|num)_(channels|features)$", name):
                setattr(module, name, inputs[value])
            elif len(changes.get(value, ())) == 1 and not re.search(
                "kernel|window|patch|num_(?!channels|features)", name
            ):
                setattr(module, name, next(iter(changes[value])))


def pruning(model: nn.Module, inputs: Inputs, hints: Hints, row: Row) -> None:
    """Converts and prunes a model, and runs the network that comes out."""
    pruner, groups = pruner_of(model, inputs(2), hints, row)
    row["groups"] = len(groups)
    if not groups:
        raise ValueError("no group of layers to prune")
    row["converted"] = ""
    row["share"] = share_of(model, inputs(2), groups)
    size = sum(own.numel() for own in model.parameters())
    before = {own: sizes_of(own) for own in model.modules()}
    started = time.process_time()
    pruner.step()
    row["prune_s"] = time.process_time() - started
    follow(model, before, hints, pruner)
    row["kept"] = sum(own.numel() for own in model.parameters()) / size
    with torch.no_grad():
        for n in (1, 3):
            if not model(inputs(n)).isfinite().all():
                raise ValueError("outputs are not finite")
    if row["kept"] >= 1:
        raise ValueError("nothing was removed")
    row["pruned"] = ""


def _out_of_time(*_: Any) -> None:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    raise OutOfTimeError("no result within the CPU time")


def check(entry: Entry, build: Callable[[Entry], tuple[nn.Module, Inputs]]) -> Row:
    """The measurements of one model; `any_model_table.pruning_verdict` judges them."""
    signal.signal(signal.SIGXCPU, _out_of_time)
    row: Row = {}
    model, inputs = build(entry)
    for module in model.modules():
        if callable(choose := getattr(module, "set_attn_implementation", None)):
            choose("eager")
            break
    model.requires_grad_()
    for stage, names in ((pruning, ("converted", "pruned")), (permutation, ("permuted",))):
        own = copy.deepcopy(model) if stage is pruning else model
        try:
            stage(own, inputs, hints_of(own), row)
        except (Exception, OutOfTimeError) as error:
            why = f"{type(error).__name__}: {str(error)[:200]}"
            row |= {name: why for name in names if name not in row}
            if isinstance(error, OutOfTimeError):
                break
    return row
