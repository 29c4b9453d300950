"""Commands that export networks of runs: export, export-transformers, export-study, cascade."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import nas.results
import nas.runs
import nas.search
from nas.cli.app import (
    DEFAULT_RUNS,
    AcceptPluginVersions,
    Format,
    Index,
    Json,
    Knee,
    RunId,
    Runs,
    Select,
    WithPreprocessing,
    app,
    on_server,
    option,
    print_change,
)
from nas.cli.completion import profile_names
from nas.cli.output import print_json, print_result, print_table
from nas.cli.remote import downloaded
from nas.cli.running import check_choice, check_format, check_one_choice, driving, opened_run
from nas.engine.formatting import counted, format_value
from nas.plugins.parts import require
from nas.results.export.export_paths import CARD, cascade_paths, check_empty, export_path, torch_path
from nas.results.export.format_names import FOLDERS, ONNX, TORCH
from nas.results.export.manifest import model_name
from nas.search.problem.objectives import EXACT_METRICS

if TYPE_CHECKING:
    from nas.service.client import NasClient


@app.command(epilog='Example: nas export digits-cnn-1 --select "latency_ms<=0.05"')
def export(
    run: RunId,
    output: Annotated[
        Path,
        option(
            "-o",
            "--output",
            help="The ONNX or Python file, or a folder to name it in after run and network, made if missing; of other "
            "formats, the folder to create. By default here.",
        ),
    ] = Path(),
    format: Format = ONNX,
    select: Select = None,
    solve: Annotated[
        bool,
        typer.Option(
            "--solve",
            help="With --select LIMITS on costs: first solve for the best network within them, which nobody may have "
            "measured, and measure it.",
        ),
    ] = False,
    index: Index = None,
    knee: Knee = False,
    profile: Annotated[
        str | None,
        option(
            "--profile",
            help="Choose by the latencies of this hardware profile of the run alone: its knee, or its best.",
            autocompletion=profile_names,
        ),
    ] = None,
    with_preprocessing: WithPreprocessing = False,
    accept_plugin_versions: AcceptPluginVersions = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Export one network of a run, verified.

    As ONNX with a script that runs it, or in a format that another library loads.
    """
    check_one_choice(select, index, knee)
    check_format(format, with_preprocessing=with_preprocessing)
    opened = opened_run(runs, run)
    if profile is not None and (index is not None or opened.kind == "training"):
        raise typer.BadParameter(
            "--profile chooses the knee or the best network of a search; --index is the same for all profiles"
        )
    if profile is not None:
        select, knee = f"key={nas.results.choose(opened.report_of(profile), select).key}", True
    if solve and (select is None or profile is not None):
        raise typer.BadParameter('--solve takes limits on costs, as --select "latency_ms<=1", and no --profile')
    solved = None
    if solve and select is not None:
        with driving(runs, inline=True, accept_plugin_versions=accept_plugin_versions) as options:
            solved = nas.runs.solve(opened, select, options)
        select = f"key={solved['key']}"
    chosen = check_choice(opened, select, index, largest=format != ONNX)
    key = "" if chosen is None else chosen.key
    if format in FOLDERS:
        if output == Path():
            output = Path(f"{Path(model_name(run, key)).stem if key else run}-{format}")
        check_empty(output)
    else:
        (export_path if format == ONNX else torch_path)(output, run, key)
    exported = opened.export(
        output,
        format=format,
        select=select,
        index=index,
        with_preprocessing=with_preprocessing,
        accept_plugin_versions=accept_plugin_versions,
    )
    if solved is not None:
        exported = {**exported, "solved": solved}
    if as_json:
        return print_json(exported)
    if solved is not None:
        print_solved(solved)
    if format == ONNX and exported["fidelity"] != "final" and any("@" in name for name in exported["values"]):
        print("latency measured only by the search's shorter protocol")
    if select is None and index is None and not knee and opened.kind != "training":
        print("exporting the network at the knee of the front; --select or --index chooses another")
    if format == ONNX:
        return print_onnx(exported)
    return _print_torch(exported) if format == TORCH else _print_folder(exported)


