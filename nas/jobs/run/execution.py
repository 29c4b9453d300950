"""The work of a run: its training, its search, and the measurement of its finalists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

import nas.jobs
from hardware_profiles.lookup_table_file import load_lookup
from nas.engine.evaluation.base import Evaluator
from nas.engine.evaluation.cached_evaluator import CachedEvaluator
from nas.engine.evaluation.remeasuring import Remeasuring
from nas.engine.finalists import choose_finalists, measure_finalists
from nas.engine.process_memory import release_free_memory
from nas.engine.progress import CompositeObserver, ProgressObserver
from nas.engine.run_listing import EPOCH
from nas.engine.run_usage import RunUsage
from nas.engine.search_loop import search
from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.block_costs import BlockCosts, BlockLatencies, NetworkCosts, place_of
from nas.engine.store.compatibility import check_teacher, check_weights
from nas.engine.store.folder import RunFolder
from nas.engine.stored_progress import RecordedPace, VisibleWaits
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.measurement_reuse import MeasurementLookup, open_lookup, prior_evaluations
from nas.jobs.build.option_losses import OptionLosses
from nas.jobs.build.search_objects import (
    build_algorithm,
    build_evaluator,
    has_option_losses,
)
from nas.jobs.evaluation.environments import Environments
from nas.jobs.evaluation.features import LatencyFeatures
from nas.jobs.evaluation.scoring import InlineScoring, Scoring
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.kept_predictions import measured_front, predictions_of
from nas.jobs.run.preparation import is_trained
from nas.jobs.run.run_options import RunOptions
from nas.search.problem.objectives import Evaluation
from nas.search.problem.pareto import Array
from supernets.data import Part
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import FOUND, has_checkpoint, read_progress
from supernets.training.distributed import train_on_workers
from supernets.training.trainer import Epoch
from supernets.training.trainer import train as train_supernet

_DECIMALS = 6
"""Latencies in milliseconds are rounded to nanoseconds."""


@dataclass(frozen=True)
class RunExecution:
    """A described run with what its work needs, where its cluster is connected; `execute` does what is left of it."""

    folder: RunFolder
    store: RunStore
    built_job: BuiltJob
    options: RunOptions

    @cached_property
    def observer(self) -> ProgressObserver:
        """The observer of the options, and the record of the pace."""
        return CompositeObserver([self.options.observer, RecordedPace(self.store)])

    @cached_property
    def usage(self) -> RunUsage:
        """The time and the memory that the run takes, by phase."""
        return RunUsage(self.store, is_command=self.options.is_command)

    def execute(self) -> None:
        """Trains the supernet where it is not trained, then searches it where the run is a search."""
        self.store.set_status(RunStatus.RUNNING)
        with self.usage:
            self._execute()

    def _execute(self) -> None:
        facts, state = self.store.facts(), self.store.state()
        if facts is None:
            raise ValueError("a run is described before it is executed")
        n_evaluations = 0
        if facts.search is not None:
            n_evaluations = facts.search.n_spent(self.store.counts(len(facts.search.metrics)).total)
        self.observer.begin(self.folder, facts, state.budget, n_evaluations)
        with self.usage.phase("training"):
            supernet, weights = self._trained_supernet()
        check_weights(self.folder.id, self.store.state().weights, weights)
        self.store.update_state(weights=weights)
        if facts.search is not None:
            with self._searching(supernet, weights) as execution:
                execution.execute()

    @contextmanager
    def measuring(self) -> Iterator[SearchExecution]:
        """The search of a run that has ended, to measure further networks of its supernet."""
        supernet, weights = self._trained_supernet()
        check_weights(self.folder.id, self.store.state().weights, weights)
        with self._searching(supernet, weights) as execution:
            yield execution

    @contextmanager
    def _searching(self, supernet: Supernet, weights: str) -> Iterator[SearchExecution]:
        torch.set_num_threads(1)
        with open_lookup(self.options.runs, self.store.search_facts().reused, weights) as lookup:
            environments = Environments(
                self.store.state().environments, lambda recorded: self.store.update_state(environments=recorded)
            )
            waits = VisibleWaits(self.store, self.observer)
            yield SearchExecution(self, supernet, weights, lookup, environments, waits)

    def _trained_supernet(self) -> tuple[Supernet, str]:
        """The trained supernet and the digest of its weights: the one that the job names, or trained (the rest of it) here."""
        built_job, state = self.built_job, self.store.state()
        if built_job.checkpoint is not None:
            return built_job.checkpoint.supernet, built_job.checkpoint.weights_digest
        settings, observer = built_job.settings(), self.observer
        # A checkpoint replaces the weights, so that they need no sorting.
        supernet = built_job.current() if has_checkpoint(self.folder.checkpoint) else built_job.untrained()

        def on_epoch(epoch: Epoch) -> None:
            self.store.record_event(EPOCH, asdict(epoch))
            self.store.update_state(epoch=epoch.epoch, best_epoch=epoch.best)
            observer.epoch(epoch, settings.epochs)

        workers, trained = built_job.job.config.training.workers, is_trained(self.folder, self.store, settings.epochs)
        if state.epoch and not has_checkpoint(self.folder.checkpoint):
            observer.note(
                f"{self.folder.checkpoint} holds no checkpoint any more, after {state.epoch} of {settings.epochs} epochs: "
                "the supernet is trained again from the first epoch"
            )
        trained = trained or settings.epochs == 0
        teacher = None if trained else built_job.teacher  # which may be gone once the training is done
        if teacher is not None:
            check_teacher(self.folder.id, state.teacher, teacher.weights_digest)
            self.store.update_state(teacher=teacher.weights_digest)
        data = built_job.data.dataset if trained else built_job.training_data
        training = (supernet, data, built_job.strategy(), settings, self.folder.checkpoint)
        common: dict[str, Any] = {
            "task": built_job.data.task,
            "teacher": None if teacher is None else teacher.network,
            "device": built_job.device(),
            "on_step": observer.step,
            "on_epoch": on_epoch,
        }
        if workers == 1 or trained:
            digest = train_supernet(*training, **common)
        else:
            digest = train_on_workers(*training, workers=workers, **common)
        self.store.update_state(epoch=settings.epochs)  # a kill may have come between the checkpoint and its record
        for network in self.learnt_networks:
            share = supernet.cost(network).macs / supernet.cost(supernet.space.largest).macs
            observer.note(f"the training found {network.key}, with {share:.0%} of the largest network's MACs")
        return supernet, digest

    @property
    def learnt_networks(self) -> list[Architecture]:
        """The network that the training's strategy has found, if it looks for one."""
        checkpoint, folder = self.built_job.checkpoint, self.folder.checkpoint
        record = read_progress(folder) if checkpoint is None else checkpoint.progress
        return [Architecture.parse(record[FOUND])] if FOUND in record else []


