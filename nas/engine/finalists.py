"""The finalists of a search: which candidates are measured again, and their measurement by the longer protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas.engine.evaluation.base import Evaluator
from nas.engine.evaluation.cached_evaluator import CachedEvaluator
from nas.engine.evaluation.remeasuring import Remeasuring
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStore
from nas.search.problem.budget import MAX_FINALISTS
from nas.search.problem.constraints import feasible_within_noise, violations
from nas.search.problem.objectives import ACCURACY, Constraint, Evaluation, Fidelity, Objective, minimised
from nas.search.problem.pareto import non_dominated
from nas.search.problem.variants import Variants
from supernets.space import Architecture

_MAX_NEAREST = 8
"""Networks measured again where none keeps the constraints."""
PHASE = "measuring the front again"
"""Counts measurements: timings of all networks share their rounds, so that no network is complete before most are."""
_FLOORS = (0, 1, 2)
"""Margins, in noise floors, by which the finalists' fronts keep the limits."""


def choose_finalists(
    evaluations: Sequence[Evaluation],
    objectives: Sequence[Objective],
    anchors: Sequence[Architecture],
    constraints: Sequence[Constraint] = (),
) -> list[Architecture]:
    """The architectures to measure again: the feasible front, those that timing noise may put on it, and the anchors.

    Only latency can differ when it is measured again. A network that would be on the front if it were faster by its noise
    floor may belong there; the longer protocol decides. What keeps a limit by less than the noise floor may break it then,
    so the front of those that keep it by more is included. Where nothing is feasible, the nearest are taken.
    """
    usable = [e for e in evaluations if not e.failed and not e.screened_out]
    amounts = violations(usable, constraints)
    if not (amounts == 0).any():
        nearest_first = np.argsort(amounts, kind="stable")[:_MAX_NEAREST]
        return list(dict.fromkeys([*(usable[i].architecture for i in nearest_first), *anchors]))
    values = minimised(usable, objectives)
    errors = np.array(
        [[(e.measurements[o.name].error or 0.0) * (o.profile is not None) for o in objectives] for e in usable]
    )
    front = np.zeros(len(usable), dtype=bool)
    for floors in _FLOORS if constraints else (0,):
        feasible = feasible_within_noise(usable, constraints, floors=floors)
        front |= non_dominated(np.where(feasible[:, None], values, np.nan))
    chosen = {usable[i].architecture: None for i in np.flatnonzero(front)}
    optimistic, may_keep = values - errors, feasible_within_noise(usable, constraints, floors=-1)
    ahead = values[front]
    for i in np.flatnonzero(~front & may_keep):
        if len(chosen) >= max(MAX_FINALISTS, int(front.sum())):
            break
        beaten = np.all(ahead <= optimistic[i], axis=1) & np.any(ahead < optimistic[i], axis=1)
        if not beaten.any():
            chosen.setdefault(usable[i].architecture, None)
    return list(dict.fromkeys([*chosen, *anchors]))


def measure_finalists(
    architectures: Sequence[Architecture],
    metrics: Sequence[Objective],
    evaluator: Evaluator,
    store: RunStore,
    *,
    variants: Variants = Variants(),  # noqa: B008 - a frozen value
    scored: Objective = ACCURACY,
    earlier: Sequence[Architecture] = (),
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
) -> None:
    """Times the finalists by the longer protocol and scores them on the test part; measurements in the store are kept.

    What is uncertain is measured once more.

    Args:
        scored: the metric of the test part.
        earlier: finalists that were measured before, which remain finalists.
    """
    store.update_state(finalists=tuple(dict.fromkeys([*earlier, *architectures])))
    requests = [variants.test_request(a, scored) for a in architectures]
    timed = [o for o in metrics if o.profile is not None]
    requests += [variants.request(a, o, Fidelity.FINAL) for o in timed for a in architectures]
    on_progress(SearchProgress(PHASE, 0, len(requests)))
    remeasuring = Remeasuring(CachedEvaluator(evaluator, store.attempts, keep=store.add))
    for done, _ in enumerate(remeasuring.evaluate(requests), 1):
        on_progress(SearchProgress(PHASE, done, len(requests), uncertain=remeasuring.n_uncertain))
    remeasuring.last()