def print_solved(solved: Mapping[str, Any]) -> None:
    """Prints what was predicted and measured of the network that was solved for limits."""
    name, n = solved["solved"], solved["n_measured"]
    measured_now = f"{counted(n, 'network')} measured for it" if n else "which was measured before"
    print(f"solved for {solved['select']}: {name}, {measured_now}")
    for metric, predicted in solved["predicted"].items():
        measured, error = solved["measured"][metric], solved["errors"][metric]
        if metric in EXACT_METRICS:
            print(f"  {metric}: {measured:,.6g}")
            continue
        noise = f" ± {error:.2g}" if error else ""
        difference = f", {measured / predicted - 1:+.1%}" if predicted else ""
        print(f"  {metric}: predicted {predicted:.4g}, measured {measured:.4g}{noise}{difference}")
    if solved["key"] != name:
        print(f"{solved['key']}, which was measured before, is better within the limits, and is exported")


def print_onnx(exported: Mapping[str, Any]) -> None:
    """Prints the files of an exported network, and what was checked of them."""
    same, examples = exported["as_measured"], f"{exported['examples']} {exported['answered']}"
    answers = "" if same is None else f", {same:.2%} of validation {examples} as when it was measured"
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
    print("\n".join(f"wrote {path}" for path in files) + length_note)


def _print_torch(exported: Mapping[str, Any]) -> None:
    if exported["searched_precision"] != "fp32":
        print(f"the search measured it in {exported['searched_precision']}; torch's layers are written in fp32")
    print(f"wrote {exported['path']} ({_values(exported)})\nparity with the searched network {exported['parity']:.1e}")
    print("\n".join(f"wrote {exported[name]}" for name in ("weights", "manifest")))
    if exported["original"]:
        print(f"the weights do not fit the original class: {exported['original']}")
    else:
        print("the weights fit the original class, too, with as many outputs: load_state_dict(..., strict=False)")
    print(f"use it: from {Path(exported['path']).stem} import load; network = load()")


