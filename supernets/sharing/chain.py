"""The sharing of all supernets: slices of stored tensors, optionally mixed, transformed, merged or with adapters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from supernets.networks.family_checks import template_of
from supernets.networks.family_program import outline
from supernets.networks.live_subnets import channels_last, place
from supernets.sharing.adapters import Adapters
from supernets.sharing.base import Family, Sharing
from supernets.sharing.expert_merging import ExpertMerging
from supernets.sharing.kernels import KernelTransforms
from supernets.sharing.mixture import Mixture, mixed
from supernets.sharing.spec import PLAIN, SharingSpec
from supernets.space import Architecture
from supernets.space.axes import Dim, axes_in, check_dims, permute_tensor, slice_tensor


class ChainSharing(Sharing):
    """Slices the stored tensors, then mixes experts, then transforms kernels; or merges layers' experts; or adds adapters.

    Stored tensors have the template's names; those of a mixed layer are stacks of experts, (experts, *shape). `space.axes`
    slices and permutes all of them, routers included. Slicing first is cheaper and gives the same result, because it
    commutes with mixing, and with the transforms of kernels except in the kernel's own axis.

    Args:
        pretrained: tensors of the largest network, by name; experts then differ by noise that cancels in the largest subnet,
            which equals that network. None: the family's template, freshly initialised unless it is of a trained network.

    Raises:
        SpaceError: the family has no layer to mix, or no elastic kernel to transform.
        RuntimeError: the pretrained tensors are of another network.
    """

    def __init__(
        self, family: Family, spec: SharingSpec = PLAIN, *, pretrained: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.spec = spec
        self._family = family
        if pretrained is None:
            self.stored = channels_last(template_of(family))
        else:
            stored = outline(family).train()
            if any(parameter.is_meta for parameter in stored.parameters()):
                stored = stored.to_empty(device="cpu")
            self.stored = channels_last(stored)
            self.stored.load_state_dict(dict(pretrained), strict=True)
        self.mixture = None if spec.mixture is None else Mixture(family, spec.mixture, self.stored)
        self.kernels = KernelTransforms(family, self.stored) if spec.kernels == "transform" else None
        self._trainable = super().trainable()  # adapters freeze others
        self.adapters = None if spec.adapter_rank is None else Adapters(family, spec.adapter_rank, self.stored)
        self.merging = ExpertMerging(family, self.stored) if spec.experts == "merged" else None
        self._stacked = frozenset[str]()
        if self.mixture is not None:
            self._stacked = self.mixture.store_experts(self.stored, fresh=pretrained is None and not family.trained)
        self._dims = self._own_dims()
        check_dims({name: t.shape for name, t in self.state_dict().items()}, self._dims, family.axes)

    def _own_dims(self) -> Mapping[str, tuple[Dim, ...]]:
        """The dimensions of every tensor of this module, by its own names."""
        dims: dict[str, tuple[Dim, ...]] = {}
        for name, declared in self._family.dims().items():
            experts = self.mixture.experts if self.mixture is not None and name in self._stacked else None
            dims[f"stored.{name}"] = declared if experts is None else (experts, *declared)
        links = {"mixture": self.mixture, "kernels": self.kernels, "adapters": self.adapters, "merging": self.merging}
        for link, module in links.items():
            if module is not None:
                dims.update({f"{link}.{name}": declared for name, declared in module.dims().items()})
        return dims

    @property
    def template(self) -> nn.Module:
        return self.stored

    def trainable(self) -> frozenset[str]:
        return self._trainable

    def weights(self, architecture: Architecture) -> dict[str, Tensor]:
        return self._weights(architecture, folded=True)

    def placed(self, tree: nn.Module, architecture: Architecture) -> nn.Module:
        if self.adapters is None:
            return super().placed(tree, architecture)
        placed = place(tree, self._weights(architecture, folded=False))
        return self.adapters.attached(placed, self._family.sizes(architecture))

    def _weights(self, architecture: Architecture, *, folded: bool) -> dict[str, Tensor]:
        """A subnet's tensors; unless `folded`, without its adapters."""
        sizes, dropped = dict(self._family.sizes(architecture)), self._family.dropped(architecture)
        axes, kernels, merging = self._family.axes, self.kernels, self.merging
        prefixes = tuple(f"{name}." for name in dropped)  # of a tensor alone, too: with a dot after each name
        # Transforms cut the kernels themselves, and merges the numbers of experts.
        resized_axes = [link.axes for link in (kernels, merging) if link is not None]
        uncut = sizes | {axis: axes[axis].size for link_axes in resized_axes for axis in link_axes}
        tensors: dict[str, Tensor] = {}
        # The weights stay in single precision; only the forward runs under autocast.
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            coefficients = {} if self.mixture is None else self.mixture.coefficients(architecture)
            for name, parameter in self.stored.named_parameters():
                if f"{name}.".startswith(prefixes):
                    continue
                tensor = slice_tensor(parameter, self._dims[f"stored.{name}"], axes, uncut)
                if name in self._stacked:
                    tensor = mixed(tensor, coefficients[name.rpartition(".")[0]])
                if kernels is not None:
                    tensor = kernels.transformed(name, tensor, sizes)
                if merging is not None:
                    tensor = merging.merged(tensor, self._dims[f"stored.{name}"][0], sizes)
                if folded and self.adapters is not None:
                    tensor = self.adapters.adapted(name, tensor, sizes)
                tensors[name] = tensor
        for name, buffer in self.stored.named_buffers():
            if not f"{name}.".startswith(prefixes):
                sliced_buffer = slice_tensor(buffer, self._dims[f"stored.{name}"], axes, sizes)
                # A sliced buffer is a view: a forward in training mode would overwrite the stored statistics.
                tensors[name] = sliced_buffer.clone() if self.training else sliced_buffer
        return tensors

    @torch.no_grad()
    def permute(self, axis: str, order: Tensor) -> None:
        for name, tensor in self.state_dict().items():
            if axis in axes_in(dims := self._dims[name]):
                tensor.copy_(permute_tensor(tensor, dims, self._family.axes, axis, order.cpu()))

    def decayed(self) -> frozenset[str]:
        """Names of the parameters under weight decay, experts and routers included.

        Transforms of kernels are excluded: their neutral value is the identity, not zero.
        """
        vectors = {f"stored.{name}" for name in self._stacked if len(self._family.dims()[name]) == 1}
        return frozenset(n for n in super().decayed() if n not in vectors and not n.startswith("kernels."))
