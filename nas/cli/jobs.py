"""Commands that take a job and drive a run: init, schema, plan, train, search, resume, finetune."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import nas.engine
import nas.jobs
import nas.runs
import nas.search
import supernets.data
from nas.cli.app import (
    DEFAULT_RUNS,
    AcceptPluginVersions,
    Address,
    Index,
    Inline,
    Job,
    Json,
    Knee,
    LogTo,
    Replay,
    RunId,
    Runs,
    Select,
    Store,
    app,
    argument,
    on_server,
    option,
    status_text,
)
from nas.cli.completion import recipes
from nas.cli.models import Plot, check_plot, inspection_lines, write_plot
from nas.cli.output import print_json, print_list, print_result, print_table
from nas.cli.running import check_one_choice, check_resumable, driving, finish, loaded_job, opened_run
from nas.engine.formatting import counted, duration, memory_size
from nas.engine.store.folder import RunsFolder, make_folder, write_atomically
from nas.errors import JobError, UnknownNameError
from nas.jobs.recipes import list_recipes, read_recipe

if TYPE_CHECKING:
    from nas.service.api.schemas import RunSummary
    from nas.service.client import NasClient

ResumeOnServer = Annotated[
    str | None, option("--server", help="Resume a run of this server (NAS_SERVER is ignored here).")
]


@app.command(epilog="Example: nas init digits-cnn")
def init(
    recipe: Annotated[str | None, argument(help="The recipe to copy.", autocompletion=recipes)] = None,
    data: Annotated[
        Path | None,
        option("--data", help="Your own data: fills in their path, and for images what follows from them."),
    ] = None,
    model: Annotated[
        str | None,
        option("--model", help="The model for the recipe own-image-model, as in nas inspect."),
    ] = None,
    weights: Annotated[
        str | None,
        option("--weights", help="The model's: as in nas inspect, or none; without: hub for a model of a library."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, or write one as a job file.

    The job file is commented and is written to the current folder, with a JSON schema by which editors check it.
    """
    if recipe is None:
        if (data or model or weights) is not None:
            raise typer.BadParameter("--data fills in a recipe; name one, e.g. nas init own-images --data FOLDER")
        recipes = list_recipes()
        rows = [[r.name, r.title] for r in recipes]
        return print_list(as_json, [{"name": n, "title": t} for n, t in rows], ["recipe", "description"], rows)
    text, path = read_recipe(recipe), Path(f"{recipe}.yaml")
    if data is not None:
        text = nas.jobs.fill_recipe(text, data, model=model, weights=weights)
    elif (model or weights) is not None:
        raise typer.BadParameter("--model and --weights are filled in with your images: add --data FOLDER")

    schema = Path(nas.jobs.SCHEMA_FILE)
    _check_replaceable(schema)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise JobError(f"{path} exists; move it, or use another folder", code="file.exists") from None
    except OSError as error:
        path.unlink(missing_ok=True)
        raise JobError(f"{path} cannot be written: {error.strerror}", code="file.not-writable") from None
    write_atomically(schema, nas.jobs.job_schema_text().encode())
    paths = {"path": str(path), "schema": str(schema)}
    return print_result(as_json, paths, f"wrote {path}, and {schema}, by which editors check it; next: nas plan {path}")


def _check_replaceable(schema: Path) -> None:
    """Raises `JobError` if there is a file of the schema's name that `nas init` has not written."""
    try:
        is_schema = not schema.exists() or f'"title": "{nas.jobs.SCHEMA_TITLE}"' in schema.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        is_schema = False
    if not is_schema:
        raise JobError(
            f"{schema} exists and is no schema of job files; move it, or use another folder", code="file.exists"
        )


@app.command(epilog="Example: nas schema > job.schema.json")
def schema() -> None:
    """Print the JSON schema of job files, for editors.

    Its names (of algorithms, hardware profiles, ...) are those of this installation. In a job file, the comment
    `# yaml-language-server: $schema=job.schema.json` refers to it, as in the files that `nas init` writes.
    """
    print(nas.jobs.job_schema_text(), end="")


