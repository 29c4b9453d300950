"""Descriptions of weight sharing that validate themselves (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

from supernets.errors import SpaceError

_invalid = partial(SpaceError, code="sharing.invalid")

Routing = Literal["layer", "neuron"]
Kernels = Literal["centre", "transform"]
Correction = Literal["least-squares"]
Experts = Literal["merged"]
Statistics = Literal["kept"]

MAX_EXPERTS, MAX_HIDDEN, MAX_RANK = 64, 4096, 1024
"""Far above useful values; they catch typing errors."""


@dataclass(frozen=True, slots=True)
class MixtureSpec:
    """A mixture of supernets (Jawahar et al. 2023, arXiv 2306.04845): experts mixed by a router that reads the architecture.

    Attributes:
        experts: stored tensors per tensor of a mixed layer.
        routing: coefficients per block (``layer``), or per output of each layer (``neuron``).
        hidden: width of a router's hidden layer.
        constant_input: the router reads 0.5 everywhere instead of the architecture (ablation).
        layers: shell patterns of the names of modules to mix; empty for every convolution and linear layer whose weight has
            an elastic axis.

    Raises:
        SpaceError: a value is out of range; the message begins with the key.
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
            raise _invalid(f"constant_input: expected true or false, got {self.constant_input!r}")
        if not isinstance(self.layers, tuple) or not all(isinstance(p, str) and p for p in self.layers):
            raise _invalid(f"layers: expected module name patterns such as 'stages.*.expand.conv', got {self.layers}")


@dataclass(frozen=True, slots=True)
class SharingSpec:
    """How a subnet's tensors derive from the stored ones.

    Attributes:
        mixture: experts and their routers; None for one stored tensor each.
        kernels: the source of a smaller kernel: the larger one's centre, or a learned transform of it (Cai et al. 2020,
            arXiv 1908.09791).
        adapter_rank: rank of low-rank adapters of linear layers, which are trained in place of the weights; None to train the
            weights. With plain slices only.
        correction: how extracted subnets are corrected on calibration examples before they are used: their layers by least
            squares (`supernets.networks.correction`), of decoders the output projections
            (`supernets.families.decoder.correction`); None for no correction.
        experts: how layers of experts keep fewer of them: those that they drop are merged into the others
            (`supernets.sharing.expert_merging`); None for the first ones alone. With plain slices only.
        statistics: ``kept`` where the largest network is a trained model as it was, so that its batch norms have their
            statistics; None to take those of calibration examples, as of every trained supernet.

    Raises:
        SpaceError: a value is invalid; the message begins with the key.
    """

    mixture: MixtureSpec | None = None
    kernels: Kernels = "centre"
    adapter_rank: int | None = None
    correction: Correction | None = None
    experts: Experts | None = None
    statistics: Statistics | None = None

    def __post_init__(self) -> None:
        if self.mixture is not None and not isinstance(self.mixture, MixtureSpec):
            raise _invalid(f"mixture: expected a mapping with experts, routing, ...; got {self.mixture!r}")
        _check_word("kernels", self.kernels, get_args(Kernels))
        if self.correction is not None:
            _check_word("correction", self.correction, get_args(Correction))
        if self.statistics is not None:
            _check_word("statistics", self.statistics, get_args(Statistics))
        if self.adapter_rank is not None:
            _check_number("adapter_rank", self.adapter_rank, 1, MAX_RANK)
            if self.mixture is not None or self.kernels != "centre" or self.experts is not None:
                raise _invalid(
                    "adapter_rank: adapters are of plain slices; remove them, or mixture, kernels and experts"
                )
        if self.experts is not None:
            _check_word("experts", self.experts, get_args(Experts))
            if self.mixture is not None:
                raise _invalid("experts: merged experts are of plain slices; remove them, or mixture")

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads, for checkpoints."""
        # As earlier versions wrote it, which had none of the later keys.
        return {k: v for k, v in asdict(self).items() if k in ("mixture", "kernels") or v is not None}

    @classmethod
    def from_json(cls, data: object) -> SharingSpec:
        """The sharing that `to_json` wrote; also reads ``slice``, the name of plain sharing in job files.

        Args:
            data: A mapping with the keys ``mixture``, ``kernels``, ``adapter_rank``, ``correction``, ``experts`` and
                ``statistics``, each of which may be missing; or ``slice``.

        Raises:
            SpaceError: the data is malformed.
        """
        if data == "slice":
            return PLAIN
        if not isinstance(data, Mapping):
            raise _invalid(
                f"unknown sharing {data!r}; expected slice, or a mapping with mixture, kernels, correction or experts"
            )
        try:
            values = dict(data)
            if values.get("mixture") is not None:
                mixture = dict(values["mixture"])
                if isinstance(layers := mixture.get("layers"), list):
                    mixture["layers"] = tuple(layers)
                values["mixture"] = MixtureSpec(**mixture)
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise _invalid(f"the description of a sharing is malformed: {error}") from None


def _check_number(name: str, value: object, minimum: int, maximum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise _invalid(f"{name}: expected a whole number from {minimum} to {maximum}, got {value!r}")


def _check_word(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _invalid(f"{name}: expected {' or '.join(allowed)}, got {value!r}")


PLAIN = SharingSpec()
"""Plain weight sharing, by slices only."""
