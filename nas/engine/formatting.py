"""Texts of values: units, scales and digits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from supernets.space import SEPARATOR

if TYPE_CHECKING:  # the command line loads this module at its start
    from nas.engine.run_listing import RunSnapshot
    from nas.engine.store.run_state import RunState
    from nas.search.problem.constraints import NearestInfeasible
    from nas.search.problem.objectives import Constraint, Objective
    from supernets.space import Option

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
"""A control sequence of a terminal (ECMA-48), as libraries write for colours."""
_PARTS = 6
"""Parts of an outline at most."""
_STAGE = re.compile(r"(stage\d+)?")
_BLOCK = re.compile(r"(?:block|layer)s?\d+$")
"""The places of choices in a network, as families name them."""

_SHOWN_UNITS = {"share": ("%", 100.0), "MACs": ("M", 1e-6), "parameters": ("k", 1e-3), "bytes": ("KiB", 1 / 1024)}
"""The unit shown, and its factor, in place of a stored one."""


_SMALL = 0.01
"""Values of smaller magnitude have more decimals."""
_MAX_PERCENT = 10.0
"""Larger shares are shown as factors."""


def _shown(objective: Objective) -> tuple[str, float]:
    """Unit shown and factor of a metric; one that is not shipped is shown as it is stored, but for shares of a task."""
    if objective.is_shipped or (objective.of_task and objective.unit == "share"):
        return _SHOWN_UNITS.get(objective.unit, (objective.unit, 1.0))
    return objective.unit, 1.0


def shown_scale(objective: Objective) -> float:
    """The factor from the stored unit to the unit shown (accuracy: share to per cent)."""
    return _shown(objective)[1]


def shown_unit(objective: Objective) -> str:
    """The unit shown."""
    return _shown(objective)[0]


def title_of(objective: Objective) -> str:
    """The objective with its unit, for an axis or a column: ``Latency (ms), cpu-1-thread``."""
    title, (unit, _) = objective.title, _shown(objective)
    profile = f", {objective.profile}" if objective.profile else ""
    return f"{title} ({unit}){profile}" if unit else f"{title}{profile}"


def without_ansi(text: str) -> str:
    """A text without the control sequences by which terminals show colours."""
    return _ANSI.sub("", text)


def counted(n: int, noun: str) -> str:
    """A number of things: ``1 network``, ``2,048 networks``.

    Args:
        n: Number of things.
        noun: The noun in the singular, whose plural ends with an s.
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def format_value(objective: Objective, value: float, error: float | None = None) -> str:
    """A value in the unit shown, with its error where that is above 0: ``88.95 ± 0.31 %``."""
    unit, factor = _shown(objective)
    shown, spread = value * factor, (error or 0.0) * factor
    if not spread and (not objective.is_shipped or not unit):  # of any magnitude
        return f"{shown:.4g} {unit}".rstrip()
    if not spread:  # four significant digits, two of small values, never in exponents
        decimals = max(0, 4 - len(str(int(abs(shown)))))
        if 0 < abs(shown) < _SMALL:
            decimals = 1 - math.floor(math.log10(abs(shown)))
        return f"{shown:.{decimals}f} {unit}"
    decimals = _decimals(spread)
    return f"{shown:.{decimals}f} ± {spread:.{decimals}f} {unit}".rstrip()


def bound_text(objective: Objective, bound: float) -> str:
    """A bound that a user chose, in the unit shown and without trailing zeros: ``1 ms``."""
    unit, factor = _shown(objective)
    return f"{bound * factor:.6g} {unit}".rstrip()


def constraint_text(constraint: Constraint) -> str:
    """A constraint: ``latency_ms@cpu-1-thread at most 2 ms``."""
    bounds = (("at least", constraint.minimum), ("at most", constraint.maximum))
    texts = [f"{word} {bound_text(constraint.metric, bound)}" for word, bound in bounds if bound is not None]
    return f"{constraint.metric.name} {' and '.join(texts)}"


