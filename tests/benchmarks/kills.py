"""Real jobs (training, search, final measurements) whose driver is killed with SIGKILL at random moments, and resumed.

    python -m tests.benchmarks.kills [--kills 100] [--seed 0]

Method. A job on digits (8 epochs, 40 evaluations of accuracy and latency, final measurements) runs in a process of its own
without Ray. Its driver gets SIGKILL 20 times, up to 3 s after it begins, or is in training, in the search or in the final
measurements, and is resumed each time. After each kill, each measurement and each asked network that was readable before must
still be there, unchanged. In the end the weights must be those of a training that nobody killed, and each network must have
been measured once.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import typer

from nas.engine.store.base import RunStatus
from nas.engine.store.folder import RunsFolder
from nas.errors import NasError
from nas.runs.run import Run
from nas.search.problem.objectives import Measurement
from tests.benchmarks.markdown import table_head, table_row
from tests.nas.commands import SMALL_JOB

STAGES = ("beginning", "training", "search", "final measurements")
_KILLS = (("beginning", 2), ("training", 6), ("search", 9), ("final measurements", 3))
"""Of a run, by stage: 20."""
_LONGEST_S = 3.0
_PATIENCE_S = 900.0
_JOB = (
    SMALL_JOB.replace("epochs: 4", "epochs: 8")
    .replace("evaluations: 30, batch: 7", "evaluations: 40, batch: 4, workers: 1")
    .replace("name: small", "name: killed")
)


@dataclass
class Campaign:
    """What is known of one run between the kills of its drivers."""

    runs: RunsFolder
    job: Path
    run: str
    measurements: dict[str, Measurement] = field(default_factory=dict)
    asks: list[list[str]] = field(default_factory=list)
    lost: int = 0
    stages: Counter[str] = field(default_factory=Counter)

    def command(self) -> list[str]:
        """Starts the run if it is not there yet, else resumes it."""
        known = (self.runs.root / self.run).is_dir()
        return ["resume", self.run, "--inline"] if known else ["search", str(self.job), "--inline"]

    def stage(self) -> str:
        """In which stage the run is now."""
        try:
            with Run.open(self.runs, self.run).store() as store:
                state = store.state()
        except NasError:
            return "beginning"
        if state.finalists:
            return "final measurements"
        return "search" if state.weights else "training"

    def unfinished(self) -> bool:
        """Whether there is something left to do."""
        with Run.open(self.runs, self.run).store() as store:
            return store.status() is not RunStatus.FINISHED

    def check(self) -> None:
        """Counts what was readable before and is no longer there."""
        try:
            with Run.open(self.runs, self.run).store() as store:
                measurements = {repr(m.request): m for m in store.measurements()}
                asks = [[a.key for a in step] for step in store.asks()]
        except NasError:
            measurements, asks = {}, []
        self.lost += sum(measurements.get(key) != m for key, m in self.measurements.items())
        self.lost += sum(now != was for now, was in zip(asks, self.asks, strict=False))
        self.lost += max(0, len(self.asks) - len(asks))
        self.measurements, self.asks = measurements, asks


def nas(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A process of the command line in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "nas.cli", *arguments], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_WAIT_POLICY": "passive"},
    )  # fmt: skip


def result_of(folder: Path, *arguments: str) -> str:
    """The output of a command that must succeed."""
    process = nas(folder, *arguments)
    out, err = process.communicate(timeout=_PATIENCE_S)
    if process.returncode:
        raise SystemExit(f"nas {' '.join(arguments)}: exit code {process.returncode}\n{err}")
    return out


def kill_and_resume(campaign: Campaign, folder: Path, rng: random.Random, stages: Sequence[str]) -> int:
    """Kills a driver in each of the stages, lets the run end, and returns how many were killed."""
    done = 0
    for stage in stages:
        driver = nas(folder, *campaign.command())
        deadline = time.monotonic() + _PATIENCE_S
        while driver.poll() is None and STAGES.index(campaign.stage()) < STAGES.index(stage):
            if time.monotonic() > deadline:
                raise SystemExit(f"{campaign.run}: still in {campaign.stage()} after {_PATIENCE_S:.0f} s")
            time.sleep(0.05)
        try:
            _, err = driver.communicate(timeout=rng.uniform(0.0, _LONGEST_S))
        except subprocess.TimeoutExpired:
            campaign.stages[campaign.stage()] += 1
            driver.send_signal(signal.SIGKILL)
            driver.communicate()
            done += 1
            campaign.check()
            continue
        if driver.returncode:
            raise SystemExit(f"{campaign.run}: a driver ended with exit code {driver.returncode}\n{err}")
        break
    if campaign.unfinished():
        result_of(folder, *campaign.command())
    campaign.check()
    return done


def main(kills: int = 100, seed: int = 0) -> None:
    """Runs the benchmark and prints its table; exit code 1 where something was lost."""
    rng = random.Random(seed)
    print(__doc__, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "job.yaml").write_text(_JOB)
        weights = json.loads(result_of(folder, "train", "job.yaml", "--json"))["weights"]
        print(table_head("run", "kills", *STAGES, "lost", "weights", "evaluations"), flush=True)
        done, faults = 0, 0
        stages = [stage for stage, n in _KILLS for _ in range(n)]
        while done < kills:
            run = f"killed-{len(list((folder / 'runs').iterdir())) + 1}"
            campaign = Campaign(RunsFolder(folder / "runs"), folder / "job.yaml", run)
            n = kill_and_resume(campaign, folder, rng, stages)
            with Run.open(campaign.runs, run).store() as store:
                same, measured = store.state().weights == weights, [repr(m.request) for m in store.measurements()]
            n_asked = sum(map(len, campaign.asks))
            faults += campaign.lost + (not same) + (len(measured) - len(set(measured))) + (n_asked != 40)
            killed = [campaign.stages[stage] for stage in STAGES]
            print(table_row(run, n, *killed, campaign.lost, "the same" if same else "others", n_asked), flush=True)
            done += n
    print(f"{done} kills, {faults} faults")
    if faults:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
