"""The command that pairs networks of a front: cascade."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import DEFAULT_RUNS, AcceptPluginVersions, Json, RunId, Runs, app, option
from nas.cli.output import print_json, print_table
from nas.cli.running import check_run, folder
from nas.results.export.export_paths import cascade_paths

if TYPE_CHECKING:
    from nas.results.analysis.cascade import CascadeTable, Row


@app.command(epilog="Example: nas cascade digits-cnn-1 --row 3 -o cascade")
def cascade(
    run: RunId,
    row: Annotated[int | None, option("--row", help="A cascade of the table by its number.")] = None,
    output: Annotated[
        Path | None, option("-o", "--output", help="With --row: the folder to export the cascade to.")
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="With --row: score the cascade that you chose on the test part, too.")
    ] = False,
    profile: Annotated[str | None, option("--profile", help="The hardware profile whose latencies count.")] = None,
    accept_plugin_versions: AcceptPluginVersions = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Pair networks of a front as a cascade.

    A small network answers where it is confident, a large one elsewhere. Thresholds
    are chosen on the validation part.
    """
    if row is None and (output is not None or test):
        raise typer.BadParameter("--output and --test are for one row of the table; give its number with --row")
    check_run(runs, run)
    from nas.results.analysis.cascade import cascade_pairs
    from nas.runs.run import Run

    opened = Run.open(folder(runs), run)
    report = opened.report_of(profile)
    cascade_pairs(report)
    if output is not None:
        cascade_paths(output, run)
    print(f"scoring {len(report.front)} networks on the validation part", file=sys.stderr)
    cascades = opened.cascades(profile=profile, accept_plugin_versions=accept_plugin_versions)
    outputs: dict[str, Any] = {}
    if row is not None:
        cascades.table.pair(row)  # raises where it is no cascade
        outputs |= {"test": cascades.tested(row)} if test else {}
        outputs |= {} if output is None else {"export": cascades.export(row, output)}
    if as_json:
        return print_json({**cascades.table.to_json(), **outputs})
    _print_table(cascades.table)
    for name, score in outputs.get("test", {}).items():
        share = "" if score["large"] is None else f", {score['share']:.1%} passed on"
        accuracy = f"{100 * score['accuracy']:.2f} ± {100 * score['error']:.2f} %"
        print(f"test part, {name}: accuracy {accuracy}, mean {score['mean_ms']:.4g} ms{share}")
    return _print_export(outputs["export"]) if "export" in outputs else None


def _print_table(table: CascadeTable) -> None:
    from nas.engine.formatting import format_value
    from nas.search.problem.objectives import ACCURACY

    latency, n = table.latency, len(table.members[0].right)
    print(f"{table.run}: {len(table.cascades)} cascades of {len(table.members)} networks, {n:,} validation examples")
    rows = []
    for i, row in enumerate(table.rows):
        entry = row.cascade
        pair = [str(entry.small), "", ""]
        if entry.threshold is not None:
            pair = [f"{entry.small} then {entry.large}", f"{entry.threshold:.4f}", f"{entry.share:.1%}"]
        p99 = "–" if entry.p99_ms is None else format_value(latency, entry.p99_ms)
        times = [format_value(latency, entry.mean_ms, entry.mean_error_ms), format_value(latency, entry.worst_ms), p99]
        rows.append([str(i), *pair, format_value(ACCURACY, entry.accuracy, entry.error), *times, _result(row)])
    print_table(["#", "networks", "threshold", "passed on", "accuracy", "mean", "worst", "p99", "result"], rows)
    print(f"networks by their numbers on the front; latencies are computed from measured {latency.name}")
    if table.batch_size > 1:
        print(f"a call has {table.batch_size} examples: those that are passed on are collected into full batches")


def _result(row: Row) -> str:
    """The gain of a row over the single networks, as text."""
    if row.gain is None:
        return "single network" if row.on_front else "single network, dominated"
    gain = f"{100 * row.gain.difference:+.2f} ± {100 * row.gain.threshold:.2f} points"
    return f"{gain} over {row.against}" if row.gain.distinguishable else f"a tie with {row.against}: {gain}"


def _print_export(exported: dict[str, Any]) -> None:
    examples = f"{exported['examples']:,} validation examples"
    if exported["graph"] is None:
        print(f"no conditional graph was written: {exported['rejected']}")
    else:
        print(
            f"wrote {exported['graph']}, for a batch of 1: parity with the two networks {exported['parity']:.1e} on {examples}"
        )
    files = exported["small"]["path"], exported["large"]["path"], exported["manifest"], exported["script"]
    print("\n".join(f"wrote {path}" for path in files))