def _print_folder(exported: Mapping[str, Any]) -> None:
    checks = exported["checks"]
    print(f"wrote {exported['path']} ({_values(exported)}); load it with {exported['loader']}")
    if "checked_by" in checks:
        print(f"{checks['checked_by']} generates the same {checks['same_tokens']} tokens as the network")
    print(f"see {Path(exported['path']) / CARD} for its values, its limits and its license")


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

    The same as `nas export --format transformers`.
    """
    check_one_choice(select, index, knee)
    opened = opened_run(runs, run)
    check_choice(opened, select, index, largest=True)
    check_empty(output)
    exported = opened.export_transformers(
        output, select=select, index=index, accept_plugin_versions=accept_plugin_versions
    )
    return print_json(exported) if as_json else _print_folder(exported)


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
    opened = opened_run(runs, run)
    with opened.store() as store:
        study = nas.results.export_study(opened.report, store, storage=storage, name=name or run, replace=replace)
    failed = f", {study['failed']} of them without all values" if study["failed"] else ""
    print_result(as_json, study, f"wrote study {study['study']} to {storage}: {study['trials']} trials{failed}")


@app.command(epilog="Example: nas cascade digits-cnn-1 --row 3 -o cascade")
@on_server("runs", "accept_plugin_versions")
def cascade(
    client: NasClient | None,
    run: RunId,
    row: Annotated[int | None, option("--row", help="A cascade of the table by its number.")] = None,
    output: Annotated[
        Path | None, option("-o", "--output", help="With --row: the folder to export the cascade to.")
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="With --row: score the cascade that you chose on the test part, too.")
    ] = False,
    profile: Annotated[
        str | None,
        option("--profile", help="The hardware profile whose latencies count.", autocompletion=profile_names),
    ] = None,
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
    if client is not None:
        artifact = client.cascade(run, profile=profile, row=row, test=test, on_change=print_change)
        downloads = [] if output is None else downloaded(client, artifact, output)
        cascade_json = artifact.result or {}
        if as_json:
            return print_json({**cascade_json, "paths": [str(path) for path in downloads]})
        return _print_cascades({**cascade_json, "export": None}, [str(path) for path in downloads])
    opened = opened_run(runs, run)
    report = opened.report_of(profile)
    nas.results.cascade_pairs(report)
    if output is not None:
        cascade_paths(output, run)
    print(f"scoring {counted(len(report.front), 'network')} on the validation part", file=sys.stderr)
    cascades = opened.cascades(profile=profile, accept_plugin_versions=accept_plugin_versions)
    outputs: dict[str, Any] = {}
    if row is not None:
        cascades.table.pair(row)  # raises where it is no cascade
        outputs |= {"test": cascades.tested(row)} if test else {}
        outputs |= {} if output is None else {"export": cascades.export(row, output)}
    numbers = [report.numbers.get(member.point.key) for member in cascades.table.members]
    cascade_json = {**cascades.table.to_json(), "numbers": numbers, **outputs}
    return print_json(cascade_json) if as_json else _print_cascades(cascade_json)


def _print_cascades(cascade_json: Mapping[str, Any], downloads: Sequence[str] = ()) -> None:
    """Prints the JSON of this command for people, and the paths of downloaded files."""
    _print_table(cascade_json)
    for name, score in cascade_json.get("test", {}).items():
        share = "" if score["large"] is None else f", {score['share']:.1%} passed on"
        accuracy = f"{100 * score['accuracy']:.2f} ± {100 * score['error']:.2f} %"
        print(f"test part, {name}: accuracy {accuracy}, mean {score['mean_ms']:.4g} ms{share}")
    if cascade_json.get("export"):
        _print_export(cascade_json["export"])
    for path in downloads:
        print(f"wrote {path}")


def _print_table(cascades: Mapping[str, Any]) -> None:
    """Prints the cascades of a front, whose networks have numbers that do not depend on the front."""
    latency = nas.search.Objective(cascades["latency"], "ms", nas.search.Goal.MINIMIZE)
    names = {i: "–" if number is None else str(number) for i, number in enumerate(cascades["numbers"])}
    counts = [
        (len(cascades["cascades"]), "cascade"),
        (len(cascades["networks"]), "network"),
        (cascades["examples"], "validation example"),
    ]
    n_cascades, n_networks, n_examples = (counted(number, noun) for number, noun in counts)
    print(f"{cascades['run']}: {n_cascades} of {n_networks}, {n_examples}")
    rows = []
    for row in cascades["rows"]:
        entry = row["cascade"]
        pair = [names[entry["small"]], "", ""]
        if entry["large"] is not None:
            pair = [f"{names[entry['small']]} then {names[entry['large']]}"]
            pair += [f"{entry['threshold']:.4f}", f"{entry['share']:.1%}"]
        p99 = "–" if entry["p99_ms"] is None else format_value(latency, entry["p99_ms"])
        mean = format_value(latency, entry["mean_ms"], entry["mean_error_ms"])
        times = [mean, format_value(latency, entry["worst_ms"]), p99]
        accuracy = format_value(nas.search.ACCURACY, entry["accuracy"], entry["error"])
        rows.append([str(row["number"]), *pair, accuracy, *times, _result(row, names)])
    print_table(["#", "networks", "threshold", "passed on", "accuracy", "mean", "worst", "p99", "result"], rows)
    print(f"networks by their numbers (--select network=N); latencies are computed from measured {latency.name}")
    if (batch_size := cascades["batch_size"]) > 1:
        print(f"a call has {batch_size} examples: those that are passed on are collected into full batches")


def _result(row: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """The gain of a row over the single networks, which have these names, as text."""
    gain = row["gain"]
    if gain is None or row["against"] is None:
        return "single network" if row["on_front"] else "single network, dominated"
    text = f"{100 * gain['difference']:+.2f} ± {100 * gain['threshold']:.2f} points"
    rival = names[row["against"]]
    return f"{text} over {rival}" if abs(gain["difference"]) > gain["threshold"] else f"a tie with {rival}: {text}"


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
