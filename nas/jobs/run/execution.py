"""The work of a run: its training, its search, and the measurement of its finalists."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch

import nas.jobs
from nas.engine.evaluation.base import Evaluator
from nas.engine.evaluation.cached_evaluator import CachedEvaluator
from nas.engine.finalists import choose_finalists, measure_finalists
from nas.engine.progress import CompositeObserver, ProgressObserver
from nas.engine.run_listing import EPOCH
from nas.engine.search_loop import search
from nas.engine.store.base import RunStatus, RunStore
from nas.engine.store.compatibility import check_teacher, check_weights
from nas.engine.store.folder import RunFolder
from nas.engine.stored_progress import RecordedPace, VisibleWaits
from nas.jobs.build.block_costs import block_costs
from nas.jobs.build.measurement_reuse import MeasurementLookup, open_lookup, prior_evaluations
from nas.jobs.build.prepared_job import PreparedJob
from nas.jobs.build.search_objects import build_algorithm, build_evaluator
from nas.jobs.evaluation.environments import Environments
from nas.jobs.evaluation.scoring import InlineScoring, Scoring
from nas.jobs.run.preparation import is_trained
from nas.jobs.run.run_options import RunOptions
from nas.search.problem.objectives import Evaluation
from supernets.data import Part
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import FOUND, has_checkpoint, read_progress
from supernets.training.distributed import train_on_workers
from supernets.training.trainer import Epoch
from supernets.training.trainer import train as train_supernet


@dataclass(frozen=True)
class RunExecution:
    """A described run with what its work needs, where its cluster is connected; `execute` does what is left of it."""

    folder: RunFolder
    store: RunStore
    prepared: PreparedJob
    options: RunOptions

    @cached_property
    def observer(self) -> ProgressObserver:
        """The observer of the options, and the record of the pace."""
        return CompositeObserver([self.options.observer, RecordedPace(self.store)])

    def execute(self) -> None:
        """Trains the supernet where it is not trained, then searches it where the run is a search."""
        self.store.set_status(RunStatus.RUNNING)
        facts, state = self.store.facts(), self.store.state()
        if facts is None:
            raise ValueError("a run is described before it is executed")
        n_evaluations = 0
        if facts.search is not None:
            n_evaluations = facts.search.n_spent(self.store.counts(len(facts.search.metrics)).total)
        self.observer.begin(self.folder, facts, state.budget, n_evaluations)
        supernet, weights = self._trained_supernet()
        check_weights(self.folder.id, self.store.state().weights, weights)
        self.store.update_state(weights=weights)
        if facts.search is not None:
            torch.set_num_threads(1)
            with open_lookup(self.options.runs, facts.search.reused, weights) as lookup:
                environments = Environments(
                    state.environments,
                    lambda recorded: self.store.update_state(environments=recorded),
                )
                _SearchExecution(
                    self, supernet, weights, lookup, environments, VisibleWaits(self.store, self.observer)
                ).execute()

    def _trained_supernet(self) -> tuple[Supernet, str]:
        """The trained supernet and the digest of its weights: the one that the job names, or trained (the rest of it) here."""
        supernets, data, state = self.prepared.supernets, self.prepared.data.dataset, self.store.state()
        if supernets.checkpoint is not None:
            return supernets.checkpoint.supernet, supernets.checkpoint.weights_digest
        settings, observer = supernets.settings(), self.observer
        # A checkpoint replaces the weights, so that they need no sorting.
        supernet = supernets.current() if has_checkpoint(self.folder.checkpoint) else supernets.untrained()

        def on_epoch(epoch: Epoch) -> None:
            self.store.record_event(EPOCH, asdict(epoch))
            self.store.update_state(epoch=epoch.epoch, best_epoch=epoch.best)
            observer.epoch(epoch, settings.epochs)

        workers, trained = self.prepared.config.training.workers, is_trained(self.folder, self.store, settings.epochs)
        if state.epoch and not has_checkpoint(self.folder.checkpoint):
            observer.note(
                f"{self.folder.checkpoint} holds no checkpoint any more, after {state.epoch} of {settings.epochs} epochs: "
                "the supernet is trained again from the first epoch"
            )
        trained = trained or settings.epochs == 0
        teacher = None if trained else supernets.teacher  # which may be gone once the training is done
        if teacher is not None:
            check_teacher(self.folder.id, state.teacher, teacher.weights_digest)
            self.store.update_state(teacher=teacher.weights_digest)
        training = (supernet, data, supernets.strategy(), settings, self.folder.checkpoint)
        common: dict[str, Any] = {
            "task": self.prepared.data.task,
            "teacher": None if teacher is None else teacher.network,
            "device": supernets.device(),
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
        checkpoint, folder = self.prepared.supernets.checkpoint, self.folder.checkpoint
        record = read_progress(folder) if checkpoint is None else checkpoint.progress
        return [Architecture.parse(record[FOUND])] if FOUND in record else []


@dataclass(frozen=True)
class _SearchExecution:
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
        prepared, space = self.run.prepared, self.run.prepared.space
        evaluations = self._search()
        chosen = choose_finalists(
            evaluations, prepared.job.objectives, [space.smallest, space.largest], prepared.job.constraints
        )
        self.run.store.record_block_costs(block_costs(prepared.job, self.supernet, chosen))
        # Only after the search does an evaluator get the test part, so that no search can depend on it.
        test = prepared.data.dataset.test
        scoring = InlineScoring(self.supernet, prepared.data.calibration, test, prepared.data.task)
        with self._evaluator(test, scoring) as evaluator:
            measure_finalists(
                chosen,
                prepared.job.metrics,
                evaluator,
                self.run.store,
                variants=prepared.job.variants,
                scored=prepared.job.scored,
                on_progress=self.waits.progress,
            )

    def _search(self) -> list[Evaluation]:
        prepared, store = self.run.prepared, self.run.store
        facts, state, validation = store.search_facts(), store.state(), prepared.data.dataset.validation
        if state.budget is None:
            raise ValueError("a search has a budget")
        with self._evaluator(validation, self._scoring(validation)) as evaluator:
            return search(
                space=prepared.space,
                objectives=prepared.job.objectives,
                algorithm=build_algorithm(
                    prepared,
                    self.supernet,
                    prior_evaluations(facts),
                    known_candidates=facts.known_candidates,
                    first=self.run.learnt_networks,
                ),
                evaluator=evaluator,
                store=store,
                budget=state.budget,
                batch=prepared.config.search.batch,
                constraints=prepared.job.constraints,
                variants=prepared.job.variants,
                known_candidates=facts.known_candidates,
                retry_failures=state.retry_failures,
                on_progress=self.waits.progress,
            )

    @contextmanager
    def _evaluator(self, part: Part, scoring: Scoring) -> Iterator[Evaluator]:
        """Measures this run's subnets, with metrics of the task on a part of the data."""
        prepared = self.run.prepared
        measured = build_evaluator(
            prepared,
            self.supernet,
            self.weights,
            part,
            scoring,
            seed=prepared.config.seed,
            environments=self.environments,
            on_wait=self.waits.begin,
            on_wait_end=self.waits.end,
        )
        try:
            yield measured if self.lookup is None else CachedEvaluator(measured, self.lookup, replay_failures=True)
        finally:
            measured.close()

    def _scoring(self, part: Part) -> Scoring:
        """Scoring on the validation part: here, or by Ray actors."""
        options, data = self.run.options, self.run.prepared.data
        if options.scores_here:
            return InlineScoring(self.supernet, data.calibration, part, data.task)
        settings = self.run.prepared.config.search
        return nas.jobs.RayPool(
            self.supernet,
            data.calibration,
            part,
            task=data.task,
            workers=settings.workers,
            time_limit_s=settings.time_limit_s,
            note=self.run.observer.note,
        )
