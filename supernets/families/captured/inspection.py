"""The inspection of a captured model: its choices, what stays fixed and why, its costs, and the proof of its axes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from supernets.families.captured.captured_family import CapturedFamily, layer_names
from supernets.networks.capture.blocks import elastic_share
from supernets.networks.capture.captured_model import CapturedModel
from supernets.networks.capture.model_proof import Proof, prove_model
from supernets.networks.capture.space import ChoiceMembers, SpaceOptions
from supernets.space.cost import Cost


@dataclass(frozen=True, slots=True)
class LayerWork:
    """The multiply-accumulates of a part of the network, in the smallest and in the largest one."""

    name: str
    smallest: int
    largest: int


@dataclass(frozen=True)
class Inspection:
    """The choices, fixed parts, costs and proof of a captured model.

    Attributes:
        choices: Choices of its space, with what each changes.
        size: Number of networks in the space.
        fixed: Names of tensors with dimensions that stay as they are, by reason.
        unknown: Number of calls of operations without a rule, by operation.
        tied: Further names of tied tensors, by alias.
        share: Share of multiply-accumulates that is elastic, from 0 to 1.
        proof: Proof that the axes are right; None if it was not computed.
        layers: Work of the layers, in their order.
    """

    model: CapturedModel
    choices: tuple[ChoiceMembers, ...]
    size: int
    fixed: dict[str, tuple[str, ...]]
    unknown: dict[str, int]
    tied: dict[str, str]
    share: float
    largest: Cost
    smallest: Cost
    proof: Proof | None
    layers: tuple[LayerWork, ...] = ()

    def grouped(self, max_parts: int) -> tuple[LayerWork, ...]:
        """Returns at most `max_parts` parts with all the work: the layers, or modules that contain several of them."""
        depth = max((layer.name.count(".") + 1 for layer in self.layers), default=1)
        macs_by_name: dict[str, tuple[int, int]] = {}
        for n in range(depth, 0, -1):
            macs_by_name = {}
            for layer in self.layers:
                name = ".".join(layer.name.partition(":")[0].split(".")[:n])
                small, large = macs_by_name.get(name, (0, 0))
                macs_by_name[name] = (small + layer.smallest, large + layer.largest)
            if len(macs_by_name) <= max_parts:
                break
        parts = [LayerWork(name, *work) for name, work in macs_by_name.items() if work[1]]
        if len(parts) > max_parts:
            largest_parts = set(sorted(parts, key=lambda part: -part.largest)[: max_parts - 1])
            small_parts = [part for part in parts if part not in largest_parts]
            smallest, largest = sum(part.smallest for part in small_parts), sum(part.largest for part in small_parts)
            parts = [*(part for part in parts if part in largest_parts), LayerWork("others", smallest, largest)]
        return tuple(parts)

    def to_json(self) -> dict[str, Any]:
        """The output of `nas inspect --json`."""
        costs = {
            name: {"parameters": cost.parameters, "macs": cost.macs, "activation_bytes": cost.activation_bytes}
            for name, cost in (("largest", self.largest), ("smallest", self.smallest))
        }
        proof = None if self.proof is None else {**asdict(self.proof), "holds": self.proof.holds}
        return {
            "model": self.model.name,
            "input": list(self.model.input_shape),
            "outputs": [list(spec.shape[1:]) for spec in self.model.outputs],
            "networks": self.size,
            "choices": [asdict(choice) for choice in self.choices],
            "fixed": {reason: list(names) for reason, names in self.fixed.items()},
            "unknown_operations": self.unknown,
            "unused_parameters": list(self.model.unused),
            "tied_tensors": self.tied,
            "notes": list(self.model.notes),
            "elastic_share_of_macs": self.share,
            "layers": [
                {"name": layer.name, "smallest_macs": layer.smallest, "macs": layer.largest} for layer in self.layers
            ],
            **costs,
            "proof": proof,
        }


def inspect_model(model: CapturedModel, options: SpaceOptions, *, proof: bool = True) -> Inspection:
    """The choices, costs and proof of a captured model.

    Args:
        proof: compute the proof, which runs the network a few times in double precision.

    Raises:
        SpaceError: nothing in it is elastic.
        CaptureError: the proof cannot be computed, since the model does not run with other batches than its example's.
    """
    family = CapturedFamily(model.program, options, tensors=model.tensors)
    # By the modules of the model, which are finer than the blocks of the family: a mask that all layers read joins these.
    costs = family.program.layer_costs(layer_names(model.program))
    ends = [family.space.largest, family.space.smallest]
    sizes = {name: torch.tensor([family.sizes(a)[name] for a in ends]).numpy() for name in family.axes}
    table = costs.costs(sizes, [family.dropped(a) for a in ends])
    work = zip(table.blocks, *table.macs[::-1].tolist(), strict=True)
    return Inspection(
        model,
        family.members(),
        family.space.size,
        dict(family.elastic.fixed),
        dict(family.elastic.unknown),
        dict(model.program.aliases),
        elastic_share(family.elastic),
        table.cost(0),
        table.cost(1),
        prove_model(model, options, elastic=family.elastic) if proof else None,
        tuple(LayerWork(name, small, large) for name, small, large in work if large),
    )
