"""Commands that read runs: runs, show, plot, export, export-transformers, export-study."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.app import (
    DEFAULT_RUNS,
    AcceptPluginVersions,
    Index,
    Json,
    Knee,
    RunId,
    Runs,
    Select,
    WithPreprocessing,
    app,
    option,
)
from nas.cli.insight import print_insight
from nas.cli.output import (
    print_expert_usage,
    print_failures,
    print_finetunings,
    print_improvement,
    print_json,
    print_nested,
    print_report,
    print_result,
    print_selection,
    print_table,
    print_training,
)
from nas.cli.remedies import next_text, run_command
from nas.cli.running import check_choice, check_one_choice, check_run, folder, no_collector
from nas.engine.store.folder import check_folder
from nas.plugins.parts import require
from nas.results.export.export_paths import check_empty, export_path, torch_path

if TYPE_CHECKING:
    from nas.runs.run import Run


@app.command("runs", epilog="Example: nas runs --tag thesis")
def list_runs(
    runs: Runs = DEFAULT_RUNS,
    tag: Annotated[str | None, option("--tag", help="Only runs with this tag; `nas label` adds tags.")] = None,
    as_json: Json = False,
) -> None:
    """List all runs with their status and progress."""
    from nas.engine.run_listing import run_rows

    runs_folder = folder(runs)
    if runs != DEFAULT_RUNS:
        runs_folder.check_exists()
    rows = [row for row in run_rows(runs_folder) if tag is None or tag in row.tags]
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
        str | None, option("--profile", help="Show only the front of this hardware profile of the run.")
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Show the networks that could not be measured, with the reasons.")
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
    check_run(runs, run)
    parts = [("train", training_files), ("validation", validation_files), ("test", test_files)]
    from nas.engine.store.opening import is_held
    from nas.results.analysis.insight import insight_json
    from nas.results.analysis.network_selection import best_within, parse_limits, within
    from nas.results.analysis.report_json import selection_json, show_json
    from nas.runs.finetuning.improvement import improvement_of, is_finetuning
    from nas.runs.run import Run

    opened = Run.open(folder(runs), run)
    if sum((failed, experts, any(is_listed for _, is_listed in parts))) > 1:
        raise typer.BadParameter("--failed, --experts and the lists of files exclude each other; give one of them")
    if any(is_listed for _, is_listed in parts):
        return _list_files(run, runs, [part for part, is_listed in parts if is_listed], as_json)
    if experts:
        from nas.results.export.expert_usage import expert_usage

        usage = expert_usage(folder(runs), run, select=select)
        return print_json(usage) if as_json else print_expert_usage(usage)
    if failed:
        return _show_failed(opened, as_json, other_options=(select, profile))
    if opened.kind == "training" and profile is None:
        return _show_training(opened, select, as_json)
    if select is not None:
        report = opened.report_of(profile)
        limits = parse_limits(report, select)
        best = best_within(selected := within(report, limits), select)
        if as_json:
            return print_json(selection_json(selected, limits, best))
        return print_selection(report, selected, best)
    live, (report, insight) = is_held(opened.folder), opened.report_and_insight(profile)
    improvement, further = improvement_of(opened) if is_finetuning(opened) else None, opened.finetunings(report)
    if as_json:
        run_fields = {
            "live": live,
            "waiting": opened.waiting,
            "next": next_text(opened.next_step, opened.runs.root),
            "finetunings": [finetuning.to_json() for finetuning in further],
        }
        run_fields |= {} if improvement is None else {"gain": improvement.to_json()}
        return print_json({**show_json(report), "insight": insight_json(insight), **run_fields})
    print_report(opened, report, live=live)
    if improvement is not None:
        print_improvement(opened.id, improvement)
    else:
        print_insight(report, insight)
    return print_finetunings(further, runs=opened.runs.root)


def _show_failed(run: Run, as_json: bool, *, other_options: tuple[str | None, str | None]) -> None:
    """Prints the networks of a run that could not be measured."""
    if any(value is not None for value in other_options):
        raise typer.BadParameter("--failed shows all networks that could not be measured; drop --select and --profile")
    failures = run.failures()
    if as_json:
        return print_json({"run": run.id, "networks": [network.to_json() for network in failures]})
    return print_failures(run.id, failures, retry=f"{run_command('resume', run.id, run.runs.root)} --retry-failed")


def _show_training(opened: Run, select: str | None, as_json: bool) -> None:
    from nas.engine.run_listing import training_json

    if select is not None:
        from nas.results.export.cost_selection import networks_by_cost  # loads torch

        nested = networks_by_cost(opened, note=lambda text: print(text, file=sys.stderr))
        return print_json(nested.to_json(select)) if as_json else print_nested(nested, select)
    training, further = training_json(opened), opened.finetunings(None)
    following = next_text(opened.next_step, opened.runs.root)
    if as_json:
        shown = {**training, "next": following}
        return print_json({**shown, "finetunings": [finetuning.to_json() for finetuning in further]})
    print_training(training, following=following)
    return print_finetunings(further, runs=opened.runs.root)


def _list_files(run: str, runs: Path, parts: Sequence[str], as_json: bool) -> None:
    """Prints the names and classes of the examples in parts of a run's data, a line each, in the order of the part."""
    from nas.engine.store.stored_run import StoredRun
    from nas.jobs.build.prepared_job import load_run_data

    data = load_run_data(StoredRun.open(folder(runs), run))
    path, names = data.config.data.path, data.dataset.class_names
    dataset_parts = {part: getattr(data.dataset, part) for part in parts}
    rows = {
        part: [{"name": name, **_label(label, names)} for name, label in zip(p.names, p.labels.tolist(), strict=True)]
        for part, p in dataset_parts.items()
    }
    if as_json:
        return print_json({"run": run, "path": None if path is None else str(path), "parts": rows})
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
def plot(
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

    Front, convergence, predictions and importance of genes, as PNG, SVG and one HTML page.
    """
    no_collector()
    require("plots", "nas plot")
    check_run(runs, run)
    if output is not None:
        check_folder(output)
    from nas.runs.run import Run

    opened = Run.open(folder(runs), run)
    quality: dict[str, Any] = {}
    if experts:
        from nas.results.export.expert_usage import expert_quality
        from nas.results.plots.expert_chart import expert_chart
        from nas.results.plots.picture_files import write_chart

        measured_experts = expert_quality(folder(runs), run, select=select)
        paths = write_chart("experts", expert_chart(measured_experts), output or opened.folder.plots)
        quality = measured_experts.to_json()
    else:
        paths = opened.plot(output, select=select)
    names = [str(path) for path in paths]
    print_result(as_json, {"paths": names, **quality}, "\n".join(names))


@app.command(epilog='Example: nas export digits-cnn-1 --select "latency_ms<=0.05"')
def export(
    run: RunId,
    output: Annotated[
        Path,
        option(
            "-o",
            "--output",
            help="The ONNX file, or a folder to name it in after run and network, made if missing; by default here.",
        ),
    ] = Path(),
    format: Annotated[
        str,
        option("--format", help="onnx; or torch, a Python file of torch's layers that needs nothing of this project."),
    ] = "onnx",
    select: Select = None,
    index: Index = None,
    knee: Knee = False,
    with_preprocessing: WithPreprocessing = False,
    accept_plugin_versions: AcceptPluginVersions = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Export one network of a run as verified ONNX or torch.

    It is verified against torch, and comes with its manifest, its weights and a script that runs it.
    """
    check_one_choice(select, index, knee)
    if format != "onnx":
        if format != "torch":
            raise typer.BadParameter(f"--format {format}: expected onnx or torch; see also nas export-transformers")
        if with_preprocessing:
            raise typer.BadParameter("--with-preprocessing is for --format onnx: a module of torch takes tensors")
        return _export_torch(
            run, output, select, index, knee, runs, as_json, accept_plugin_versions=accept_plugin_versions
        )
    check_run(runs, run)
    chosen = check_choice(runs, run, select, index)
    export_path(output, run, "" if chosen is None else chosen.key)
    from nas.results.export.onnx_export import export_onnx

    exported = export_onnx(
        folder(runs),
        run,
        output,
        select=select,
        index=index,
        with_preprocessing=with_preprocessing,
        accept_plugin_versions=accept_plugin_versions,
    )
    if as_json:
        return print_json(exported)
    same, examples = exported["as_measured"], f"{exported['examples']} {exported['answered']}"
    answers = "" if same is None else f", {same:.2%} of validation {examples} as when it was measured"
    if exported["fidelity"] != "final" and any("@" in name for name in exported["values"]):
        print("latency measured only by the search's shorter protocol")
    _print_knee(runs, run, chosen=select is not None or index is not None or knee)
    runtime = "" if exported["runtime"] == "onnxruntime" else f" in {exported['runtime']}"
    print(f"wrote {exported['path']} ({_values(exported)}, {exported['precision']}{runtime})")
    runtime_parities = [f", in {name} {parity:.1e}" for name, parity in exported.get("parity_in_runtimes", {}).items()]
    served = f", as served {exported['served_parity']:.1e}" if "served_parity" in exported else ""
    print(
        f"parity with torch {exported['parity']:.1e}{''.join(runtime_parities)}{served}{answers}\nsha256 {exported['sha256']}"
    )
    files = [exported[name] for name in ("step", "weights", "tokenizer", "manifest", "script") if name in exported]
    length_note = (
        f"\nit reads texts of at most {exported['positions']:,} tokens, where the script stops"
        if "positions" in exported
        else ""
    )
    return print("\n".join(f"wrote {path}" for path in files) + length_note)


def _print_knee(runs: Path, run: str, *, chosen: bool) -> None:
    from nas.runs.run import Run

    if not chosen and Run.open(folder(runs), run).kind != "training":
        print("exporting the network at the knee of the front; --select or --index chooses another")


def _export_torch(
    run: str,
    output: Path,
    select: str | None,
    index: int | None,
    knee: bool,
    runs: Path,
    as_json: bool,
    *,
    accept_plugin_versions: bool,
) -> None:
    check_run(runs, run)
    chosen = check_choice(runs, run, select, index, largest=True)
    torch_path(output, run, "" if chosen is None else chosen.key)
    from nas.results.export.torch_export import export_torch

    exported = export_torch(
        folder(runs), run, output, select=select, index=index, accept_plugin_versions=accept_plugin_versions
    )
    if as_json:
        return print_json(exported)
    _print_knee(runs, run, chosen=select is not None or index is not None or knee)
    if exported["searched_precision"] != "fp32":
        print(f"the search measured it in {exported['searched_precision']}; torch's layers are written in fp32")
    print(f"wrote {exported['path']} ({_values(exported)})\nparity with the searched network {exported['parity']:.1e}")
    print("\n".join(f"wrote {exported[name]}" for name in ("weights", "manifest")))
    if exported["original"]:
        print(f"the weights do not fit the original class: {exported['original']}")
    else:
        print("the weights fit the original class, too, with as many outputs: load_state_dict(..., strict=False)")
    return print(f"use it: from {Path(exported['path']).stem} import load; network = load()")


@app.command("export-transformers", epilog="Example: nas export-transformers minilm-text-1 -o encoder --knee")
def export_transformers(
    run: RunId,
    output: Annotated[Path, option("-o", "--output", help="The folder to create.")],
    select: Select = None,
    index: Index = None,
    knee: Knee = False,
    accept_plugin_versions: AcceptPluginVersions = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Export a text model or a ViT for transformers.

    Its layers must be uniform. For a training: the largest network.
    """
    check_one_choice(select, index, knee)
    check_run(runs, run)
    check_empty(output)
    check_choice(runs, run, select, index, largest=True)
    from nas.results.export.transformers_export import export_transformers as write

    exported = write(
        folder(runs), run, output, select=select, index=index, accept_plugin_versions=accept_plugin_versions
    )
    load = f"{exported['loader']}.from_pretrained({exported['path']!r})"
    print_result(as_json, exported, f"wrote {exported['path']} ({_values(exported)}); load it with {load}")


def _values(exported: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in exported["values"].items())


@app.command("export-study", epilog="Example: nas export-study digits-cnn-1 --storage study.log")
def export_study(
    run: RunId,
    storage: Annotated[
        str,
        typer.Option(
            "--storage", help="A database's URL, or the path of a journal file (*.log), which is quicker to write."
        ),
    ] = "sqlite:///study.db",
    name: Annotated[str | None, option("--name", help="Name of the study; the run's id by default.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a study with the same name.")] = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Export a run as an Optuna study.

    For `optuna-dashboard` and Optuna's analyses.
    """
    require("optuna", "nas export-study")
    check_run(runs, run)
    from nas.results.export.optuna_study import export_study as write_study
    from nas.runs.run import Run

    opened = Run.open(folder(runs), run)
    with opened.store() as store:
        study = write_study(opened.report, store, storage=storage, name=name or run, replace=replace)
    failed = f", {study['failed']} of them without all values" if study["failed"] else ""
    print_result(as_json, study, f"wrote study {study['study']} to {storage}: {study['trials']} trials{failed}")
