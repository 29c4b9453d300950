"""A server's dispatcher, and a driver that searches a table through Ray, each as a process to be killed.

``python -m tests.nas.service.killable serve RUNS`` and ``... drive RUN RUNS ADDRESS``.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from nas.engine.search_loop import search
from nas.engine.search_progress import SearchProgress
from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.engine.store.opening import open_store
from nas.runs.bench.table import Table
from nas.search.base import SearchProblem
from nas.search.problem.budget import Budget
from nas.search.registry import make_algorithm
from nas.service.jobs.dispatcher import Dispatcher
from nas.service.jobs.ray_head import RayHead
from nas.service.jobs.ray_jobs import RayJobs
from nas.service.settings import ServiceSettings
from nas.service.state import ServiceState, Submission
from tests.contracts.run_facts import search_facts
from tests.nas.table_search import OBJECTIVES, PROFILE, TABLE

ALGORITHM, SEED, EVALUATIONS = "nsga2", 0, 120
COUNTED = "counted"
"""In a run's folder: after each evaluation, how many there are."""


def serve(root: Path) -> None:
    """Dispatches until it is killed."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    runs = RunsFolder(root)
    settings = ServiceSettings(runs, jobs_at_once=2, resumes=6)
    head = RayHead(settings.folder, cpus=2, store_bytes=80 * 2**20)
    head.start()
    state = ServiceState.open(settings.database)
    Dispatcher(settings, state, RayJobs(head.ready), address=lambda: head.ready().address, command=command).start()
    signal.pause()


def command(settings: ServiceSettings, submission: Submission, address: str | None) -> list[str]:
    root = str(settings.runs.root)
    return [sys.executable, "-m", "tests.nas.service.killable", "drive", submission.run, root, str(address)]


def drive(run: str, root: Path, address: str) -> None:
    """What `nas.runs.driver.drive` does, without a supernet to be loaded."""
    from nas.engine.evaluation.cluster import start_ray, stop_ray
    from tests.nas.pooled_table import PooledTable

    start_ray(address)
    folder = RunsFolder(root).get(run)
    store = open_store(folder, driver=True)
    if store.status() not in (RunStatus.QUEUED, RunStatus.RUNNING):
        return
    if store.facts() is None:
        objectives = [objective.name for objective in OBJECTIVES]
        store.describe(search_facts(objectives=objectives, profiles=[PROFILE]), budget=Budget(EVALUATIONS))
    store.set_status(RunStatus.RUNNING)
    counted = os.open(folder.path / COUNTED, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def count(progress: SearchProgress) -> None:
        os.write(counted, f"{progress.done}\n".encode())

    table, evaluator = Table.load(TABLE), PooledTable(0.05, workers=1)
    algorithm = make_algorithm(ALGORITHM, SearchProblem(table.space, OBJECTIVES, SEED))
    search(table.space, OBJECTIVES, algorithm, evaluator, store, Budget(EVALUATIONS), batch=8, on_progress=count)
    store.set_status(RunStatus.FINISHED)
    store.close()
    evaluator.close()
    stop_ray()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", root]:
            serve(Path(root))
        case ["drive", run, root, address]:
            drive(run, Path(root), address)
