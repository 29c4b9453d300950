"""Plain weight sharing: a subnet uses slices of the largest network's tensors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernets.axes import permute_tensor, slice_tensor
from supernets.base import Family, Sharing, channels_last
from supernets.sharing.spec import PLAIN
from supernets.space import Architecture


class SliceSharing(Sharing):
    """Every tensor of a subnet is a slice (prefix or centre, by axis) of the stored one of the same name."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.spec = PLAIN
        self._family = family
        self._dims = family.dims()
        # Channels last: depthwise convolutions train about twice as fast on CPUs.
        self.stored = channels_last(family.template())

    @property
    def template(self) -> nn.Module:
        return self.stored

    def weights(self, architecture: Architecture) -> dict[str, Tensor]:
        sizes, dropped = self._family.sizes(architecture), self._family.dropped(architecture)
        axes = self._family.axes
        prefixes = tuple(f"{name}." for name in dropped)
        out: dict[str, Tensor] = {}
        for name, parameter in self.stored.named_parameters():
            if not name.startswith(prefixes):
                out[name] = slice_tensor(parameter, self._dims[name], axes, sizes)
        for name, buffer in self.stored.named_buffers():
            if not name.startswith(prefixes):
                cut = slice_tensor(buffer, self._dims[name], axes, sizes)
                # A sliced buffer is a view: a forward in training would overwrite the stored statistics.
                out[name] = cut.clone() if self.training else cut
        return out

    @torch.no_grad()
    def permute(self, axis: str, order: Tensor) -> None:
        for name, tensor in [*self.stored.named_parameters(), *self.stored.named_buffers()]:
            tensor.copy_(permute_tensor(tensor, self._dims[name], self._family.axes, axis, order))
