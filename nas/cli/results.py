"""Commands that show runs: runs, show, plot, label."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import nas.engine
import nas.jobs
import nas.results
import nas.runs
from nas.cli.app import (
    DEFAULT_RUNS,
    Json,
    RunId,
    Runs,
    Select,
    app,
    argument,
    on_server,
    option,
    print_change,
)
from nas.cli.completion import profile_names
from nas.cli.output import (
    print_expert_usage,
    print_failures,
    print_finetunings,
    print_improvement,
    print_insight,
    print_json,
    print_nested,
    print_report,
    print_result,
    print_selection,
    print_steps,
    print_table,
    print_training,
)
from nas.cli.remedies import next_text, run_command
from nas.cli.remote import downloaded
from nas.cli.running import no_collector, opened_run
from nas.engine.store.folder import RunsFolder, check_folder
from nas.engine.store.labels import Labels, read_labels, write_labels
from nas.plugins.parts import require

if TYPE_CHECKING:
    from nas.service.client import NasClient

LabelOnServer = Annotated[
    str | None, option("--server", help="Label runs of this server (NAS_SERVER is ignored here).")
]


@app.command("runs", epilog="Example: nas runs --tag thesis")
def list_runs(
    runs: Runs = DEFAULT_RUNS,
    tag: Annotated[str | None, option("--tag", help="Only runs with this tag; `nas label` adds tags.")] = None,
    as_json: Json = False,
) -> None:
    """List all runs with their status and progress."""
    runs_folder = RunsFolder(runs)
    if runs != DEFAULT_RUNS:
        runs_folder.check_exists()
    rows = [row for row in nas.engine.run_rows(runs_folder) if tag is None or tag in row.tags]
    if as_json:
        return print_json([{**row.to_json(), "next": next_text(row.next, runs)} for row in rows])
    if not rows and tag is not None:
        return print(f"no run in {runs} has the tag {tag}")
    if not rows:
        return print(f"no runs in {runs}; start one with: nas search JOB.yaml")
    header = ["run", "kind", "status", "progress", "reason", "next"]
    cells = [[*row.cells(), next_text(row.next, runs)] for row in rows]
    if any(row.tags for row in rows):
        header, cells = [*header, "tags"], [[*line, ", ".join(row.tags)] for line, row in zip(cells, rows, strict=True)]
    return print_table(header, cells)


@app.command(epilog='Example: nas show digits-cnn-1 --select "latency_ms<=0.05"')
def show(
    run: RunId,
    runs: Runs = DEFAULT_RUNS,
    select: Select = None,
    profile: Annotated[
        str | None,
        option(
            "--profile", help="Show only the front of this hardware profile of the run.", autocompletion=profile_names
        ),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Show the networks that could not be measured, with the reasons.")
    ] = False,
    steps: Annotated[
        bool, typer.Option("--steps", help="Show how each step chose its networks, and by which models.")
    ] = False,
    experts: Annotated[
        bool, typer.Option("--experts", help="Show how many tokens the exported network routes to each expert.")
    ] = False,
    test_files: Annotated[
        bool, typer.Option("--test-files", help="List the files or rows of the test part instead, with their classes.")
    ] = False,
    validation_files: Annotated[bool, typer.Option("--validation-files", help="Those of the validation part.")] = False,
    training_files: Annotated[bool, typer.Option("--training-files", help="Those of the training part.")] = False,
    as_json: Json = False,
) -> None:
    """Show the front and the insights of a run.

    Front, anchors, predictors and importance of genes; with --select, its networks within limits.
    """
    no_collector()
    parts = [("train", training_files), ("validation", validation_files), ("test", test_files)]
    opened = opened_run(runs, run)
    if sum((failed, steps, experts, any(is_listed for _, is_listed in parts))) > 1:
        raise typer.BadParameter(
            "--failed, --steps, --experts and the lists of files exclude each other; give one of them"
        )
    if any(is_listed for _, is_listed in parts):
        return _list_files(opened, [part for part, is_listed in parts if is_listed], as_json)
    if experts:
        usage = nas.results.expert_usage(opened.runs, run, select=select)
        return print_json(usage) if as_json else print_expert_usage(usage)
    if steps:
        report = opened.report_of(profile)
        return print_json([step.to_json() for step in report.steps]) if as_json else print_steps(report)
    if failed:
        return _show_failed(opened, as_json, other_options=(select, profile))
    if opened.kind == "training" and profile is None:
        return _show_training(opened, select, as_json)
    if select is not None:
        report = opened.report_of(profile)
        is_named = nas.results.names_network(select)
        limits = () if is_named else nas.results.parse_limits(report, select)
        selected = report if is_named else nas.results.within(report, limits)
        best = nas.results.choose(report, select) if is_named else nas.results.best_within(selected, select)
        if as_json:
            return print_json(nas.results.selection_json(selected, limits, best))
        return print_selection(report, selected, best, joint=report if profile is None else opened.report)
    live, (report, insight) = nas.engine.is_held(opened.folder), opened.report_and_insight(profile)
    improvement = nas.runs.improvement_of(opened) if nas.runs.is_finetuning(opened) else None
    further = opened.finetunings(report)
    if as_json:
        run_fields = {
            "live": live,
            "waiting": opened.waiting,
            "next": next_text(opened.next_step, opened.runs.root),
            "finetunings": [finetuning.to_json() for finetuning in further],
            "usage": opened.usage,
        }
        run_fields |= {} if improvement is None else {"gain": improvement.to_json()}
        return print_json({**nas.results.show_json(report), "insight": nas.results.insight_json(insight), **run_fields})
    print_report(opened, report, live=live, profile=profile)
    if improvement is not None:
        print_improvement(opened.id, improvement)
    else:
        print_insight(report, insight)
    return print_finetunings(further, runs=opened.runs.root)


def _show_failed(run: nas.Run, as_json: bool, *, other_options: tuple[str | None, str | None]) -> None:
    """Prints the networks of a run that could not be measured."""
    if any(value is not None for value in other_options):
        raise typer.BadParameter("--failed shows all networks that could not be measured; drop --select and --profile")
    failures = run.failures()
    if as_json:
        return print_json({"run": run.id, "networks": [network.to_json() for network in failures]})
    return print_failures(run.id, failures, retry=f"{run_command('resume', run.id, run.runs.root)} --retry-failed")


def _show_training(opened: nas.Run, select: str | None, as_json: bool) -> None:
    if select is not None:
        nested = nas.results.networks_by_cost(opened, note=lambda text: print(text, file=sys.stderr))
        return print_json(nested.to_json(select)) if as_json else print_nested(nested, select)
    training, further = nas.engine.training_json(opened), opened.finetunings(None)
    following = next_text(opened.next_step, opened.runs.root)
    if as_json:
        shown = {**training, "next": following}
        return print_json({**shown, "finetunings": [finetuning.to_json() for finetuning in further]})
    print_training(training, following=following)
    return print_finetunings(further, runs=opened.runs.root)


def _list_files(run: nas.Run, parts: Sequence[str], as_json: bool) -> None:
    """Prints the names and classes of the examples in parts of a run's data, a line each, in the order of the part."""
    data = nas.jobs.load_run_data(run)
    path, names = data.job.config.data.path, data.dataset.class_names
    dataset_parts = {part: getattr(data.dataset, part) for part in parts}
    rows = {
        part: [{"name": name, **_label(label, names)} for name, label in zip(p.names, p.labels.tolist(), strict=True)]
        for part, p in dataset_parts.items()
    }
    if as_json:
        return print_json({"run": run.id, "path": None if path is None else str(path), "parts": rows})
    if path is not None:
        print(f"of {path}:", file=sys.stderr)
    lines = [[part, row["name"], _label_text(row)] for part, part_rows in rows.items() for row in part_rows]
    return print("\n".join("\t".join(line if len(parts) > 1 else line[1:]) for line in lines))


