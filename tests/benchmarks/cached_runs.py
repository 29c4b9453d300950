"""Searches on tables in parallel processes, each cached when it ends, so that an interrupted benchmark continues."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from nas.runs.bench.results_file import Row
from nas.runs.bench.search import Replay
from nas.runs.bench.table import Table
from nas.runs.bench.table_file import description
from tests.benchmarks.algorithm_source import source_digest

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Spec:
    """One run: everything that its result depends on but the table's content and the algorithm's source."""

    table: Path
    maximize: tuple[str, ...]
    minimize: tuple[str, ...]
    exact: tuple[str, ...]
    algorithm: str
    seed: int
    budget: int
    target: float
    batch: int

    @property
    def key(self) -> str:
        """A key that changes with everything that could change the result."""
        parts = {**asdict(self), "table": table_digest(self.table), "source": source_digest(self.algorithm)}
        return json.dumps(parts, sort_keys=True)

    def run(self) -> Row:
        """Executes the run."""
        return _replay(self.table, self.maximize, self.minimize, self.exact).run(
            self.algorithm, self.seed, evaluations=self.budget, target=self.target, batch=self.batch
        )


@cache
def table_digest(path: Path) -> str:
    """Digest of both files of a table."""
    return hashlib.sha256(path.read_bytes() + description(path)[0].read_bytes()).hexdigest()[:16]


class Cache:
    """Results by `Spec.key`, one file of JSON lines per algorithm.

    Incomplete lines, of a process that was killed while it wrote, are ignored and their runs repeated.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._rows: dict[str, Row] = {}
        for file in sorted(folder.glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("}\n"):
                    kept = json.loads(line)
                    self._rows[kept["key"]] = TypeAdapter(Row).validate_python(kept["row"])

    def find(self, spec: Spec) -> Row | None:
        """The result of a run, if it is cached."""
        return self._rows.get(spec.key)

    def keep(self, spec: Spec, row: Row) -> None:
        """Adds a result."""
        key = spec.key
        self._rows[key] = row
        file = self._folder / f"{spec.algorithm}.jsonl"
        broken = file.exists() and file.stat().st_size > 0 and not file.read_bytes().endswith(b"\n")
        line = json.dumps({"key": key, "row": asdict(row)}, allow_nan=False)
        with file.open("a", encoding="utf-8") as stream:
            stream.write(("\n" if broken else "") + line + "\n")


def run_missing(specs: Sequence[Spec], kept: Cache, jobs: int) -> Iterator[tuple[Spec, Row]]:
    """Executes the runs that are not cached, in order, and caches and reports each when it ends.

    Args:
        jobs: processes, of one thread each.

    Raises:
        RuntimeError: an algorithm's source changed meanwhile, so that a result may be of either version.
    """
    missing = [spec for spec in dict.fromkeys(specs) if kept.find(spec) is None]
    if not missing:
        return
    os.environ.update(dict.fromkeys(THREADS, "1"))  # for the new processes
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        running = {pool.submit(_run, spec): spec for spec in missing}
        for done in as_completed(running):
            spec, (key, row) = running[done], done.result()
            if key != spec.key:
                raise RuntimeError(f"the source of {spec.algorithm} or its table changed meanwhile; start again")
            kept.keep(spec, row)
            yield spec, row
    finally:
        pool.shutdown(cancel_futures=True)


def _run(spec: Spec) -> tuple[str, Row]:
    return spec.key, spec.run()


@cache
def _replay(table: Path, maximize: tuple[str, ...], minimize: tuple[str, ...], exact: tuple[str, ...]) -> Replay:
    return Replay.from_table(_table(table), maximize, minimize, exact)


@cache
def _table(path: Path) -> Table:
    return Table.load(path)