def miss_text(miss: NearestInfeasible) -> str:
    """The constraints that a candidate breaks: ``latency_ms@cpu-1-thread 2.31 ms (at most 2 ms: 15.5 % over)``."""
    texts = []
    for constraint, value in miss.broken:
        above = constraint.maximum is not None and value > constraint.maximum
        bound = constraint.maximum if above else constraint.minimum
        assert bound is not None  # it is broken
        word = "at most" if above else "at least"
        share = abs(value - bound) / (abs(bound) or 1.0)
        excess = f"{share_text(share)} {'over' if above else 'under'}"
        if share > _MAX_PERCENT and bound:
            excess = f"{share_text(value / bound)} as much"
        shown = value * shown_scale(constraint.metric)
        digits = f"{shown:.4g}" if abs(shown) < 1e4 else f"{shown:.0f}"  # enough to differ from a bound close by
        beyond = f"{word} {bound_text(constraint.metric, bound)}: {excess}"
        with_unit = f"{digits} {shown_unit(constraint.metric)}".rstrip()
        texts.append(f"{constraint.metric.name} {with_unit} ({beyond})")
    return ", ".join(texts)


def share_text(share: float) -> str:
    """A share of at least 0 in per cent, ``15.5 %``; above 1,000 % as a factor: ``23 times``."""
    if share > _MAX_PERCENT:
        return f"{share:.3g} times" if share < 1000 else f"{share:.0f} times"
    decimals = 2 if share < 0.01 else 1 if share < 1 else 0
    return f"{100 * share:.{decimals}f} %"


def prediction_error_text(objective: Objective, errors: Mapping[str, float | None]) -> str:
    """The error of predictions: ``RMSE 1.2 points`` of an accuracy, ``RMSE 0.3`` of others of a task, ``MAPE 4.96 %`` of
    costs; "" if unknown.

    Args:
        errors: ``rmse``, in the objective's unit, and ``mape``, a share.
    """
    if objective.of_task:
        rmse, points = errors.get("rmse"), " points" if shown_unit(objective) == "%" else ""
        return "" if rmse is None else f"RMSE {shown_scale(objective) * rmse:.3g}{points}"
    mape = errors.get("mape")
    return "" if mape is None else f"MAPE {share_text(mape)}"


def _decimals(spread: float) -> int:
    """Decimals that show two significant digits of an error."""
    decimals = 0
    while decimals < 6 and spread * 10**decimals < 9.5:
        decimals += 1
    return decimals


def outline(options: Mapping[str, Option], titles: Mapping[str, str]) -> str:
    """An architecture in a line: depths and widths by stage, then the ranges of its blocks' options.

    ``depth 2-3, width 16-32; kernel 3–5, expand 1–4``; of many parts without stages, depths and other ranges.

    Args:
        options: Options by choice name, without those of inactive choices.
        titles: `SearchSpace.titles` of its space.
    """
    stages: dict[str, list[Option]] = {}
    blocks: dict[str, list[Option]] = {}
    for name, option in options.items():
        place, _, kind = name.rpartition(".")
        if _BLOCK.search(place):
            blocks.setdefault(kind, []).append(option)
        else:
            stages.setdefault(kind if _STAGE.fullmatch(place) else titles[name], []).append(option)
    parts = [f"{name} {'-'.join(map(str, values))}" for name, values in stages.items()]
    if len(parts) > _PARTS:  # of a space without stages
        parts = _grouped(options, titles)
    stages_text = ", ".join(parts)
    inner = ", ".join(f"{kind} {_range(values)}" for kind, values in blocks.items())
    return "; ".join(part for part in (stages_text, inner) if part)


def _grouped(options: Mapping[str, Option], titles: Mapping[str, str]) -> list[str]:
    """Options by what they change, at most `_PARTS` of them: ``depth 1-0-2``, ``channels 0.25–1.0``."""
    options_by_quantity: dict[str, list[Option]] = {}
    for name, option in options.items():
        options_by_quantity.setdefault(titles[name].rpartition(" ")[2], []).append(option)
    parts = [
        f"{quantity} {'-'.join(map(str, values)) if quantity == 'depth' else _range(values)}"
        for quantity, values in options_by_quantity.items()
    ]
    hidden = len(parts) - _PARTS
    return parts if hidden <= 0 else [*parts[:_PARTS], f"and {counted(hidden, 'other')}"]