@dataclass(frozen=True)
class SearchExecution:
    """The search of a trained supernet.

    Attributes:
        lookup: Finds measurements of other runs, which are not measured again; None without such runs.
        waits: Waits of its measurements for the machine.
    """

    run: RunExecution
    supernet: Supernet
    weights: str
    lookup: MeasurementLookup | None
    environments: Environments
    waits: VisibleWaits

    def execute(self) -> None:
        """Searches, then computes the finalists' costs by block and measures them again."""
        with self.run.usage.phase("search"):
            evaluations = self._search()
        with self.run.usage.phase("final"):
            self._measure_finalists(evaluations)
            self._keep_predictions(evaluations)

    def measure(self, candidates: Sequence[Architecture]) -> None:
        """Measures candidates as the search does, then with the finalists by the longer protocol; records them as a step."""
        built_job, store = self.run.built_job, self.run.store
        store.record_ask(len(store.asks()), candidates)
        requests = [built_job.job.variants.request(a, metric) for a in candidates for metric in built_job.job.metrics]
        validation = built_job.data.dataset.validation
        with self._evaluator(validation, self._scoring(validation)) as evaluator:
            remeasuring = Remeasuring(CachedEvaluator(evaluator, store.attempts, keep=store.add))
            list(remeasuring.evaluate(requests))
            remeasuring.last()
        self._measure_again(candidates, earlier=store.state().finalists)

    def option_losses(self) -> list[Array]:
        """The losses that each option of each choice alone adds to the largest network's, (n_levels,) each, which the run keeps
        once they are measured; [] for networks of which they are not."""
        run, space = self.run, self.run.built_job.space
        if not has_option_losses(run.built_job):
            return []
        if not (losses := run.store.option_losses()):
            run.observer.note("measuring the loss of each option alone")
            losses = OptionLosses(run.built_job, self.supernet).measured(run.observer.note)
            run.store.record_option_losses(losses)
        # Choices of variants, as of precisions, are not measured so.
        return [np.array(losses.get(choice.name, [0.0] * len(choice.options))) for choice in space.choices]

    def _measure_finalists(self, evaluations: Sequence[Evaluation]) -> None:
        built_job, space = self.run.built_job, self.run.built_job.space
        self._measure_again(
            choose_finalists(
                evaluations, built_job.job.objectives, [space.smallest, space.largest], built_job.job.constraints
            )
        )

    def _keep_predictions(self, evaluations: Sequence[Evaluation]) -> None:
        """Writes what networks of the front predict on the validation part, where the task has pictures of that."""
        built_job, store = self.run.built_job, self.run.store
        front = measured_front(
            evaluations, store.state().finalists, built_job.job.objectives, built_job.job.variants, store
        )
        validation = built_job.data.dataset.validation
        try:
            predictions = predictions_of(built_job, front, self._scoring_here.on(validation))
            if predictions is not None:
                predictions.write(self.run.folder.predictions_file)
        except Exception as error:  # its results are complete without pictures
            self.run.observer.note(f"no predictions are kept for pictures: {type(error).__name__}: {error}")

    def _measure_again(self, chosen: Sequence[Architecture], earlier: Sequence[Architecture] = ()) -> None:
        built_job = self.run.built_job
        self.run.store.record_block_costs(block_costs(built_job.job, self.supernet, chosen))
        # Only after the search does an evaluator get the test part, so that no search can depend on it.
        test = built_job.data.dataset.test
        with self._evaluator(test, self._scoring_here.on(test)) as evaluator:
            measure_finalists(
                chosen,
                built_job.job.metrics,
                evaluator,
                self.run.store,
                variants=built_job.job.variants,
                scored=built_job.job.scored,
                earlier=earlier,
                on_progress=self.waits.progress,
            )

    def _search(self) -> list[Evaluation]:
        built_job, store = self.run.built_job, self.run.store
        facts, state, validation = store.search_facts(), store.state(), built_job.data.dataset.validation
        if state.budget is None:
            raise ValueError("a search has a budget")
        release_free_memory()  # of what made the supernet, which is several times its size
        with self._evaluator(validation, self._scoring(validation)) as evaluator:
            return search(
                space=built_job.space,
                objectives=built_job.job.objectives,
                algorithm=build_algorithm(
                    built_job,
                    self.supernet,
                    prior_evaluations(facts),
                    known_candidates=facts.known_candidates,
                    first=self.run.learnt_networks,
                    losses=self.option_losses() if built_job.job.config.search.start == "solved" else (),
                ),
                evaluator=evaluator,
                store=store,
                budget=state.budget,
                batch=built_job.job.config.search.batch,
                constraints=built_job.job.constraints,
                variants=built_job.job.variants,
                known_candidates=facts.known_candidates,
                retry_failures=state.retry_failures,
                synchronous=built_job.job.config.search.synchronous,
                on_progress=self.waits.progress,
            )

    @contextmanager
    def _evaluator(self, part: Part, scoring: Scoring) -> Iterator[Evaluator]:
        """Measures this run's subnets, with metrics of the task on a part of the data."""
        built_job = self.run.built_job
        measured = build_evaluator(
            built_job,
            self.supernet,
            self.weights,
            part,
            scoring,
            seed=built_job.job.config.seed,
            environments=self.environments,
            on_wait=self.waits.begin,
            on_wait_end=self.waits.end,
        )
        try:
            yield measured if self.lookup is None else CachedEvaluator(measured, self.lookup, replay_failures=True)
        finally:
            measured.close()

    @cached_property
    def _scoring_here(self) -> InlineScoring:
        """Scoring in this process, of which the search and the finalists share corrected networks."""
        data = self.run.built_job.data
        return InlineScoring(self.supernet, data.calibration, data.dataset.validation, data.task)

    def _scoring(self, part: Part) -> Scoring:
        """Scoring on the validation part: here, or by Ray actors."""
        scoring, settings = self._scoring_here.on(part), self.run.built_job.job.config.search
        if self.run.options.scores_here:
            return scoring
        return nas.jobs.RayPool(
            scoring,
            workers=settings.workers,
            time_limit_s=settings.time_limit_s,
            note=self.run.observer.note,
        )


