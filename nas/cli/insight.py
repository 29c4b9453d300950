"""Prints the analysis of a search: convergence, predictor accuracy, importance of genes, diversity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.results.analysis.importance import Importance
    from nas.results.analysis.insight import Insight
    from nas.results.analysis.predictor_accuracy import PredictorAccuracy
    from nas.results.analysis.report import RunReport
    from nas.search.problem.objectives import Objective

_GENES = 5
_MIN_SHARE = 0.01


def print_insight(report: RunReport, insight: Insight) -> None:
    lines = [_convergence(report, insight)]
    objectives = {o.name: o for o in report.objectives}
    lines += [_predictor_accuracy(objectives[name], accuracy) for name, accuracy in insight.predictor_accuracy.items()]
    lines += [_importance(name, importance) for name, importance in insight.importance.items()]
    lines.append(_diversity(insight))
    print("\n".join(line for line in lines if line))


def _convergence(report: RunReport, insight: Insight) -> str:
    from nas.results.analysis.convergence import convergence

    curve, timeline = convergence(report), insight.timeline
    if curve is None or curve.close_at is None:
        return ""
    close = f"convergence: {curve.close_text}{_after(insight, int((timeline.evaluations < curve.close_at).sum()))}"
    if not timeline.front_positions:
        return close
    last = max(timeline.front_positions.values())
    newest = f"found at evaluation {timeline.evaluations[last]}{_after(insight, last)}"
    return f"{close}; the newest member of the front was {newest}"


def _after(insight: Insight, position: int) -> str:
    return f" ({float(insight.timeline.seconds[position]) / 60:.1f} min)"


def _predictor_accuracy(objective: Objective, accuracy: PredictorAccuracy) -> str:
    from nas.engine.formatting import prediction_error_text

    tau = "" if math.isnan(accuracy.kendall_tau) else f"Kendall tau {accuracy.kendall_tau:.2f}"
    error = prediction_error_text(objective, accuracy.errors)
    shown = ", ".join(filter(None, [tau, error, f"{100 * accuracy.coverage:.0f} % within their 90 % interval"]))
    about = f"{len(accuracy.step)} networks, chosen because they were promising"
    return f"predicted against measured {objective.name}: {shown} ({about})"


def _importance(name: str, importance: Importance) -> str:
    if importance.refused:
        return f"important genes for {name}: unknown, {importance.refused}"
    genes = [f"{gene} {lost:.2f}" for gene, lost in importance.by_gene.items() if lost >= _MIN_SHARE][:_GENES]
    return (
        f"important genes for {name}: {', '.join(genes)} (shares of its variance; an additive model of "
        f"{importance.n} evaluations, R² {importance.r2:.2f} cross-validated)"
    )


def _diversity(insight: Insight) -> str:
    diversity = insight.diversity
    if diversity is None:
        return ""
    shared = [f"{gene} {option}" for gene, option in diversity.shared.items() if option is not None]
    more = f" and {len(shared) - 2 * _GENES} more" if len(shared) > 2 * _GENES else ""
    same = f"; all have {', '.join(shared[: 2 * _GENES])}{more}" if shared else ""
    return (
        f"diversity of the front: its members differ in {diversity.mean:.1f} of {diversity.n_genes} genes on average "
        f"({diversity.min_distance} to {diversity.max_distance}; all evaluated: {diversity.evaluated:.1f}){same}"
    )
