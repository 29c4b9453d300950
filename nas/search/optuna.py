"""Optuna's samplers through ask and tell, over a study in memory."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import optuna

from nas.search.base import AsynchronousAlgorithm
from nas.search.genes import GeneRows
from nas.search.history import History, draw_unknown
from nas.search.problem.objectives import Constraint, Evaluation, Objective
from predictors.threads import one_thread
from supernets.space import Architecture, Choice, SearchSpace

SAMPLERS: Mapping[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed),
    "nsga3": lambda seed: optuna.samplers.NSGAIIISampler(seed=seed),
}
_TRIES = 10
"""Known architectures in a row that a sampler may propose before random ones are drawn."""


class OptunaSearch(AsynchronousAlgorithm):
    """A sampler of Optuna (Akiba et al. 2019, arXiv 1907.10902): `SAMPLERS`.

    Every gene is a parameter of every trial, also for inactive choices, since samplers model only parameters that all
    trials share. Options that are numbers become levels of an ordered parameter, others categories. A trial that proposes
    a known architecture ends with its known values (as failed, while it has none), and the sampler is asked again, a
    bounded number of times; then architectures are drawn at random. An evaluation that was not proposed becomes a trial
    with fixed parameters.

    Args:
        sampler: A name of `SAMPLERS`: TPE (Ozaki et al. 2022 for several objectives), a Gaussian process with expected
            hypervolume improvement, or NSGA-III.
        seed: A number from 0 to 2**32 - 1.
        constraints: Constraints, passed to Optuna as `Constraint.slacks`.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        seed: int,
        sampler: str = "tpe",
        constraints: Sequence[Constraint] = (),
    ) -> None:
        self._space, self._genes, self._constraints = space, GeneRows(space), list(constraints)
        self._rng = np.random.default_rng(seed)
        self._history = History(objectives, constraints)
        self._slacks: dict[Architecture, dict[str, float]] = {}
        self._open: dict[Architecture, optuna.Trial] = {}  # asked for and not evaluated yet
        with quiet():
            directions = ["minimize"] * len(objectives)
            self._study = optuna.create_study(sampler=SAMPLERS[sampler](seed), directions=directions)

    def ask(self, n: int, *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Up to `n` unknown architectures; fewer, in the end none, when the space is used up."""
        self._history.known.update(pending)
        proposed: list[Architecture] = []
        tries = _TRIES
        with quiet(), one_thread():
            while len(proposed) < n and tries > 0 and len(self._history.known) < self._space.size:
                trial = self._study.ask()
                architecture = self._proposed(trial)
                if architecture in self._history.known:
                    self._close(trial, architecture)
                    tries -= 1
                    continue
                self._open[architecture] = trial
                self._history.known.add(architecture)
                proposed.append(architecture)
                tries = _TRIES
            for architecture in draw_unknown(self._genes, self._history.known, n - len(proposed), self._rng):
                self._open[architecture] = self._trial_of(architecture)
                self._history.known.add(architecture)
                proposed.append(architecture)
        return proposed

    def tell(self, evaluations: Sequence[Evaluation]) -> None:
        """Ends the trials of these architectures; those with a NaN or an infinity as failed."""
        self._history.add(evaluations)
        with quiet():
            for evaluation in evaluations:
                architecture = evaluation.architecture
                if architecture in self._history:
                    self._slacks[architecture] = _slacks(evaluation, self._constraints)
                trial = self._open.pop(architecture, None)
                self._close(self._trial_of(architecture) if trial is None else trial, architecture)

    def replay(self, recorded: Sequence[Architecture], *, pending: Sequence[Architecture] = ()) -> list[Architecture]:
        """Asks again, and opens trials for the recorded architectures in place of those proposed now."""
        again = self.ask(len(recorded), pending=pending)
        with quiet():
            for stray in [a for a in again if a not in recorded]:
                self._history.known.remove(stray)
                self._close(self._open.pop(stray), stray)
            for missing in [a for a in recorded if a not in again]:
                self._history.known.add(missing)
                self._open[missing] = self._trial_of(missing)
        return again

    def _proposed(self, trial: optuna.Trial) -> Architecture:
        """The architecture of a trial; draws its parameters."""
        return self._space.canonical([_suggest(trial, choice) for choice in self._space.choices])

    def _trial_of(self, architecture: Architecture) -> optuna.Trial:
        """An open trial of a given architecture; inactive genes are random."""
        levels = self._genes.filled(self._genes.rows([architecture]), self._rng)[0].tolist()
        choice_levels = zip(self._genes.space.choices, levels, strict=True)
        self._study.enqueue_trial({choice.name: level for choice, level in choice_levels if _varies(choice)})
        trial = self._study.ask()
        self._proposed(trial)
        return trial

    def _close(self, trial: optuna.Trial, architecture: Architecture) -> None:
        """Ends a trial with the known values of its architecture."""
        if architecture not in self._history:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            return
        for name, slack in self._slacks[architecture].items():
            trial.set_constraint(name, slack)
        self._study.tell(trial, self._history.values([architecture])[0][0].tolist())


def _varies(choice: Choice) -> bool:
    return len(choice.options) > 1


def _suggest(trial: optuna.Trial, choice: Choice) -> int:
    """The level that the trial suggests for this choice."""
    top = len(choice.options) - 1
    if not _varies(choice):
        return 0
    if any(isinstance(option, str) for option in choice.options):
        return int(trial.suggest_categorical(choice.name, list(range(top + 1))))
    return int(trial.suggest_int(choice.name, 0, top))


def _slacks(evaluation: Evaluation, constraints: Sequence[Constraint]) -> dict[str, float]:
    """`Constraint.slacks` by bound; 0 for a missing value."""
    slack_by_bound = {}
    for constraint in constraints:
        value = np.array(evaluation.value(constraint.metric))
        for kind, slack in constraint.slacks(value).items():
            slack_by_bound[f"{constraint.metric.name} {kind}"] = 0.0 if math.isnan(slack) else float(slack)
    return slack_by_bound


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Optuna's log line per trial and its experimental warnings; restores both settings of the process."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
