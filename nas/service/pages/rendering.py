"""Templates of the pages, and their filters and functions."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, StreamingResponse

from nas.engine.formatting import (
    constraint_text,
    counted,
    duration,
    format_value,
    miss_text,
    moment_text,
    option_texts,
    outline,
    prediction_error_text,
    share_text,
    title_of,
    title_on_test,
)
from nas.engine.store.base import INTERRUPTED, RunStatus
from nas.errors import NasError
from nas.results.analysis.report import RunReport
from nas.search.problem.objectives import Goal, Objective
from nas.service.api import schemas
from nas.service.api.schemas import ENDED, RunSummary
from nas.service.pages import assets
from nas.service.pages.thumbnails import thumbnail
from nas.service.people import current_caller
from nas.service.views.networks import counts
from nas.service.views.run_overviews import score_title

_END_OF_HEAD = "</head>"
_STATUS_TITLES = {
    "all": "All",
    "front": "On the front",
    "measured": "Measured",
    "noisy": "Noisy",
    "too-noisy": "Too noisy",
    "failed": "Failed",
    "screened-out": "Screened out",
}
"""By `schemas.NetworkStatus`."""
WAITING = "waiting"
"""Status shown of a run between two tries of a machine that is away."""

Allowed = Callable[[str, str], bool]

logger = logging.getLogger(__name__)


@cache
def environment() -> Environment:
    """Jinja's environment: everything is escaped, and an undefined name is an error."""
    jinja = Environment(
        loader=PackageLoader("nas.service.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "bytes": bytes_text,
        "clock": moment_text,  # until a script replaces it by local time
        "constraint": constraint_text,
        "instant": instant,
        "iso": iso,
        "outline": outline,
        "option_texts": option_texts,
        "percent": percent_text,
        "progress": progress_text,
        "title": title_of,
        "title_on_test": title_on_test,
        "number": number_text,
        "shown": shown_value,
        "status_title": _STATUS_TITLES.__getitem__,
        "whole_words": whole_words,
        "unbroken": unbroken,
        "words": words,
    }
    jinja.globals |= {"asset": assets.address}
    functions = (
        shown_status,
        may,
        share,
        best_of,
        place_text,
        elapsed,
        objective,
        baseline,
        reasons,
        query,
        is_short,
        miss_text,
        prediction_error_text,
        counts,
        thumbnail,
        score_title,
    )
    jinja.globals |= {function.__name__: function for function in functions}
    return jinja


def may_change_nothing(kind: str, name: str) -> bool:
    """The answer for pages without things that could be changed."""
    return False


def prepare() -> None:
    """Compiles templates and compresses plotly's script, so that the first request need not wait."""
    assets.plotly_file()
    for name in environment().list_templates():
        environment().get_template(name)


def page(
    template: str, *, status: int = 200, signs_in: bool = False, allowed: Allowed = may_change_nothing, **values: object
) -> HTMLResponse:
    """A page of a template; ``no-store`` keeps it out of shared caches and of the history after signing out.

    Args:
        signs_in: whether the server requires a token, so that the page offers to sign out.
        allowed: whether the page's reader may change a thing of this kind and name.
    """
    shared = {"signs_in": signs_in, "allowed": allowed, "person": current_caller()}
    text = environment().get_template(template).render(**shared, **values)
    return HTMLResponse(text, status_code=status, headers={"Cache-Control": "no-store"})


def page_in_parts(
    template: str, *, signs_in: bool = False, allowed: Allowed = may_change_nothing, **values: object
) -> StreamingResponse:
    """A page whose head is sent before the rest is rendered; an error in the rest is shown in its place, with status 200."""
    shared = {"signs_in": signs_in, "allowed": allowed, "person": current_caller()}
    return StreamingResponse(
        _parts(template, **shared, **values), media_type="text/html", headers={"Cache-Control": "no-store"}
    )


def _parts(template: str, **values: object) -> Iterator[str]:
    """The page up to the end of its head, then the rest."""
    texts = environment().get_template(template).generate(**values)
    waiting: list[str] = []
    try:
        for text in texts:
            before, end, after = text.partition(_END_OF_HEAD)
            waiting.append(before + end)
            if end:
                yield "".join(waiting)
                waiting = [after]
    except NasError as error:
        logger.warning("%s", error)
        answer = page("error.html", title="Not shown", detail=str(error), signs_in=bool(values["signs_in"]))
        waiting = [bytes(answer.body).decode().partition(_END_OF_HEAD)[2]]
    yield "".join(waiting)


def shown_status(run: RunSummary) -> str:
    """The status to show: a run whose driver was killed is ``interrupted``, one whose machine is away is ``waiting``."""
    status = RunStatus(run.status)
    if run.next_try is not None:
        return WAITING
    return INTERRUPTED if status is RunStatus.RUNNING and not run.live else str(status)


def may(run: RunSummary, action: str) -> bool:
    """True if an action on a run is possible now: ``cancel``, ``resume`` or ``delete``."""
    ended = run.status in ENDED
    by_hand = shown_status(run) == INTERRUPTED and run.submitted is None  # nothing restarts it
    match action:
        case "cancel":
            return not ended and not by_hand
        case "resume":
            tries_now = run.next_try is not None and not run.live
            return (ended or by_hand or tries_now) and not run.damaged
        case "delete":
            return (ended or by_hand) and not run.live
    raise ValueError(f"expected cancel, resume or delete, got {action!r}")


def progress_text(run: RunSummary) -> str:
    """The progress of a run: ``12 of 60 evaluations``."""
    if run.kind == "training" or run.epoch < run.epochs:
        return f"{run.epoch:,} of {run.epochs:,} epochs"
    text = counted(run.evaluations, "evaluation")
    if run.evaluations_wanted:
        text = f"{run.evaluations:,} of {run.evaluations_wanted:,} evaluations"
    unmeasured = run.counts.too_noisy + run.counts.failed
    return f"{text}, {unmeasured:,} of which could not be measured" if unmeasured else text


def share(run: RunSummary) -> float | None:
    """The progress of a run's present phase (training or searching), 0 to 1; None where its end is not known."""
    if run.kind == "training" or run.epoch < run.epochs:
        shares = [done / total for done, total in ((run.epoch, run.epochs), (run.step, run.steps)) if total]
        return min(1.0, max(shares)) if shares else None  # steps are recorded every few seconds, epochs at once
    return min(1.0, run.evaluations / run.evaluations_wanted) if run.evaluations_wanted else None


def instant(seconds: float) -> datetime:
    """The time of a number of seconds since the epoch."""
    return datetime.fromtimestamp(seconds, UTC)


def whole_words(text: str) -> Markup:
    """A text that breaks between words alone: browsers also break names of profiles and metrics at their hyphens."""
    parts = (
        Markup('<span class="whole">{}</span>').format(word) if "-" in word else escape(word)
        for word in text.split(" ")
    )
    return Markup(" ").join(parts)


def unbroken(text: str) -> str:
    """The same of a text that a style sheet shows."""
    return text.replace("-", "\N{NON-BREAKING HYPHEN}")


def words(value: object) -> str:
    """A value of an event's detail: text as it is, others as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def iso(moment: datetime) -> str:
    """A time in ISO 8601."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def bytes_text(size: int) -> str:
    """``312 B``, ``48.2 KiB``, ``3 MiB`` or ``20 GiB``."""
    if size < 1024:
        return f"{size} B"
    power = min(3, (size.bit_length() - 1) // 10)
    shown, unit = size / 1024**power, ("KiB", "MiB", "GiB")[power - 1]
    return f"{f'{shown:.1f}'.removesuffix('.0')} {unit}"


def number_text(value: float | None, digits: int = 3) -> str:
    """A number with this many significant digits; a dash for None."""
    return "–" if value is None else f"{value:.{digits}g}"


def percent_text(share: float | None) -> str:
    """A share in per cent, above 1,000 % as a factor; a dash for None."""
    return "–" if share is None else share_text(share)


def elapsed(run: RunSummary) -> str:
    """The duration of a run; "" until it has ended."""
    if run.started is None or run.ended is None:
        return ""
    return duration((run.ended - run.started).total_seconds())


def objective(name: str, run: schemas.RunDetail) -> Objective:
    """A run's objective of this name."""
    metrics = (Objective(info.name, info.unit, Goal(info.goal)) for info in run.objectives)
    return Objective.parse(name, run.profiles, measured=tuple(metrics))


def baseline(info: schemas.PredictorInfo, name: str, score: str) -> float | None:
    """A baseline's score in the latest fit; None where it was not defined."""
    baseline_score: float | None = info.latest.get("baselines", {}).get(name, {}).get(score)
    return baseline_score


def reasons(report: RunReport) -> dict[str, int]:
    """Why networks of a search could not be measured, with their numbers: the three most frequent reasons."""
    return dict(Counter([*report.failed.values(), *report.screened_out.values()]).most_common(3))


def query(parameters: Mapping[str, object], **changes: object) -> str:
    """A link to the present page with some values of its query changed; empty ones are left out."""
    values = {name: "true" if value is True else value for name, value in {**parameters, **changes}.items() if value}
    return f"?{urlencode(values, doseq=True)}"


def is_short(network: schemas.Network, metric: Objective, report: RunReport) -> bool:
    """True if a network's value comes from the search's shorter protocol, while others' are final."""
    return (
        report.measured_again and metric.profile is not None and network.fidelity == "search" and bool(network.figures)
    )


def best_of(front: Sequence[schemas.Network], metric: Objective) -> schemas.Figure | None:
    """The best value on a front; None for an empty one."""
    values = [network.figures[metric.name] for network in front]
    return min(values, key=lambda f: metric.sign * f.value, default=None)


def shown_value(measurement: schemas.Figure | None, metric: Objective) -> str:
    """A value with its error; a dash for None."""
    return "–" if measurement is None else format_value(metric, measurement.value, measurement.error)


def place_text(profile: schemas.Profile) -> str:
    """The place where a profile measures."""
    if profile.ssh:
        return f"over ssh, {profile.ssh}"
    if profile.placement:
        return "on the Ray node with " + ", ".join(profile.placement)
    return "the machine that runs the job"
