"""Dimensions that the specs of transformers have in common (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from supernets.errors import DimensionError
from supernets.families.shared.spec import Number, Options, Ratios, Spec, dimensions

Gates = Literal["softmax", "softmax-all", "sigmoid", "equal"]
KeptLayers = Literal["first", "spread"]
"""The layers that a smaller depth may keep."""


@dataclass(frozen=True)
class ExpertsSpec(Spec):
    """The experts of a space of transformers, whose layers may have them in place of an MLP.

    Attributes:
        experts: numbers of experts that a layer keeps, its first ones, in place of one MLP; None for MLPs. Each expert is an
            MLP of the layer's hidden channels, and a router sends each token to some of them (arXiv 1701.06538).
        active_experts: numbers of experts that each token of a layer is sent to; a layer that keeps fewer sends it to all.
        gates: factors of the experts' outputs, see `supernets.experts.mixing`.
        routers: ``learned``, or ``random`` and never trained, as in SMoE-Dropout (Chen et al. 2023, arXiv 2303.01610).
        shared_hidden: channels of a further expert of each layer that all tokens are sent to; None for none.
        shared_gate: whether that one's output is multiplied by the sigmoid of a linear function of the token, as in Qwen2-MoE.
        expert_rank: numbers of channels that a layer's experts read, which one matrix for all of them makes of tokens, as in
            MoLAE (Liu et al. 2025, arXiv 2503.23100); None where experts read tokens.
        null_experts: numbers of further experts of a layer that compute nothing, as in AdaMoE (Zeng et al. 2024, arXiv
            2406.13233): a token is sent to as many experts fewer as it chooses of them; None for none.
        top_p: shares of probability (Huang et al. 2024, arXiv 2403.07652): a token is sent to the fewest experts, the most
            probable ones, whose probabilities sum to it, at most to `active_experts`; with 1, and for None, to all of these.
    """

    experts: Annotated[tuple[int, ...], Options(512)] | None = field(default=None, kw_only=True)
    active_experts: Annotated[tuple[int, ...], Options(512)] | None = field(default=None, kw_only=True)
    gates: Gates = field(default="softmax", kw_only=True)
    routers: Literal["learned", "random"] = field(default="learned", kw_only=True)
    shared_hidden: Annotated[int, Number(65536, "a number of channels")] | None = field(default=None, kw_only=True)
    shared_gate: bool = field(default=False, kw_only=True)
    expert_rank: Annotated[tuple[int, ...], Options(8192)] | None = field(default=None, kw_only=True)
    null_experts: Annotated[tuple[int, ...], Options(512, minimum=0)] | None = field(default=None, kw_only=True)
    top_p: Annotated[tuple[float, ...], Ratios(1)] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.experts is None:
            self._check_without_experts()
        elif self.active_experts is None:
            problem = "is missing; give the numbers of experts that each token is sent to, e.g. [1, 2]"
            raise DimensionError("active_experts", problem, code="space.missing-dimension")
        else:
            for end, bound in ((0, "least"), (-1, "most")):
                active, experts = self.active_experts[end], self.experts[end]
                if active > experts:
                    problem = f"tokens cannot be sent to {active} experts of a layer that has at {bound} {experts}"
                    raise DimensionError("active_experts", f"{problem}; begin and end it no higher than experts")
        if self.shared_gate and self.shared_hidden is None:
            raise DimensionError("shared_gate", "is of a shared expert; give shared_hidden, or remove it")
        for name in ("null_experts", "top_p"):
            if getattr(self, name) is not None:
                self._check_varying(name)
        if self.null_experts == (0,):
            raise DimensionError("null_experts", "[0] is none; end it in a larger number, or remove it")
        if self.top_p == (1,):
            raise DimensionError("top_p", "[1] drops no expert; begin it with a smaller number, or remove it")
        if self.top_p is not None and self.active_experts is not None and self.active_experts[0] == 1:
            raise DimensionError(
                "top_p",
                "chooses among a token's active_experts, and of 1 there is no choice; begin active_experts with 2 or more",
            )

    def _check_varying(self, name: str) -> None:
        """Checks a dimension with which the number of a token's experts depends on the router."""
        if not self.gates.startswith("softmax"):
            raise DimensionError(name, f"needs the gates softmax or softmax-all, got {self.gates}; write one of them")
        if self.routers == "random":
            raise DimensionError(
                name,
                "needs routers that learn how many experts a token has, got routers: random; write learned, or remove one",
            )

    def _check_without_experts(self) -> None:
        for dimension in dimensions(ExpertsSpec):
            # That a shared expert is missing is said of its gate alone.
            if dimension.name not in ("experts", "shared_gate") and getattr(self, dimension.name) != dimension.default:
                problem = "is of layers with experts, and experts is not given; give it, or remove this"
                raise DimensionError(dimension.name, problem)


@dataclass(frozen=True)
class LayersSpec(ExpertsSpec):
    """The layers of a whole space of transformers, with the options of its elastic dimensions, each smallest first.

    Depth and width are chosen once for the network; heads and the MLP's hidden channels anew for each layer, from the same
    options, as InstaTune has them (Sarah et al. 2023, arXiv 2308.15609), whose width is fixed.

    Attributes:
        head_size: channels of a head.
        depth: numbers of layers.
        width: channels of a token.
        heads: numbers of heads of a layer's attention.
        hidden: channels of a layer's MLP.
        kept: which layers a smaller depth keeps: the ``first``, or layers ``spread`` from first to last. In a pretrained
            network the last ones gather what the classifier reads: without them, small parts of MiniLM stayed at chance after
            a short training (tests/benchmarks, "Subnets of a pretrained network").
    """

    head_size: Annotated[int, Number(512, "a number of channels")]
    depth: Annotated[tuple[int, ...], Options(64)]
    width: Annotated[tuple[int, ...], Options(8192)]
    heads: Annotated[tuple[int, ...], Options(128)]
    hidden: Annotated[tuple[int, ...], Options(65536)]
    kept: KeptLayers = field(default="first", kw_only=True)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "kept": self.kept}  # in the digests of earlier versions, though at its default


def sixths(size: int, parts: Sequence[int]) -> tuple[int, ...]:
    """Options of these sixths of a size of a pretrained network, each at least 1."""
    return tuple(sorted({max(1, size * part // 6) for part in parts}))