def block_costs(job: ResolvedJob, supernet: Supernet, candidates: Sequence[Architecture]) -> BlockCosts:
    """Parameters and MACs of each block, and its latency on each profile of the job that has a lookup table.

    Raises:
        LookupTableError, EvaluationError: a table cannot be read any more, or is of another space.
    """
    table = supernet.costs([job.variants.split(candidate)[0] for candidate in candidates])
    latencies = _latencies(job, supernet, candidates)
    networks = {
        candidate.key: NetworkCosts(
            tuple(table.parameters[i].tolist()),
            tuple(table.macs[i].tolist()),
            {profile: profile_latencies[i] for profile, profile_latencies in latencies.items()},
        )
        for i, candidate in enumerate(candidates)
    }
    return BlockCosts(tuple(map(place_of, table.blocks)), networks)


def _latencies(
    job: ResolvedJob, supernet: Supernet, candidates: Sequence[Architecture]
) -> Mapping[str, list[BlockLatencies]]:
    """The latencies of each candidate by block, by the name of each profile that has a lookup table."""
    latencies_by_profile = {}
    for profile in job.profiles:
        if (path := job.lookup_tables.get(profile.name)) is None:
            continue
        table = load_lookup(path, profile=profile, environment=None)
        estimated = LatencyFeatures(supernet, table, job.variants).estimates(candidates)
        scales = np.array([table.fits[job.variants.split(candidate)[1].precision].scale for candidate in candidates])
        blocks = np.round(estimated[:, 1:] * scales[:, None], _DECIMALS)
        remainders = np.round(estimated[:, 0] - blocks.sum(axis=1), _DECIMALS)
        pairs = zip(blocks.tolist(), remainders.tolist(), strict=True)
        latencies_by_profile[profile.name] = [
            BlockLatencies(tuple(block_ms), remaining_ms) for block_ms, remaining_ms in pairs
        ]
    return latencies_by_profile
