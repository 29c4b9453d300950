"""The command line: parse, call, print, exit code. Data go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from nas.driver import How
    from nas.reader import Run
    from nas.store.folder import RunsFolder

# Everything heavy is imported inside the commands: `nas --help` answers in a blink.

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Neural architecture search: from a job file to the Pareto front of subnetworks measured on your hardware, "
    "and the one you choose as verified ONNX.",
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
Runs = Annotated[Path, typer.Option("--runs", envvar="NAS_RUNS", help="The folder that runs are kept in.")]
Job = Annotated[Path, typer.Argument(help="A job file; `nas init` makes one.", show_default=False)]
RunId = Annotated[str, typer.Argument(help="A run; `nas runs` lists them.", show_default=False)]
Inline = Annotated[bool, typer.Option("--inline", help="Score in this process, without Ray.")]
Address = Annotated[str | None, typer.Option("--address", help="A running Ray cluster to join.", show_default=False)]
Replay = Annotated[
    str | None,
    typer.Option(
        "--replay", help="Take measurements of this run, of the same supernet, where it has them.", show_default=False
    ),
]
Select = Annotated[
    str | None,
    typer.Option("--select", help='The most accurate that satisfies it, e.g. "latency_ms<=1.0".', show_default=False),
]
DEFAULT_RUNS = Path("runs")
_INTERRUPTED = 130


@app.command()
def init(
    recipe: Annotated[str | None, typer.Argument(help="The recipe to copy.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, or write one as a commented job file into this folder."""
    from nas.recipes import list_recipes, read_recipe

    if recipe is None:
        recipes = list_recipes()
        if as_json:
            return _print_json([{"name": r.name, "title": r.title} for r in recipes])
        return _print_table(["recipe", "what it does"], [[r.name, r.title] for r in recipes])
    text, path = read_recipe(recipe), Path(f"{recipe}.yaml")
    from nas.errors import JobError

    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise JobError(f"{path} exists already and was left alone; move it, or work elsewhere") from None
    except OSError as error:
        raise JobError(f"{path} cannot be written: {error.strerror}") from None
    if as_json:
        return _print_json({"path": str(path)})
    return print(f"wrote {path}; next: nas plan {path}")


