"""The command that makes a trained model smaller: compress."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import nas.jobs
import nas.results
import nas.runs
from nas.cli.app import DEFAULT_RUNS, Json, Runs, app, argument, option
from nas.cli.completion import profile_names
from nas.cli.exports import print_onnx, print_solved
from nas.cli.models import Arguments, Weights, parse_arguments
from nas.cli.output import number, print_improvement, print_json, print_table
from nas.cli.remedies import run_command
from nas.cli.running import driving
from nas.engine.formatting import duration, memory_size, score_text
from nas.engine.store.folder import RunsFolder
from nas.plugins.parts import has, install
from nas.results.export.export_paths import export_path

_MAX_MINUTES = 10**5


@app.command(epilog='Example: nas compress timm:resnet18 --data photos --limit "latency_ms<=5"')
def compress(
    model: Annotated[
        str,
        argument(
            help="torchvision:NAME, timm:NAME, transformers:FOLDER, package.module:function, an ONNX file, or a captured one."
        ),
    ],
    data: Annotated[
        Path,
        option(
            "--data", help="A folder of images, or a file or folder of sentences, one a line; labels are not needed."
        ),
    ],
    limit: Annotated[
        str | None,
        option("--limit", help='Write the network that is best within limits, e.g. "latency_ms<=5".'),
    ] = None,
    solve: Annotated[
        bool,
        typer.Option(
            "--solve", help="With limits on costs: first solve for the best network within them, and measure it."
        ),
    ] = False,
    labels: Annotated[
        bool,
        typer.Option(
            "--labels", help="Report the accuracy, too: the folders of images, sorted by name, are the model's classes."
        ),
    ] = False,
    metric: Annotated[
        str | None,
        option("--metric", help="agreement with the model, of classes (the default); or r2, of other outputs."),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", help="The hardware profile to measure on.", autocompletion=profile_names)
    ] = "cpu-1-thread",
    evaluations: Annotated[
        int | None,
        option("--evaluations", help="Networks to measure; without, as many as a few minutes allow.", min=2, max=10**6),
    ] = None,
    weights: Weights = None,
    arguments: Arguments = None,
    data_options: Annotated[
        str | None,
        option(
            "--data-options",
            help='Keys of the section data of a job, e.g. "{image_size: 96, mean: [0.5], std: [0.5]}".',
        ),
    ] = None,
    finetune: Annotated[
        float | None,
        option("--finetune", help="Minutes in which the network for the limit is then distilled from the model."),
    ] = None,
    output: Annotated[
        Path,
        option("-o", "--output", help="The ONNX file, or a folder to name it in, made if missing; by default here."),
    ] = Path(),
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Make a trained model smaller, in minutes.

    It needs neither labels nor training. It prints the front of smaller networks, which are corrected on your examples, by
    their agreement with the model and their measured latency, and writes the network for a limit. It is a run as any other:
    repeated with another --limit, it writes another network of the same run.
    """
    job = nas.runs.compression_job(
        model,
        data,
        labels=labels,
        metric=metric,
        profile=profile,
        evaluations=evaluations,
        weights=weights,
        arguments=parse_arguments(arguments, "--arguments"),
        data_options=parse_arguments(data_options, "--data-options"),
    )
    for name, value in (("--solve", solve), ("--finetune", finetune)):
        if value and limit is None:
            raise typer.BadParameter(f'{name} is for the network of --limit, e.g. --limit "latency_ms<=1"')
    if finetune is not None and not 0 < finetune <= _MAX_MINUTES:
        raise typer.BadParameter(f"--finetune: expected minutes above 0, at most {_MAX_MINUTES:,}, got {finetune:g}")
    if limit is not None:
        nas.runs.check_limits(nas.jobs.ResolvedJob(job, RunsFolder(runs), "compress"), limit, solve=solve)
        export_path(output, "model", "0")
    with driving(runs, inline=True) as options:
        run, reused = nas.runs.compressed_run(job, options)
    if as_json:
        exported_json = None if limit is None else run.export(output, select=limit, solve=solve)
        if exported_json is not None and finetune is not None:
            exported_json, tuned, improvement = _finetuned(run, exported_json, finetune, output)
            exported_json |= {"finetuned": tuned, "gain": improvement.to_json()}
        search = {**nas.results.search_json(run.report), "reused": reused, "usage": run.usage}
        return print_json(
            {**search, "plots": [str(path) for path in _plots(run, reused=reused)], "exported": exported_json}
        )
    report, root = run.report, run.runs.root
    print(f"{run.id}: {report.evaluations_text}, all of them measured; {_usage(run, reused=reused)}")
    _print_front(report)
    for path in _plots(run, reused=reused):
        if path.suffix != ".svg" and path.stem == "front":
            print(path)
    if limit is not None:
        exported = run.export(output, select=limit, solve=solve)
        if solve:
            print_solved(exported["solved"])
        if finetune is not None:
            exported, tuned, improvement = _finetuned(run, exported, finetune, output)
            print_improvement(tuned, improvement)
        print_onnx(exported)
        if exported["key"] == report.anchors["largest"].key:
            print("it is the original, which is within the limit; a tighter limit selects a smaller network")
    again = '--limit "latency_ms<=..."' if limit is None else "another --limit"
    print(f"the same command with {again} writes another network of this run, in seconds;")
    print("with --solve, too, it first measures the network that should be best within the limit")
    print(f"next: {run_command('show', run.id, root)}, or")
    return print(f"{run_command('finetune', run.id, root)}, which trains the network that you choose")


def _finetuned(
    run: nas.Run, exported: Mapping[str, Any], minutes: float, output: Path
) -> tuple[dict[str, Any], str, nas.results.Improvement]:
    """The export of a network that was exported, distilled from the original, with the run of that and the improvement.

    Where it is no better, the network stays the exported one.
    """
    with driving(run.runs.root, inline=True) as options:
        tuned = nas.runs.finetuned(run, f"key={exported['key']}", minutes, options)
    improvement = nas.runs.improvement_of(tuned)
    return dict(tuned.export(output) if improvement.improved else exported), tuned.id, improvement


def _plots(run: nas.Run, *, reused: bool) -> list[Path]:
    """The plots of a run, which are drawn now where their part is installed, but of an earlier run once."""
    if reused and (drawn := sorted(run.folder.plots.glob("*"))):
        return drawn
    if has("plots"):
        return run.plot()
    print(f"no plots were made, since their part is not installed; for plots: {install('plots')}", file=sys.stderr)
    return []


def _print_front(report: nas.results.RunReport) -> None:
    """Prints the original, which is the largest network, and the front below it, the fastest last."""
    original = report.anchors["largest"]
    latency = next(objective for objective in report.objectives if objective.profile is not None)
    points = [("original", original)]
    points += [(number(report, p), p) for p in report.front[::-1] if p.key != original.key]
    rows = [
        [
            label,
            *(report.value_text(point, metric) for metric in report.columns),
            f"{point.values[latency.name] / original.values[latency.name]:.0%}",
            score_text(report.scored, point.test, missing=""),
        ]
        for label, point in points
    ]
    columns = [metric.name.partition("@")[0] for metric in report.columns]
    print_table(["", *columns, "of the latency", f"test {report.scored.name}"], rows)
    if note := report.note_on(point for _, point in points):
        print(note)


def _usage(run: nas.Run, *, reused: bool) -> str:
    """What a run took, in words."""
    usage = run.usage
    peak = f", at most {memory_size(usage['peak_mib'])}" if usage["peak_mib"] else ""
    return f"{'an earlier run, which ' * reused}took {duration(sum(usage['time'].values()))}{peak}"
