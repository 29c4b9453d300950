"""Makes a folder of `tests.data.earlier_runs`: two finished runs and a killed one, as the version in which it runs makes them.

    python -m tests.data.make_earlier_runs FOLDER

Run it in a checkout of the version to record, with this file and ``earlier_runs.py`` beside the other test data there; it takes
about three minutes. The runs are a convolutional family in two precisions with a lookup table, a language model with experts,
and a captured model of a user, whose search is killed after its training and a part of its evaluations. The user's module is
not in the folder.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from tests.data.earlier_runs import ANY_LATENCY, ARCHIVE, FOLDER, HERE, outputs_for_fixed_inputs, read_rows
from tests.nas import short_rounds
from tests.nas.users_networks import MODEL, NAME, SOURCE
from tests.supernets.data.test_documents import document

CNN, TEXTS, USERS, USERS_BLOCKS = "cnn-1", "texts-1", "users-1", "users-blocks-1"
JOBS = {
    "cnn": """
name: cnn
seed: 3
data: {name: digits, validation: 0.25, test: 0.25}
supernet:
  family: mobile-cnn
  space:
    stem: 8
    stem_stride: 1
    stages:
      - {stride: 2, depth: [1, 2], width: [4, 16], kernel: [3], expand: [1, 4]}
      - {stride: 2, depth: [1, 2], width: [8, 24], kernel: [3, 5], expand: [1, 4], squeeze: true, activation: hardswish}
    head: 16
    mix: 16
    resolution: [6, 8]
training: {epochs: 4, batch_size: 64, random_subnets: 1}
hardware: [cpu-1-thread]
objectives: [accuracy, macs, latency_ms]
precisions: [fp32, int8]
search: {algorithm: random, evaluations: 12, batch: 4}
calibration_images: 300
""",
    "texts": """
name: texts
task: language-modelling
seed: 1
data: {name: text, path: text.txt, max_tokens: 40, vocabulary: 300}
supernet:
  family: decoder
  space:
    {head_size: 8, depth: [1, 2], width: [16, 24], heads: [1, 2], queries: [1, 2], hidden: [16, 32], experts: [1, 2],
     active_experts: [1]}
training: {epochs: 1, batch_size: 8, learning_rate: 0.01}
objectives: [perplexity, bits_per_byte, macs]
search: {algorithm: random, evaluations: 6, batch: 3}
""",
    "users": f"""
name: users
seed: 5
data: {{name: digits, validation: 0.25, test: 0.25}}
supernet: {{model: "{MODEL}", widths: [0.5, 0.75, 1]}}
training: {{epochs: 2, random_subnets: 1}}
hardware: [cpu-1-thread]
objectives: [accuracy, macs]
search: {{algorithm: random, evaluations: 16, batch: 2}}
calibration_images: 300
""",
    "users-blocks": """