SKIPPED = {"heads": "no\N{NO-BREAK SPACE}attention", "hidden": "no\N{NO-BREAK SPACE}MLP"}
"""The texts of the option 0 of these choices: the layer is without this part."""


def option_texts(options: Mapping[str, Option], titles: Mapping[str, str]) -> list[str]:
    """All options of an architecture, those of one part of the network together: ``stage 0, block 1: kernel 3, expand 4``.

    Args:
        options: Options by choice name, without those of inactive choices.
        titles: `SearchSpace.titles` of its space.
    """
    texts_by_place: dict[str, list[str]] = {}
    for name, option in options.items():
        place, _, quantity = titles[name].rpartition(SEPARATOR)
        text = (
            f"{quantity}\N{NO-BREAK SPACE}{option}"
            if option
            else SKIPPED.get(quantity, f"{quantity}\N{NO-BREAK SPACE}0")
        )
        texts_by_place.setdefault(place, []).append(text)
    return [f"{place}: {', '.join(texts)}" if place else ", ".join(texts) for place, texts in texts_by_place.items()]


def _range(values: Sequence[Option]) -> str:
    """``3``, ``3–7``, or the different texts."""
    numbers = sorted({value for value in values if not isinstance(value, str)})
    if len(numbers) > 1:
        return f"{numbers[0]}–{numbers[-1]}"
    return "/".join(dict.fromkeys(map(str, values)))


def guidance_text(algorithm: str, models_from: int | None, budget: int | None) -> str:
    """A sentence on the evaluation from which models choose the networks of a search; "" for an algorithm without models.

    Args:
        models_from: Number of that evaluation; None for an algorithm without models.
        budget: Number of evaluations of the search; None where only time limits it.
    """
    if models_from is None:
        return ""
    if budget is None or models_from <= budget:
        return f"{algorithm}: models choose from evaluation {models_from} on; those before it are chosen without models"
    return (
        f"{algorithm}: {budget} evaluations end before there are models, which choose from evaluation {models_from} on; "
        "all networks are chosen without models"
    )


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.2g} h"


def moment_text(moment: datetime) -> str:
    """A time with its zone: ``2026-12-01 15:07 UTC``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def memory_size(mib: float) -> str:
    """``812 MiB`` or ``2.4 GiB``."""
    return f"{mib:.0f} MiB" if mib < 1000 else f"{mib / 1024:.1f} GiB"


def wait_text(state: RunState | RunSnapshot, now: float, *, live: bool) -> str:
    """The reason and the duration of a driver's wait, in steps of five seconds, or what ended the last driver; "" for neither.

    Args:
        now: Seconds since the epoch.
        live: True if the run has a driver.
    """
    if not live or not state.waiting:
        return "" if state.away is None else str(state.away)
    if not state.waiting_since:
        return state.waiting
    waited_s = max(0.0, now - state.waiting_since)
    return f"{state.waiting} ({duration(waited_s - waited_s % 5)} so far)"


def score_text(scored: Objective, test: Mapping[str, float] | None, *, missing: str = "–") -> str:
    """A metric of the task on the test part with its error, see `Point.test`."""
    if test is None:
        return missing
    return format_value(scored, test[scored.name], test["error"])


def title_on_test(scored: Objective) -> str:
    """The title of a metric of the task on the test part: ``Test accuracy (%)``."""
    title = title_of(scored)
    return f"Test {title[0].lower()}{title[1:]}" if title[1:2].islower() else f"Test {title}"


def change_text(scored: Objective, before: float, after: float) -> str:
    """A metric of the task before and after: ``88.95% → 90.10%``."""
    return f"{plain_text(scored, before)} → {plain_text(scored, after)}"


def plain_text(scored: Objective, value: float) -> str:
    """A value of a metric of the task without its error: ``88.95%`` for a share."""
    return f"{value:.2%}" if shown_unit(scored) == "%" else f"{value:.4g} {shown_unit(scored)}".rstrip()
