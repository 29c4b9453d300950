"""The improvement of one network by fine-tuning it in a run of its own, from the stores of both runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nas.engine.store.base import RunStore
from nas.results.analysis.significance import Comparison, compare_scores
from nas.search.problem.objectives import ACCURACY, Fidelity, Objective, Request, Variant
from supernets.space import Architecture

_FIDELITIES = {"validation": Fidelity.SEARCH, "test": Fidelity.TEST}


@dataclass(frozen=True, slots=True)
class FinetunedNetwork:
    """A network of a run that another run fine-tunes.

    Attributes:
        run: The run that has the network.
        network: Its architecture, without its variant.
        variant: Variant in which it is measured and deployed.
        key: Key by which commands select it in that run; None where that run is a training.
    """

    run: str
    network: Architecture
    variant: Variant
    key: str | None

    @property
    def precision(self) -> str:
        """The precision of its variant."""
        return self.variant.precision


@dataclass(frozen=True, slots=True)
class Change:
    """A metric of the task before and after, with their comparison."""

    before: float
    after: float
    comparison: Comparison

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        compared = self.comparison
        return {
            "before": self.before,
            "after": self.after,
            "gain": compared.difference,
            "threshold": compared.threshold,
            "method": compared.method,
            "distinguishable": compared.distinguishable,
        }


@dataclass(frozen=True, slots=True)
class Improvement:
    """The result of fine-tuning a network.

    Attributes:
        best_epoch: the epoch whose weights were kept: the best on the validation part in fp32; 0 where no epoch was better
            than the weights before; None where the last epoch's were kept regardless.
        scored: the metric of the task.
        parts: the changes by part of the data; without a part on which the network was not scored before.
    """

    of: FinetunedNetwork
    best_epoch: int | None
    epochs: int
    parts: dict[str, Change]
    scored: Objective = ACCURACY

    @property
    def improved(self) -> bool:
        """True if the network is better on the validation part, as measured in the precision in which it is deployed."""
        change = self.parts.get("validation")
        if change is None or self.best_epoch == 0:
            return False
        return self.scored.sign * change.after < self.scored.sign * change.before

    @property
    def better_in_fp32(self) -> bool | None:
        """True if the network is better in fp32: as measured, or by the training's validation where it is measured in another
        precision; None without validation."""
        if self.of.precision == "fp32":
            return self.improved
        return None if self.best_epoch is None else self.best_epoch > 0

    @property
    def verdict(self) -> str:
        """The result as text."""
        change, precision = self.parts.get("validation"), self.of.precision
        if self.best_epoch == 0:
            return "no epoch made it better"
        if change is None:
            return f"not compared: its {self.scored.name} before was not measured in {precision}"
        if self.improved:
            return "better" if change.comparison.distinguishable else "better, within the error: a tie"
        return f"no better in {precision}" + (", though in fp32" if self.better_in_fp32 else "")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "of": self.of.run,
            "network": self.of.network.key,
            "key": self.of.key,
            "precision": self.of.precision,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "improved": self.improved,
            "better_in_fp32": self.better_in_fp32,
            "verdict": self.verdict,
            **{part: change.to_json() for part, change in self.parts.items()},
        }


def network_of(run: str, store: RunStore, network: Architecture, variant: Variant) -> FinetunedNetwork:
    """A network of a search, described by the search's store."""
    variants = store.search_facts().variants
    request = Request(network, "macs", None, Fidelity.SEARCH, *variant)
    return FinetunedNetwork(run, network, variant, variants.candidate(request).key if variant in variants else None)


def improvement_between(of: FinetunedNetwork, after: RunStore, before: RunStore) -> Improvement:
    """The improvement of a network.

    Args:
        after: the store of the finished run that fine-tuned it.
        before: the store that has its measurements from before.

    Raises:
        StoreError: stored answers are damaged.
    """
    facts, search = after.facts(), after.search_facts()
    scored = search.scored
    single, _ = search.variants.split(search.space.largest)
    parts = {}
    for part, fidelity in _FIDELITIES.items():
        now, then = (Request(a, scored.name, None, fidelity, *of.variant) for a in (single, of.network))
        new, old = after.find([now]).get(now), before.find([then]).get(then)
        if new is not None and old is not None and new.value is not None and old.value is not None:
            parts[part] = Change(old.value, new.value, compare_scores((after, new), (before, old)))
    return Improvement(of, after.state().best_epoch, facts.epochs if facts else 0, parts, scored)