def _label(label: Any, names: Sequence[str]) -> dict[str, Any]:
    """The label of an example: a class, a number or a set of labels; nothing for the labels of a plug-in's data."""
    if isinstance(label, int):
        return {"class": names[label]}
    if isinstance(label, float):
        return {"number": label}
    if isinstance(label, list) and len(label) == len(names) and all(isinstance(value, float) for value in label):
        return {"labels": [name for name, value in zip(names, label, strict=True) if value]}
    return {}


def _label_text(row: dict[str, Any]) -> str:
    if "number" in row:
        return f"{row['number']:g}"
    return str(row.get("class", " ".join(row.get("labels", ()))))


@app.command(epilog="Example: nas plot digits-cnn-1 -o plots")
@on_server("runs")
def plot(
    client: NasClient | None,
    run: RunId,
    output: Annotated[
        Path | None, option("-o", "--output", help="Folder to write to; the run's own by default.")
    ] = None,
    select: Annotated[
        str | None, option("--select", help='Limits to draw, with the front within them, e.g. "latency_ms<=1.0".')
    ] = None,
    experts: Annotated[
        bool, typer.Option("--experts", help="Only the experts of one network, which --select chooses.")
    ] = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Plot a run as pictures and an interactive page.

    Front, convergence, predictions and importance of genes, as PNG, SVG and one HTML page. With --server: they are
    downloaded into the folder --output, or one with the name of the run.
    """
    if client is not None:
        artifact = client.plot(run, select=select, experts=experts, on_change=print_change)
        downloads = [str(path) for path in downloaded(client, artifact, output or Path(run))]
        return print_result(as_json, {**(artifact.result or {}), "paths": downloads}, "\n".join(downloads))
    no_collector()
    require("plots", "nas plot")
    opened = opened_run(runs, run)
    if output is not None:
        check_folder(output)
    quality: dict[str, Any] = {}
    if experts:
        measured_experts = nas.results.expert_quality(opened.runs, run, select=select)
        chart = nas.results.expert_chart(measured_experts)
        paths = nas.results.write_chart("experts", chart, output or opened.folder.plots)
        quality = measured_experts.to_json()
    else:
        paths = opened.plot(output, select=select)
    names = [str(path) for path in paths]
    return print_result(as_json, {"paths": names, **quality}, "\n".join(names))


@app.command(epilog='Example: nas label digits-cnn-1 --add thesis --note "first try"')
@on_server("runs", server=LabelOnServer)
def label(
    client: NasClient | None,
    runs_: Annotated[list[str], argument(metavar="RUN...", help="One or several runs; `nas runs` lists them.")],
    add: Annotated[list[str] | None, option("--add", help="A tag to add; may be repeated.")] = None,
    remove: Annotated[list[str] | None, option("--remove", help="A tag to remove; may be repeated.")] = None,
    note: Annotated[str | None, option("--note", help='The note in place of the present one; "" removes it.')] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Show or change the tags and the note of runs."""
    changes = bool(add or remove or note is not None)

    def edited(labels: Labels) -> Labels:
        return labels.edited(add or (), remove or (), note) if changes else labels

    labels_by_run: dict[str, Labels] = {}
    if client is not None:
        for run in runs_:
            now = client.status(run)
            labels_by_run[run] = edited(Labels(now.tags, now.note))
        for run, labels in labels_by_run.items() if changes else ():
            client.label(run, tags=labels.tags, note=labels.note)
    else:
        folder_by_run = {run: RunsFolder(runs).get(run) for run in runs_}
        labels_by_run = {run: edited(read_labels(folder)) for run, folder in folder_by_run.items()}
        for run, labels in labels_by_run.items() if changes else ():
            write_labels(folder_by_run[run], labels)
    if as_json:
        entries = [
            {"run": run, "tags": list(labels.tags), "note": labels.note} for run, labels in labels_by_run.items()
        ]
        return print_json(entries[0] if len(runs_) == 1 else entries)
    for run, labels in labels_by_run.items():
        print(f"{run}: {', '.join(labels.tags) or 'no tags'}")
        if labels.note:
            print(labels.note)
    return None
