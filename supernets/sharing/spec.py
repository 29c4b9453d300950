"""How subnets share weights, as values that check themselves (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from supernets.errors import SpaceError

Routing = Literal["layer", "neuron"]
Kernels = Literal["centre", "transform"]

MAX_EXPERTS, MAX_HIDDEN = 64, 4096
"""Far above what anybody trains, low enough that a slip of the finger is caught."""


@dataclass(frozen=True, slots=True)
class MixtureSpec:
    """A mixture of supernets (Jawahar et al. 2023, arXiv 2306.04845): experts mixed by a router that sees the architecture.

    Attributes:
        experts: how many tensors are stored for each tensor of a mixed layer.
        routing: one coefficient an expert for all mixed layers of a block, or one for every output unit of each layer.
        hidden: units of a router's hidden layer.
        constant_input: the router sees 0.5 everywhere instead of the architecture: the control without its information.
        layers: patterns (as of shells) of the names of modules to mix; none for every convolution and linear layer whose
            weight has an elastic axis.

    Raises:
        SpaceError: a value is out of range; the text begins with the key.
    """

    experts: int = 2
    routing: Routing = "layer"
    hidden: int = 64
    constant_input: bool = False
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_number("experts", self.experts, 2, MAX_EXPERTS)
        _check_word("routing", self.routing, get_args(Routing))
        _check_number("hidden", self.hidden, 1, MAX_HIDDEN)
        if not isinstance(self.constant_input, bool):
            raise SpaceError(f"constant_input: expected true or false, got {self.constant_input!r}")
        if not isinstance(self.layers, tuple) or not all(isinstance(p, str) and p for p in self.layers):
            raise SpaceError(
                f"layers: expected patterns of module names such as 'stages.*.expand.conv'; got {self.layers}"
            )


@dataclass(frozen=True, slots=True)
class SharingSpec:
    """The chain from stored tensors to a subnet's: mix, transform kernels, slice.

    Attributes:
        mixture: None for one stored tensor each.
        kernels: how a smaller kernel comes from a larger one: its centre, or a learned transform of the centre
            (Cai et al. 2020, arXiv 1908.09791).

    Raises:
        SpaceError: a value is none of those known; the text begins with the key.
    """

    mixture: MixtureSpec | None = None
    kernels: Kernels = "centre"

    def __post_init__(self) -> None:
        if self.mixture is not None and not isinstance(self.mixture, MixtureSpec):
            raise SpaceError(f"mixture: expected a mixture's experts, routing, ...; got {self.mixture!r}")
        _check_word("kernels", self.kernels, get_args(Kernels))

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads (after a trip through JSON too), for checkpoints."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> SharingSpec:
        """The sharing that `to_json` wrote; the word ``slice``, which plain sharing is called in job files, is read too.

        Raises:
            SpaceError: the data describe no such sharing.
        """
        if data == "slice":
            return PLAIN
        if not isinstance(data, Mapping):
            raise SpaceError(f"unknown sharing {data!r}; expected slice, or a mapping with mixture, kernels or both")
        try:
            values = dict(data)
            if values.get("mixture") is not None:
                mixture = dict(values["mixture"])
                if isinstance(layers := mixture.get("layers"), list):
                    mixture["layers"] = tuple(layers)
                values["mixture"] = MixtureSpec(**mixture)
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise SpaceError(f"the description of a sharing is malformed: {error}") from None


def _check_number(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SpaceError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")


def _check_word(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SpaceError(f"{name}: expected {' or '.join(known)}, got {value!r}")


PLAIN = SharingSpec()
"""Plain weight sharing: slices alone."""