@app.command()
def plan(job: Job, runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """Show what a job's space holds and costs, before anything is paid for."""
    from nas.config import load_job
    from nas.job import Prepared
    from nas.plan import plan as make_plan

    made = make_plan(Prepared(load_job(job), _folder(runs), source=str(job)))
    if as_json:
        return _print_json(made.to_json())
    print(f"{made.name}: {made.size:,} architectures ({made.n_choices} choices)")
    costs = (made.smallest.cost, made.largest.cost)
    rows = [
        ["parameters", *(f"{cost.parameters:,}" for cost in costs)],
        ["MACs", *(f"{cost.macs:,}" for cost in costs)],
        ["activations, KiB", *(f"{cost.activation_bytes / 1024:,.1f}" for cost in costs)],
    ]
    for name in made.smallest.latency_ms:
        ends = (made.smallest.latency_ms[name], made.largest.latency_ms[name])
        rows.append([f"latency on {name}, ms (measured)", *(f"{value:.4g} ± {error:.1g}" for value, error in ends)])
    _print_table(["", "smallest", "largest"], rows)
    parts = ", ".join(f"{n:,} {part}" for part, n in made.images.items())
    print(f"images: {parts}")
    trained = "the supernet is trained already" if made.epochs is None else f"{made.epochs} epochs of training"
    return print(f"then: {trained}, {made.evaluations} evaluations")


@app.command()
def train(job: Job, runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """Train a job's supernet and keep it, to search it as often as you like (supernet: {from: RUN})."""
    from nas.config import load_job
    from nas.driver import train as train_job

    with _how(runs) as how:
        run = train_job(load_job(job), how, source=str(job))
    _finish(run, as_json)


@app.command()
def search(
    job: Job,
    runs: Runs = DEFAULT_RUNS,
    inline: Inline = False,
    address: Address = None,
    replay: Replay = None,
    as_json: Json = False,
) -> None:
    """Train the supernet (or take the one that the job names), search it, and measure the front again."""
    from nas.config import load_job
    from nas.driver import search as search_job

    with _how(runs, inline=inline, address=address, replay=replay) as how:
        run = search_job(load_job(job), how, source=str(job))
    _finish(run, as_json)


@app.command()
def resume(
    run: RunId, runs: Runs = DEFAULT_RUNS, inline: Inline = False, address: Address = None, as_json: Json = False
) -> None:
    """Go on with a run that was interrupted, killed or failed."""
    from nas.driver import resume as resume_run

    with _how(runs, inline=inline, address=address) as how:
        resumed = resume_run(run, how)
    _finish(resumed, as_json)


@app.command("runs")
def list_runs(runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """List all runs, trainings and searches, with where they stand."""
    from nas.errors import StoreError
    from nas.overview import overview

    if runs != DEFAULT_RUNS and not runs.is_dir():
        raise StoreError(f"there is no runs folder {runs}; --runs (or NAS_RUNS) names a folder that holds runs")
    rows = overview(_folder(runs))
    if as_json:
        return _print_json([row.to_json() for row in rows])
    if not rows:
        return print(f"no runs in {runs}; start one with: nas search JOB.yaml")
    return _print_table(["run", "kind", "status", "progress", "reason"], [row.cells() for row in rows])


@app.command()
def show(run: RunId, runs: Runs = DEFAULT_RUNS, select: Select = None, as_json: Json = False) -> None:
    """Show a run: its front, its anchors, how good its predictors are."""
    from nas.export.report_json import point_json, show_json
    from nas.export.select import select as select_point
    from nas.overview import training_json
    from nas.reader import Run
    from nas.store.lease import is_held

    opened = Run.open(_folder(runs), run)
    if opened.kind == "training" and select is None:
        made = training_json(opened)
        return _print_json(made) if as_json else _print_training(made)
    report = opened.report
    if select is not None:
        point = select_point(report, select)
        return _print_json(point_json(point)) if as_json else _print_points(report, [(_number(report, point), point)])
    live = is_held(opened.folder.database)
    return _print_json({**show_json(report), "live": live}) if as_json else _print_report(report, live=live)


@app.command()
def plot(
    run: RunId,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to write to; the run's own by default.", show_default=False),
    ] = None,
    select: Annotated[
        str | None, typer.Option("--select", help='Limits to draw, e.g. "latency_ms<=1.0".', show_default=False)
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Draw the front and the convergence: PNG, SVG, and one page to look around in."""
    from nas.reader import Run

    paths = Run.open(_folder(runs), run).plot(output, select=select)
    if as_json:
        return _print_json({"paths": [str(path) for path in paths]})
    return print("\n".join(str(path) for path in paths))


@app.command()
def export(
    run: RunId,
    output: Annotated[Path, typer.Option("-o", "--output", help="The ONNX file to write.", show_default=False)],
    select: Select = None,
    index: Annotated[
        int | None, typer.Option("--index", help="A member of the front by its number.", show_default=False)
    ] = None,
    knee: Annotated[bool, typer.Option("--knee", help="The front's knee (the default).")] = False,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Write one member of the front as ONNX, checked against torch, with its manifest and weights."""
    from nas.driver import export as export_run
    from nas.errors import SelectionError

    if (select is not None) + (index is not None) + knee > 1:
        raise SelectionError("give one of --select, --index and --knee")
    made = export_run(_folder(runs), run, output, select=select, index=index)
    if as_json:
        return _print_json(made)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in made["values"].items())
    return print(
        f"wrote {made['path']} ({figures})\nparity with torch {made['parity']:.1e}, sha256 {made['sha256']}\n"
        f"wrote {made['weights']}\nwrote {made['manifest']}"
    )


@app.command()
def profiles(as_json: Json = False) -> None:
    """List the hardware profiles of the catalog."""
    from dataclasses import asdict

    from hardware_profiles.catalog import known_profiles

    found = known_profiles()
    if as_json:
        return _print_json([asdict(p) for p in found])
    rows = [[p.name, str(p.threads), str(p.batch_size), p.provider, p.description] for p in found]
    return _print_table(["profile", "threads", "batch", "provider", "what it stands for"], rows)


@app.command()
def profile(
    model: Annotated[Path, typer.Argument(help="Any ONNX model.", show_default=False)],
    name: Annotated[
        str, typer.Option("--profile", help="A profile of the catalog, or a profile file.")
    ] = "cpu-1-thread",
    as_json: Json = False,
) -> None:
    """Measure the latency of an ONNX model on a hardware profile."""
    from hardware_profiles.catalog import load_profile
    from hardware_profiles.model_file import profile_model, summary

    chosen = load_profile(name)
    made = summary(chosen, profile_model(model, chosen, on_wait=lambda text: print(text, file=sys.stderr)))
    if as_json:
        return _print_json(made)
    error = made["latency_ms"] * made["resolution"]
    print(f"{model} on {chosen.name} (batch {chosen.batch_size}): {made['latency_ms']:.4f} ± {error:.4f} ms")
    return print(
        f"median of all {made['samples']} runs {made['p50_ms']:.4f} ms, {made['preempted_share']:.1%} preempted, "
        f"protocol {made['protocol']}"
    )


def _folder(runs: Path) -> RunsFolder:
    from nas.store.folder import RunsFolder

    return RunsFolder(runs)


@contextmanager
def _how(runs: Path, *, inline: bool = False, address: str | None = None, replay: str | None = None) -> Iterator[How]:
    """How to run a job from here, with its progress shown; SIGTERM ends it like Ctrl-C, leaving a run to resume."""
    from nas.console import ConsoleDisplay
    from nas.driver import How

    def stop(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    # Ray tells of dead workers on stdout, which belongs to the data that scripts read.
    try:
        with redirect_stdout(sys.stderr), ConsoleDisplay(_stderr()) as display:
            yield How(_folder(runs), inline=inline, address=address, replay=replay, display=display)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


def _finish(run: Run, as_json: bool) -> None:
    """Prints what a driver's command ends with: the training, or the front and the paths of its plots."""
    from nas.export.report_json import search_json
    from nas.overview import training_json

    if run.kind == "training":
        made = training_json(run)
        return _print_json(made) if as_json else _print_training(made)
    report = run.report
    paths = run.plot()
    if as_json:
        return _print_json({**search_json(report), "plots": [str(path) for path in paths]})
    _print_report(report)
    print("\n".join(str(path) for path in paths))
    return print(f"next: nas export {run.id} -o model.onnx")


def _print_training(made: dict[str, Any]) -> None:
    print(f"{made['run']}: training, {made['status']}, epoch {made['epoch']} of {made['epochs']}")
    rows = [
        [str(e["epoch"]), f"{e['loss']:.4f}", f"{e['largest']:.2%}", f"{e['smallest']:.2%}", f"{e['seconds']:.0f}"]
        for e in made["history"]
    ]
    _print_table(["epoch", "loss", "largest (validation)", "smallest (validation)", "seconds"], rows)
    if made["status"] == "finished":
        print(f"search it with   supernet: {{from: {made['run']}}}")


def _print_report(report: Any, *, live: bool = False) -> None:
    from nas.overview import shown_status

    status = shown_status(report.status, live=live)
    reason = f"; {report.reason}" if report.reason else ""
    print(f"{report.run}: {status}, {report.n_evaluations} evaluations{reason}")
    points = [(str(i), point) for i, point in enumerate(report.front)]
    _print_points(report, points + [(name, point) for name, point in report.anchors.items()])
    if report.front_hypervolume is not None:
        reference = ", ".join(f"{name} {value:.4g}" for name, value in report.reference.items())
        print(f"hypervolume of the front {report.front_hypervolume:.5g} (reference point: {reference})")
    if not report.predictors:
        print("predictors: none (only the guided search fits them, once it has its first evaluations)")
    for name, predictor in report.predictors.items():
        quality = predictor.latest
        figures = [
            f"{label} {quality[key]:{form}}"
            for key, label, form in (("kendall_tau", "Kendall tau", ".2f"), ("mape", "off by", ".2%"))
            if quality.get(key) is not None
        ]
        print(f"predictor of {name}: {', '.join([quality.get('model', '?'), *figures])} (cross-validated)")


def _number(report: Any, point: Any) -> str:
    """The number of a member of the front, which `--index` takes."""
    return str([member.key for member in report.front].index(point.key))


def _print_points(report: Any, points: list[tuple[str, Any]]) -> None:
    """A table of points: measured figures with their errors, and the accuracy on the test part."""
    from nas.export.units import figure_text
    from nas.objectives import Objective

    accuracy = Objective.parse("accuracy", [])
    header = ["#", *(o.name for o in report.objectives), "test accuracy", "architecture"]
    rows = []
    for label, point in points:
        figures = [figure_text(o, point.values[o.name], point.errors.get(o.name, 0.0)) for o in report.objectives]
        test = "" if point.test is None else figure_text(accuracy, point.test["accuracy"], point.test["error"])
        rows.append([label, *figures, test, point.key])
    _print_table(header, rows)


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=1, allow_nan=False))


def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def _is_user_error(error: Exception) -> bool:
    from hardware_profiles.errors import ProfilingError
    from nas.errors import NasError
    from predictors.errors import PredictorError
    from supernets.errors import SupernetError

    return isinstance(error, NasError | SupernetError | ProfilingError | PredictorError)


def main() -> None:
    """The entry point of the command ``nas``."""
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            print("interrupted; what was measured or trained until now is kept", file=sys.stderr)
        raise
    except Exception as error:
        if not _is_user_error(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
