"""Live subnets: shallow clones of a module tree that hold a subnet's tensors for one training step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from supernets.errors import HOW_TO_ADD_A_FAMILY, SpaceError

_HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")
"""Ends of the names of a module's dictionaries of hooks."""
_OF_KERNELS = 4
"""Dimensions of the weights of convolutions of images."""


def clone_tree(module: nn.Module, dropped: frozenset[str] = frozenset(), prefix: str = "") -> nn.Module:
    """A copy of the module tree without the modules and tensors named in `dropped`; tensors and hooks are shared, not copied.

    Sequential and iterated ModuleList run the remaining children, which keep their names.
    """
    new: nn.Module = module.__class__.__new__(module.__class__)
    state = new.__dict__ = dict(module.__dict__)
    for box in ("_parameters", "_buffers"):
        state[box] = {name: tensor for name, tensor in getattr(module, box).items() if f"{prefix}{name}" not in dropped}
    state["_modules"] = {
        name: child and clone_tree(child, dropped, f"{prefix}{name}.")
        for name, child in module._modules.items()
        if f"{prefix}{name}" not in dropped
    }
    return new


def forward_problem(module: nn.Module) -> str:
    """The reason why calling a module computes something else than the forward of its class; "" if there is none."""
    if module._forward_hooks or module._forward_pre_hooks:
        return "has forward hooks, which extracted networks and graphs lack; make them a part of the forward"
    if "forward" in module.__dict__:
        return "has a forward that differs from its class's; make it a class"
    return ""


def place(module: nn.Module, weights: Mapping[str, Tensor], prefix: str = "") -> nn.Module:
    """Sets the tensors of a cloned tree by name, on the autograd graph; returns the module.

    Also sets the attributes that restate a shape (``in_channels``, ``padding``, ...).

    Raises:
        KeyError: a parameter or buffer of the tree has no tensor in `weights` (the full one would remain unnoticed).
        SpaceError: there is no rule for the attributes of a module that has tensors.
    """
    tensors: dict[str, Tensor] = {}
    for box in (cast(dict[str, Any], module._parameters), module._buffers):
        for name, old in box.items():
            if old is not None:
                box[name] = tensors[name] = weights[prefix + name]
    for name, child in module._modules.items():
        if child is not None:
            place(child, weights, f"{prefix}{name}.")
    if tensors:
        _fit_attributes(module, tensors, prefix)
    return module


def standalone(tree: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """A cloned tree with copies of a subnet's tensors, on the CPU and in single precision; in place, without gradients."""

    def copied(old: Tensor, new: Tensor) -> Tensor:
        dtype = torch.float32 if new.is_floating_point() else new.dtype
        layout = torch.channels_last if new.ndim == _OF_KERNELS else torch.contiguous_format
        tensor = new.detach().to("meta" if new.is_meta else "cpu", dtype).clone(memory_format=layout)
        return nn.Parameter(tensor, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else tensor

    tensors = tensors_in(tree)
    if differing := sorted(tensors.keys() ^ weights.keys()):
        raise KeyError(f"only one of the network and its weights has {', '.join(differing[:5])}")
    for module in tree.modules():  # a cloned tree shares its hooks with the template
        module.__dict__.update({key: type(hooks)() for key, hooks in vars(module).items() if key.endswith(_HOOKS)})
    return place(tree, {name: copied(old, weights[name]) for name, old in tensors.items()})


def channels_last(module: nn.Module) -> nn.Module:
    """The module in the channels-last layout, with which depthwise convolutions are about twice as fast on CPUs."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.ndim == _OF_KERNELS:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return module


def checkpointed(module: nn.Module, blocks: Collection[str]) -> nn.Module:
    """The live subnet, whose blocks compute their activations again in the backward pass; in place.

    Between the passes each block keeps its inputs only (activation checkpointing; Chen et al. 2016, arXiv 1604.06174).

    Args:
        blocks: names of modules; those that the subnet lacks are ignored.
    """
    for name, submodule in module.named_modules():
        if name in blocks:
            submodule.__dict__["forward"] = partial(
                checkpoint, submodule.forward, use_reentrant=False, preserve_rng_state=False
            )
    return module


def _fit_attributes(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Sets the attributes that restate shapes, by the module's own ``fit(weights)`` or by type."""
    match module:
        case nn.Module(fit=fit) if callable(fit):
            fit(tensors)
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            _fit_conv(module, tensors["weight"])
        case nn.Linear():
            module.out_features, module.in_features = tensors["weight"].shape
        case nn.modules.batchnorm._NormBase():  # batch norms and instance norms
            module.num_features = next(iter(tensors.values())).shape[0]
        case nn.GroupNorm():
            module.num_channels = tensors["weight"].shape[0]
        case nn.PReLU():
            module.num_parameters = tensors["weight"].shape[0]
        case nn.LayerNorm() | nn.RMSNorm():
            module.normalized_shape = tuple(tensors["weight"].shape)
        case nn.Embedding():
            module.num_embeddings, module.embedding_dim = tensors["weight"].shape
        case _:
            raise SpaceError(
                f"{prefix.removesuffix('.') or 'the network'} ({type(module).__name__}) has tensors, and no rule for the "
                "attributes that restate their sizes; expected a layer with a rule, such as Linear, Conv2d or LayerNorm, or a "
                f"module with a method fit(weights) that sets them, see {HOW_TO_ADD_A_FAMILY}",
                code="family.inconsistent",
            )


def _fit_conv(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, weight: Tensor) -> None:
    depthwise = conv.groups == conv.in_channels == conv.out_channels and conv.groups > 1
    conv.out_channels = weight.shape[0]
    if depthwise:
        conv.groups = weight.shape[0]
    conv.in_channels = weight.shape[1] * conv.groups
    old, conv.kernel_size = conv.kernel_size, tuple(weight.shape[2:])
    less = [d * (a - b) // 2 for d, a, b in zip(conv.dilation, old, conv.kernel_size, strict=True)]
    if not isinstance(conv.padding, str):  # the words follow the kernel
        conv.padding = tuple(p - n for p, n in zip(conv.padding, less, strict=True))
    # Read by padding modes other than zeros.
    repeated = [n for n in reversed(less) for _ in range(2)]
    conv._reversed_padding_repeated_twice = [
        p - n for p, n in zip(conv._reversed_padding_repeated_twice, repeated, strict=True)
    ]


def tensors_in(module: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a module by name, tied ones by each."""
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    return {**tensors, **dict(module.named_buffers(remove_duplicate=False))}
