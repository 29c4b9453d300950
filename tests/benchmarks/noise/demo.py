"""The demo on a quiet machine, beside four busy processes and beside bursts.

    python -m tests.benchmarks.noise.demo FOLDER [--times 5] [--loads quiet,4,bursts] [--one-session]

Runs the recipe ``digits-cnn``, as ``make demo`` does, and then measures the front's members again with no load started, in
three sessions. Where its automatic groups are on, Linux shares the CPUs among login sessions (terminals, services) before it
does among processes: the demo has a session of its own, or with ``--one-session`` that of the busy processes. For each load:
the failed evaluations, the duration as a multiple of the quiet one, and the share of front members whose latency is within its
stated error of the mean of these. Finished runs are kept in ``FOLDER/demo.jsonl``; a second call continues.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from hardware_profiles.measuring.profiler import MAX_BATCH
from hardware_profiles.model_file import measure_together
from nas import open_run
from nas.jobs.recipes import read_recipe
from tests.benchmarks.noise.record import beside

OBJECTIVE, SESSIONS = "latency_ms@cpu-1-thread", 3


def nas(folder: Path, *arguments: str, apart: bool) -> Any:
    """What the command answers with ``--json``; `apart`: in a session of its own."""
    command = [sys.executable, "-m", "nas.cli", *arguments, "--json"]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, start_new_session=apart)
    if made.returncode:
        raise SystemExit(f"nas {' '.join(arguments)} failed:\n{made.stderr}")
    return json.loads(made.stdout)


def latencies(models: list[Path]) -> list[float]:
    """Latencies of ONNX files in milliseconds."""
    return [
        found.latency_ms
        for start in range(0, len(models), MAX_BATCH)
        for found in measure_together(models[start : start + MAX_BATCH], "cpu-1-thread")
    ]


def run(folder: Path, load: str, *, apart: bool) -> dict[str, Any]:
    """One demo beside a load, and its front measured again without."""
    with beside(load):
        started = time.perf_counter()
        made = nas(folder, "search", "digits-cnn.yaml", apart=apart)
        seconds = time.perf_counter() - started
    models = []
    for i in range(len(made["front"])):
        models.append(folder / f"{made['run']}-{i}.onnx")
        open_run(made["run"], folder / "runs").export(models[-1], index=i)
    again = np.mean([latencies(models) for _ in range(SESSIONS)], axis=0).tolist()
    front = [(point["values"][OBJECTIVE], point["errors"][OBJECTIVE]) for point in made["front"]]
    within = [abs(value - quiet) <= error for (value, error), quiet in zip(front, again, strict=True)]
    counts, name = made["counts"], load if apart else f"{load}, one session"
    return {
        "load": name, "run": made["run"], "seconds": seconds, "failed": counts["failed"] + counts["too_noisy"],
        "within": within, "front": front, "again": again,
    }  # fmt: skip


def report(found: list[dict[str, Any]]) -> str:
    """Markdown."""
    quiet = [one["seconds"] for one in found if one["load"].startswith("quiet")]
    lines = ["| load | demos | failed evaluations | seconds | times quiet | front within its errors | error stated |"]
    lines.append("|---|---|---|---|---|---|---|")
    for load in dict.fromkeys(one["load"] for one in found):
        own = [one for one in found if one["load"] == load]
        seconds = float(np.mean([one["seconds"] for one in own]))
        times = f"{seconds / float(np.mean(quiet)):.1f}" if quiet else "–"
        within = float(np.mean([w for one in own for w in one["within"]]))
        stated = float(np.median([error / value for one in own for value, error in one["front"]]))
        failed = sum(one["failed"] for one in own)
        lines.append(f"| {load} | {len(own)} | {failed} | {seconds:.0f} | {times} | {within:.0%} | {stated:.1%} |")
    return "\n".join(lines)


def main(
    folder: Path,
    times: Annotated[int, typer.Option(help="demos beside each load")] = 5,
    loads: Annotated[str, typer.Option(help="see tests.benchmarks.noise.record")] = "quiet,4,bursts",
    one_session: Annotated[bool, typer.Option("--one-session", help="that of the busy processes")] = False,
) -> None:
    """Runs what the folder lacks, and prints the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits-cnn.yaml").write_text(read_recipe("digits-cnn"), encoding="utf-8")
    kept = folder / "demo.jsonl"
    found = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    for load in loads.split(","):
        name = f"{load}, one session" if one_session else load
        for _ in range(times - sum(one["load"] == name for one in found)):
            found.append(run(folder, load, apart=not one_session))
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found[-1]) + "\n")
            print(report(found), flush=True)
    print(report(found))


if __name__ == "__main__":
    typer.run(main)
