"""The losses that single options add to a pretrained decoder, from which networks are solved for limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from nas.jobs.build.built_job import BuiltJob
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH
from nas.search.budgets.additive_scores import reduced_networks
from supernets.families.decoder.activations import parts_of
from supernets.families.decoder.correction import Correction
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.part_losses import PartLosses, interpolated_loss, sizes_to_measure
from supernets.sharing.base import Supernet
from supernets.space import INACTIVE


class OptionLosses:
    """The losses that each option of each choice alone adds to the largest network's; see `PartLosses`.

    Of hidden channels, some sizes are measured, and the losses of others interpolated, see `interpolated_loss`.

    Args:
        built_job: Job that `has_option_losses`.
        supernet: Its supernet, in evaluation mode.

    Attributes:
        networks: The networks whose losses are measured, by the name of the choice and the level that is reduced.
    """

    def __init__(self, built_job: BuiltJob, supernet: Supernet) -> None:
        calibration, train = built_job.data.calibration, built_job.data.dataset.train.inputs
        texts = train[len(calibration.inputs) :] if len(train) > len(calibration.inputs) else train
        self._space = supernet.space
        choices, largest = self._space.choices, self._space.largest
        self._sizes = {c.name: cast("tuple[int, ...]", c.options) for c in choices if c.name.endswith(".hidden")}
        self._measured_sizes = {name: sizes_to_measure(sizes) for name, sizes in self._sizes.items()}
        self.networks = {
            (choice.name, gene): network
            for network in reduced_networks(self._space)
            for choice, gene, largest_gene in zip(choices, network.genes, largest.genes, strict=True)
            if gene not in (largest_gene, INACTIVE)
            and choice.options[gene] in self._measured_sizes.get(choice.name, choice.options)
        }
        with torch.no_grad():
            self._whole = cast(Decoder, supernet.subnet(largest).eval())
            self._correction = Correction(self._whole, calibration.split(CALIBRATION_BATCH))
        self.loss_of = PartLosses(supernet, self._correction, texts)

    def measured(self, note: Callable[[str], None]) -> dict[str, list[float]]:
        """The loss of each level of each choice, by the choice's name.

        Args:
            note: Called with the progress, some ten times.
        """
        losses = {choice.name: [0.0] * len(choice.options) for choice in self._space.choices}
        for n, ((name, level), network) in enumerate(self.networks.items()):
            if n and n % -(-len(self.networks) // 10) == 0:
                note(f"measured the losses of {n} of {len(self.networks)} options")
            losses[name][level] = self.loss_of(network)
        self._interpolate(losses)
        return losses

    def _interpolate(self, losses: dict[str, list[float]]) -> None:
        parts = parts_of(self._whole)
        for name, measured_sizes in self._measured_sizes.items():
            sizes, by_size = self._sizes[name], losses[name]
            known = {size: by_size[sizes.index(size)] for size in measured_sizes if size > 0}
            missing = [size for size in sizes[:-1] if size > 0 and size not in known]
            number = 2 * int(name.removeprefix("layer").split(".")[0]) + 1
            errors = self._correction.prefix_errors(parts[number], number) if missing else None
            for size in missing:
                by_size[sizes.index(size)] = interpolated_loss(cast(Tensor, errors), known, size)
