"""Extraction of subnets as they are scored and exported: with statistics or weights fitted to calibration examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from supernets.families.decoder.correction import Correction
from supernets.families.decoder.decoder_network import Decoder
from supernets.networks.correction import LayerCorrection
from supernets.networks.threads import one_thread
from supernets.sharing.base import Supernet
from supernets.space import Architecture

SubnetCorrection = Correction | LayerCorrection
_CORRECTED_BYTES = 2**28
"""Limit of the corrected weights that are kept, since a finalist of a search is used twice."""


class Extraction:
    """Extracts subnets of a supernet, each recalibrated, and corrected where the supernet's sharing says so.

    Args:
        supernet: A supernet in evaluation mode; its weights must not change meanwhile.
        calibration: batches of training inputs, (n, ...) each; use the same ones for every subnet.
        keeps_corrected: True to keep what was changed in the last corrected subnets, which may then be extracted again.
        correction: That of another extraction with the same supernet and examples; None computes it where it is needed.
    """

    def __init__(
        self,
        supernet: Supernet,
        calibration: Sequence[Tensor],
        *,
        keeps_corrected: bool = False,
        correction: SubnetCorrection | None = None,
    ) -> None:
        self._supernet, self._calibration, self._keeps_corrected = supernet, calibration, keeps_corrected
        if correction is not None:
            self.correction = correction
        self._corrected: dict[Architecture, dict[str, Tensor]] = {}

    def __call__(self, architecture: Architecture) -> nn.Module:
        """A plain module with its own storage, in evaluation mode."""
        if (tensors := self._corrected.get(architecture)) is not None:
            network = self._supernet.extract(architecture).eval()
            network.load_state_dict(tensors, strict=False)
            return network
        network = self._supernet.extract(architecture).eval()
        versions = {name: tensor._version for name, tensor in network.state_dict().items()}
        network = self._fitted(architecture, network)
        corrected = self._supernet.sharing.spec.correction is not None
        if self._keeps_corrected and corrected and architecture != self._supernet.space.largest:
            fitted = network.state_dict().items()
            self._corrected[architecture] = {
                name: tensor.clone() for name, tensor in fitted if tensor._version != versions[name]
            }
            n_kept = max(1, _CORRECTED_BYTES // max(1, sum(t.nbytes for t in self._corrected[architecture].values())))
            while len(self._corrected) > n_kept:
                del self._corrected[next(iter(self._corrected))]
        return network

    def _fitted(self, architecture: Architecture, network: nn.Module) -> nn.Module:
        spec, largest = self._supernet.sharing.spec, self._supernet.space.largest
        if spec.statistics is None:
            recalibrate(network, self._calibration)
        if architecture == largest or (correction := self.correction) is None:
            return network
        if isinstance(correction, Correction):
            return correction(cast(Decoder, network))
        family, plain = self._supernet.family.plain(architecture)
        return correction(network, family.sizes(plain))

    @cached_property
    def correction(self) -> SubnetCorrection | None:
        """The correction of all subnets, which computes the largest network's activations once; None without one."""
        if self._supernet.sharing.spec.correction is None:
            return None
        largest = self._supernet.space.largest
        family, _ = self._supernet.family.plain(largest)
        with torch.no_grad():
            live = self._supernet.subnet(largest).eval()  # no copies of its weights
        if isinstance(live, Decoder):
            return Correction(live, self._calibration)
        return LayerCorrection(family.programs().of().elastic, self(largest), self._calibration)


@torch.no_grad()
def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Replaces the running statistics of batch and instance norms by averages over `batches`; returns the module in eval mode.

    A subnet's statistics differ from the supernet's, so do this before every evaluation, latency measurement and export.
    Batches are weighted by their sizes; a later batch of one input is skipped, because batch norm rejects it if one pixel of
    an image is left. Always runs on one thread: other numbers change the last bits of the statistics, which can change
    predictions of a quantised network.

    Args:
        module: An extracted network (a live subnet shares its statistics with the supernet).
        batches: inputs, each (n, ...); use the same ones for every subnet.
    """
    module.eval()
    norms = [norm for norm in module.modules() if isinstance(norm, _NormBase) and norm.track_running_stats]
    if not norms:
        return module
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.train()
    n_seen = 0
    try:
        with one_thread():
            for inputs in batches:
                if n_seen and len(inputs) == 1:
                    continue
                n_seen += len(inputs)
                for norm in norms:
                    norm.momentum = len(inputs) / n_seen  # turns the running average into the mean over all inputs
                module(inputs)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        module.eval()
    return module