@app.command(epilog="Example: nas plan digits-cnn.yaml")
def plan(
    job: Job,
    runs: Runs = DEFAULT_RUNS,
    inline: Inline = False,
    address: Address = None,
    time: Annotated[bool, typer.Option(help="Estimate the duration of the job from short measurements.")] = True,
    plot: Plot = None,
    picture: Annotated[
        Path | None,
        option(
            "--picture", help="Also draw images of the data with their boxes or masks, as a .png file of this name."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a job's space, costs and expected duration.

    Checks everything that `nas search` checks, and trains nothing.
    """
    check_plot(plot, "nas plan")
    if picture is not None and picture.suffix != ".png":
        raise typer.BadParameter(f"--picture {picture}: expected a file that ends in .png")
    resolved = loaded_job(job, runs, kind="search", inline=inline)
    if plot is not None and resolved.config.supernet.model is None:
        raise typer.BadParameter("--plot is for jobs with a model of yours (supernet.model), and this one has a family")

    with (
        driving(runs, inline=inline, address=address, interruption_note="") as options,
        nas.jobs.preparing_new(resolved, "search", options, planning=True) as (built_job, reuse),
    ):
        _draw_labels(picture, built_job)
        if sys.stderr.isatty():
            samples = ", and training steps, scores and asks of the algorithm" if time else ""
            print(f"measuring the smallest and the largest network{samples} ...", file=sys.stderr)
        start_s = nas.engine.seconds_since_start(os.getpid())
        job_plan = nas.jobs.plan(built_job, reuse, time=time, inline=options.scores_here, start_s=start_s)
    if job_plan.model is not None:
        write_plot(plot, job_plan.model)
    if as_json:
        print_json(job_plan.to_json())
    else:
        _print_plan(job_plan)
    for error in job_plan.unmeasured.values():  # last: what can be computed is known by now
        raise error


def _draw_labels(path: Path | None, built_job: nas.jobs.BuiltJob) -> None:
    """Writes images of a job's data with their labels, where a path is given."""
    if path is None:
        return
    sheet = supernets.data.contact_sheet(built_job.data.dataset)
    if sheet is None:
        raise typer.BadParameter("--picture is for data with boxes or masks, and the job's data have other labels")
    content = io.BytesIO()
    sheet.save(content, "PNG")
    make_folder(path.absolute().parent)
    write_atomically(path, content.getvalue())
    print(f"wrote {path}", file=sys.stderr)


def _print_plan(job_plan: nas.jobs.Plan) -> None:
    print(f"{job_plan.name}: {counted(job_plan.size, 'architecture')} ({counted(job_plan.n_choices, 'choice')})")
    if job_plan.model is not None:
        print("\n".join(inspection_lines(job_plan.model)))
    if job_plan.language is not None:
        print("\n".join(job_plan.language.lines()))
    costs = (job_plan.smallest.cost, job_plan.largest.cost)
    rows = [
        ["parameters", *(f"{cost.parameters:,}" for cost in costs)],
        ["MACs", *(f"{cost.macs:,}" for cost in costs)],
        ["activations, KiB", *(f"{cost.activation_bytes / 1024:,.1f}" for cost in costs)],
    ]
    measured = [(f"latency on {name}, ms", name, "latency_ms") for name in job_plan.smallest.latency_ms]
    measured += [(f"energy on {name}, mJ", name, "energy_mj") for name in job_plan.smallest.energy_mj]
    for title, name, metric in measured:
        ends = (getattr(extreme, metric)[name] for extreme in (job_plan.smallest, job_plan.largest))
        rows.append([f"{title} (measured)", *(f"{value:.4g} ± {error:.1g}" for value, error in ends)])
    print_table(["", "smallest", "largest"], rows)
    if (serving := job_plan.serving) is not None:
        source, target = (" of the source", " of the target") if job_plan.noun == "pair" else ("", "")
        print(
            f"timed: prefill of {serving.prompt_tokens} tokens{source}, step with {serving.context_tokens} tokens{target} in "
            f"the cache; batch: {serving.batch or 'that of the profile'}"
        )
    parts = ", ".join(f"{n:,} {part}" for part, n in job_plan.images.items())
    print(f"{job_plan.noun if job_plan.language is None else 'block'}s: {parts}")
    if job_plan.warning:
        print(job_plan.warning)
    if job_plan.labels is not None:
        print_table(*job_plan.labels.table())
        print("\n".join(job_plan.labels.lines()))
    training = (
        "the supernet is already trained"
        if job_plan.epochs is None
        else f"{counted(job_plan.epochs, 'epoch')} of training"
    )
    print(f"then: {training}, {counted(job_plan.evaluations, 'evaluation')}")
    for line in (job_plan.budget_note, job_plan.warm_start, job_plan.guidance):
        if line:
            print(line)
    if job_plan.times is not None:
        rows = [
            [name, duration(span.seconds), f"{duration(span.low)} to {duration(span.high)}", span.origin]
            for name, span in job_plan.times.parts().items()
        ]
        print_table(["time", "about", "between", "from"], rows)
    if (memory := job_plan.memory) is not None:
        about, low, high = map(memory_size, (memory.mib, memory.low, memory.high))
        print_table(["memory", "about", "between", "from"], [["peak", about, f"{low} to {high}", memory.origin]])


@app.command(epilog="Example: nas train digits-cnn.yaml")
def train(
    job: Job,
    runs: Runs = DEFAULT_RUNS,
    address: Address = None,
    store: Store = None,
    log_to: LogTo = None,
    as_json: Json = False,
) -> None:
    """Train the supernet of a job, to search it later.

    Any number of jobs can search it by `supernet: {from: RUN}`.
    """
    resolved = loaded_job(job, runs, kind="training")
    with driving(runs, address=address, store=store, log_to=log_to) as options:
        run = nas.runs.start(resolved, options, "training")
    finish(run, as_json)


@app.command(epilog="Example: nas search digits-cnn.yaml")
def search(
    job: Job,
    runs: Runs = DEFAULT_RUNS,
    inline: Inline = False,
    address: Address = None,
    replay: Replay = None,
    store: Store = None,
    log_to: LogTo = None,
    as_json: Json = False,
) -> None:
    """Train a supernet, search it, and measure the front.

    A job with `supernet: {from: RUN}` loads a trained supernet instead of training one.
    """
    resolved = loaded_job(job, runs, kind="search", replay=replay, inline=inline)
    with driving(runs, inline=inline, address=address, replay=replay, store=store, log_to=log_to) as options:
        run = nas.runs.start(resolved, options, "search")
    finish(run, as_json)


@app.command(epilog="Example: nas resume digits-cnn-1 --evaluations +40")
@on_server("runs", "inline", "address", "log_to", "accept_plugin_versions", server=ResumeOnServer)
def resume(
    client: NasClient | None,
    run: RunId,
    runs: Runs = DEFAULT_RUNS,
    inline: Inline = False,
    address: Address = None,
    evaluations: Annotated[
        str | None,
        option("--evaluations", help="A new total of evaluations, or +N to add N; a finished run continues."),
    ] = None,
    minutes: Annotated[
        str | None, option("--minutes", help="A new total of minutes of searching, or +N to add N.")
    ] = None,
    retry_failed: Annotated[
        bool,
        typer.Option(
            "--retry-failed",
            help="Measure again what failed or was too noisy, also in a finished run; costs no budget.",
        ),
    ] = False,
    accept_plugin_versions: AcceptPluginVersions = False,
    log_to: LogTo = None,
    as_json: Json = False,
) -> None:
    """Continue an interrupted run, or extend a finished one.

    Continues a run that was interrupted, killed or failed, or a finished run with a larger budget.
    """
    if client is not None:
        queued = client.resume(run, evaluations=evaluations, minutes=minutes, retry_failed=retry_failed)
        return _print_queued(client, queued, as_json)
    elsewhere = os.environ.get("NAS_SERVER")
    try:
        RunsFolder(runs).get(run)
        nas.search.check_extension(evaluations=evaluations, minutes=minutes)
        check_resumable(runs, run, evaluations=evaluations, minutes=minutes, retry_failed=retry_failed)
        with driving(
            runs, inline=inline, address=address, log_to=log_to, accept_plugin_versions=accept_plugin_versions
        ) as options:
            resumed = nas.resume(run, options, evaluations=evaluations, minutes=minutes, retry_failed=retry_failed)
    except UnknownNameError as error:
        if elsewhere:
            error.add_note(f"for a run on your server: nas resume {run} --server {elsewhere}")
        raise
    return finish(resumed, as_json)


def _print_queued(client: NasClient, queued: RunSummary, as_json: bool) -> None:
    """Prints the status of a run that a server has queued, and the command that follows it."""
    text = f"{queued.run}: {status_text(queued)}\nnext: nas watch {queued.run} --server {client.server}"
    print_result(as_json, queued, text)


@app.command(epilog="Example: nas finetune digits-cnn-1 --knee --epochs 5")
@on_server("runs", "inline", "address", "store", "log_to")
def finetune(
    client: NasClient | None,
    run: RunId,
    select: Select = None,
    index: Index = None,
    knee: Knee = False,
    epochs: Annotated[int, typer.Option(min=1, max=10**6, help="Number of epochs.")] = 5,
    learning_rate: Annotated[
        float | None, option(help="Peak learning rate; a tenth of the supernet's by default.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
    inline: Inline = False,
    address: Address = None,
    store: Store = None,
    log_to: LogTo = None,
    as_json: Json = False,
) -> None:
    """Fine-tune one network of a run and measure it.

    It is distilled from the largest network. The result is a new run, which `nas export` exports.
    """
    check_one_choice(select, index, knee)
    if learning_rate is not None and not 0 < learning_rate <= 100:
        raise typer.BadParameter(f"--learning-rate: expected a number above 0, at most 100, got {learning_rate:g}")
    if client is not None:
        queued = client.finetune(run, select=select, index=index, epochs=epochs, learning_rate=learning_rate)
        return _print_queued(client, queued, as_json)
    opened = opened_run(runs, run)
    # It raises before anything is imported that takes longer.
    nas.runs.finetuning_job(opened, select=select, index=index, epochs=epochs, learning_rate=learning_rate)
    with driving(runs, inline=inline, address=address, store=store, log_to=log_to) as options:
        new_run = nas.finetune(opened, options, select=select, index=index, epochs=epochs, learning_rate=learning_rate)
    return finish(new_run, as_json)