name: users-blocks
seed: 5
data: {name: digits, validation: 0.25, test: 0.25}
supernet: {from: users-1}
hardware: [cpu-1-thread]
objectives: [accuracy, latency_ms]
lookup_tables: [users.blocks.json]
search: {algorithm: random, evaluations: 3}
calibration_images: 300
""",
}
TABLES = ("cnn.blocks.json", "users.blocks.json")
KILLED_AFTER = 4
"""Evaluations of the killed search, at least."""


class Recorder:
    """Runs ``nas`` in a folder, and writes what it returns into another one."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder, self.target = folder, target

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts ``nas ARGUMENTS --json`` with short rounds."""
        environment = short_rounds.environment()
        environment["PYTHONPATH"] += os.pathsep + str(self.folder)
        return subprocess.Popen(
            short_rounds.command(*arguments, "--json"),
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def nas(self, *arguments: str) -> Any:
        """The data that the command prints."""
        process = self.start(*arguments)
        printed, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"nas {' '.join(arguments)} failed")
        return json.loads(printed)

    def write(self, run: str, kind: str, data: Any) -> None:
        (self.target / f"{run}.{kind}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def record_results(self, run: str) -> None:
        """Writes what a finished run shows, and its first and its largest network."""
        shown = self.nas("show", run)
        self.write(run, "show", shown)
        largest = shown["anchors"]["largest"]["key"]
        arguments = (("--index", "0"), ("--select", f"key={largest}"))
        self.write(run, "exports", [self.exported(run, own, f"{run}.{i}.onnx") for i, own in enumerate(arguments)])

    def exported(self, run: str, arguments: Sequence[str], name: str) -> dict[str, Any]:
        """A network of the file of exports."""
        printed = self.nas("export", run, *arguments, "-o", name)
        files = self.folder.glob(f"{Path(name).stem}*.onnx")
        ends = {path.name.removeprefix(Path(name).stem): outputs_for_fixed_inputs(path.read_bytes()) for path in files}
        return {"arguments": list(arguments), "printed": printed, "outputs": ends}

    def record_blocks(self, run: str) -> None:
        """Writes the blocks of a run's most accurate network."""
        selected = self.nas("show", run, "--select", ANY_LATENCY)
        self.write(run, "blocks", {"key": selected["key"], "blocks": selected["blocks"]})

    def record_continuation(self, run: str) -> None:
        """Resumes a killed run and writes what it asked and measured."""
        self.nas("resume", run, "--inline")
        database = self.folder / "runs" / run / "run.db"
        asks = read_rows(database, "SELECT architectures FROM asks ORDER BY step")
        query = "SELECT architecture, metric, value FROM measurements WHERE fidelity = 'search' ORDER BY id"
        values = read_rows(database, query)
        self.write(run, "continued", {"asks": [json.loads(ask) for (ask,) in asks], "values": values})

    def kill_search(self, job: str, run: str) -> None:
        """Starts a search and kills it when `KILLED_AFTER` evaluations are done."""
        process, database = self.start("search", job, "--inline"), self.folder / "runs" / run / "run.db"
        n_done = 0
        while n_done < KILLED_AFTER:
            if process.poll() is not None:
                raise SystemExit(f"{run} ended before it was killed")
            time.sleep(0.005)
            with suppress(sqlite3.OperationalError):  # the database has no tables yet
                query = "SELECT COUNT(DISTINCT architecture) FROM measurements WHERE metric = 'accuracy'"
                ((n_done,),) = read_rows(database, query) if database.exists() else [(0,)]
        process.kill()
        process.communicate()

    def write_archive(self, runs: Sequence[str], files: Sequence[str]) -> None:
        """Writes the runs without pictures and journals, and other files."""
        with tarfile.open(self.target / ARCHIVE, "w:gz", compresslevel=9) as archive:
            for run in runs:
                folder = self.folder / "runs" / run
                with closing(sqlite3.connect(folder / "run.db")) as database:
                    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    database.execute("PRAGMA journal_mode = DELETE")
                    database.execute("VACUUM")
                for path in sorted(folder.rglob("*")):
                    kept = path.name != "run.db.lock" and "plots" not in path.parts
                    if path.is_file() and kept:
                        _add(archive, self.folder, path.relative_to(self.folder))
            for name in files:
                _add(archive, self.folder, Path(name))


def _add(archive: tarfile.TarFile, folder: Path, name: Path) -> None:
    """Adds a file of a folder without its owner and time; of a job file, without the folder."""
    entry, content = tarfile.TarInfo(name.as_posix()), (folder / name).read_bytes()
    if name.name == "job.yaml":
        content = content.replace(str(folder).encode(), FOLDER.encode())
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def main() -> None:
    """Searches, records, and writes the archive."""
    (name,) = sys.argv[1:]
    target = HERE / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "search")
        folder.mkdir()
        recorder = Recorder(folder, target)
        (folder / f"{NAME}.py").write_text(SOURCE)
        (folder / "text.txt").write_text("\n\n".join(map(document, range(120))), encoding="utf-8")
        for job, text in JOBS.items():
            (folder / f"{job}.yaml").write_text(text)
        for job, table in zip(("cnn", "users"), TABLES, strict=True):
            recorder.nas("calibrate", "cpu-1-thread", "--job", f"{job}.yaml", "--subnets", "5", "-o", table)
        with (folder / "cnn.yaml").open("a") as file:
            file.write(f"lookup_tables: [{TABLES[0]}]\n")
        for job, run in (("cnn", CNN), ("texts", TEXTS)):
            recorder.nas("search", f"{job}.yaml", "--inline")
            recorder.record_results(run)
        recorder.record_blocks(CNN)
        recorder.kill_search("users.yaml", USERS)
        recorder.write_archive((CNN, TEXTS, USERS), ("text.txt", "users-blocks.yaml", *TABLES))
        (folder / f"{NAME}.py").unlink()
        recorder.record_continuation(USERS)
        recorder.record_results(USERS)
        recorder.nas("search", "users-blocks.yaml", "--inline")
        recorder.record_blocks(USERS_BLOCKS)
    for path in sorted(target.iterdir()):
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
