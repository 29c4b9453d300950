"""The order in which the depths of a job's decoders drop layers, by importance measured on the training text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

from torch import Tensor

from nas.engine.store.folder import RunFolder
from nas.errors import JobError
from nas.jobs.build.pretrained import Pretrained
from supernets.families.decoder.activations import block_influence
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.decoder_pretrained import DecoderConfig
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.families.shared.pretrained_transformer import PretrainedTransformer
from supernets.families.shared.spec import Spec
from supernets.networks.family_program import outline
from supernets.sharing.base import Family
from supernets.training.checkpoint import Checkpoint, has_checkpoint, stored_family

LayerOrder = Callable[[Spec | None], Spec | None]
"""Gives a spec whose layers are kept by importance their order; returns others as they are."""


def layer_order(
    checkpoint: Checkpoint | None, run: RunFolder | None, pretrained: Pretrained | None, text: Tensor, *, source: str
) -> LayerOrder:
    """The order of a job's layers: that of its trained supernet, else measured on its pretrained network.

    Args:
        checkpoint: Checkpoint of the trained supernet that the job names; None without one.
        run: the run that the job belongs to, where it has begun.
        text: token ids of the training part, (n, tokens).
    """

    def ordered(spec: Spec | None) -> Spec | None:
        if not isinstance(spec, DecoderSpec) or not spec.unordered:
            return spec
        if checkpoint is not None:
            return replace(spec, order=_stored_order(checkpoint.supernet.family))
        if run is not None and has_checkpoint(run.checkpoint):
            return replace(spec, order=_stored_order(stored_family(run.checkpoint)))
        if pretrained is None or (network := pretrained.network()) is None:
            fault = "importance is that of a pretrained network's layers, and the job names none"
            raise JobError(f"{source}: supernet.space.kept: {fault}; write first or spread", code="job.conflict")
        if spec.depth[-1] != pretrained.config.depth:
            return replace(spec, kept="first")  # which its family rejects, naming both depths
        return replace(spec, order=_measured_order(network, text))

    return ordered


def _stored_order(family: Family) -> tuple[int, ...] | None:
    plain, _ = family.plain(family.space.largest)
    return plain.spec.order if isinstance(plain, DecoderFamily) else None


def _measured_order(pretrained: PretrainedTransformer, text: Tensor) -> tuple[int, ...]:
    """The layers by ascending influence."""
    config = cast(DecoderConfig, pretrained.config)
    family = DecoderFamily(config.space(), tokens=1, **config.fixed)
    network = cast(Decoder, family.standalone(outline(family), family.space.largest, pretrained.weights(family)).eval())
    influence = block_influence(network, [text])
    return tuple(sorted(range(len(influence)), key=influence.__getitem__))
