"""An evaluator that returns known measurements and measures the rest, to resume or replay a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from nas.errors import EvaluationError
from nas.evaluation.base import Evaluator
from nas.evaluation.remeasuring import Remeasuring
from nas.problem.objectives import Measurement, Request, Status

_SHOWN = 3


class Cached:
    """An evaluator that measures nothing twice.

    To resume, `lookup` and `keep` are the run's own store; to replay another run, that run's store is the `lookup` of
    an inner `Cached`, whose answers the outer one keeps.

    Args:
        inner: is asked once a call for all that is not known; None where everything must be.
        lookup: the known measurements among some requests; those it lacks are absent.
        keep: called with each measurement that `inner` made, before it is handed on.
        replay_failures: answer with known failures too, instead of asking again. An answer to what had failed before
            counts its attempts on from there, so that a store takes it for the later one.
    """

    def __init__(
        self,
        inner: Evaluator | None,
        lookup: Callable[[Sequence[Request]], Mapping[Request, Measurement]],
        *,
        keep: Callable[[Measurement], None] | None = None,
        replay_failures: bool = False,
    ) -> None:
        self._inner, self._lookup, self._keep = inner, lookup, keep
        self._replay_failures = replay_failures

    def evaluate(self, requests: Sequence[Request]) -> Iterator[Measurement]:
        """One measurement a request, the known ones first; one asked twice is measured once and answered twice.

        Raises:
            EvaluationError: there is no inner evaluator for what is not known, or it did not answer each request once.
        """
        times: dict[Request, int] = {}
        for request in requests:
            times[request] = times.get(request, 0) + 1
        found = self._lookup(list(times)) if times else {}
        known = {r: m for r, m in found.items() if self._replay_failures or m.status is not Status.FAILED}
        missing = [request for request in times if request not in known]
        if missing and self._inner is None:
            raise EvaluationError(
                f"{len(missing)} of {len(times)} measurements are not recorded ({_listed(missing)}), and nothing "
                "can take them; replay a run that has them, or let this one measure"
            )
        for request, count in times.items():
            if request in known:
                yield from [known[request]] * count
        if missing and self._inner is not None:
            yield from self._measure(self._inner, missing, times, found)

    def close(self) -> None:
        """Closes the inner evaluator."""
        if self._inner is not None:
            self._inner.close()

    def _measure(
        self,
        inner: Evaluator,
        missing: list[Request],
        times: Mapping[Request, int],
        failed: Mapping[Request, Measurement],
    ) -> Iterator[Measurement]:
        open_requests = dict.fromkeys(missing)
        for answer in inner.evaluate(missing):
            request = answer.request
            if request not in open_requests:
                raise EvaluationError(
                    f"{_name(inner)} answered {_shown(request)}, which it was not asked or had answered; "
                    "an evaluator answers each request once"
                )
            del open_requests[request]
            if request in failed:
                answer = replace(answer, attempt=failed[request].attempt + 1 + answer.attempt)
            if self._keep is not None:
                self._keep(answer)
            yield from [answer] * times[request]
        if open_requests:
            raise EvaluationError(
                f"{_name(inner)} left {len(open_requests)} of {len(missing)} requests unanswered "
                f"({_listed(list(open_requests))}); an evaluator answers each request once"
            )


def _name(evaluator: Evaluator) -> str:
    """The class of an evaluator, which may be a user's."""
    return type(evaluator.inner if isinstance(evaluator, Remeasuring) else evaluator).__name__


def _listed(requests: Sequence[Request]) -> str:
    more = f" and {len(requests) - _SHOWN} more" if len(requests) > _SHOWN else ""
    return ", ".join(_shown(request) for request in requests[:_SHOWN]) + more


def _shown(request: Request) -> str:
    name = request.metric if request.profile is None else f"{request.metric}@{request.profile}"
    return f"{name} of {request.architecture.key} ({request.fidelity}, {request.variant})"
