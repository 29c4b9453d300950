"""Commands about hardware: profiles, profile, calibrate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

import hardware_profiles
import nas.engine
import nas.jobs
import nas.results
from nas.cli.app import (
    DEFAULT_RUNS,
    Address,
    Json,
    Runs,
    app,
    argument,
    on_server,
    option,
    print_change,
)
from nas.cli.completion import profile_names
from nas.cli.output import print_json, print_list, print_result, print_table
from nas.cli.panels import NotingGroup
from nas.cli.remote import downloaded
from nas.cli.running import driving, loaded_job
from nas.engine.evaluation.cluster import connected
from nas.engine.formatting import counted, share_text
from nas.engine.store.folder import make_folder
from nas.plugins.parts import require

if TYPE_CHECKING:
    from hardware_profiles.base import HardwareProfile
    from hardware_profiles.lookup_table import LookupTable
    from nas.engine.progress import ProgressObserver
    from nas.jobs.build.built_job import BuiltJob
    from nas.service.api.schemas import Artifact
    from nas.service.client import NasClient

DEFAULT_PROFILE = "cpu-1-thread"


profiles = typer.Typer(cls=NotingGroup, invoke_without_command=True, epilog="Example: nas profiles")
app.add_typer(profiles, name="profiles")


devices = typer.Typer(cls=NotingGroup, no_args_is_help=True, epilog="Example: nas devices setup")
app.add_typer(devices, name="devices")


@devices.callback()
def devices_group() -> None:
    """Prepare measuring in browsers, as of phones."""


@devices.command(epilog="Example: nas devices setup")
def setup(
    archive: Annotated[
        Path | None,
        option("--archive", help="The archive that `npm pack onnxruntime-web` wrote, for a machine without network."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch ONNX Runtime Web, which profiles with `browser: true` measure in, from npm."""
    from hardware_profiles.transports.browser.runtime_files import VERSION, install

    folder = install(archive)
    if as_json:
        return print_json({"version": VERSION, "folder": str(folder)})
    return print(f"onnxruntime-web {VERSION} is in {folder}")


@profiles.callback()
def catalog(context: typer.Context, as_json: Json = False) -> None:
    """List hardware profiles; edit those of a server.

    Without a command: the catalog of this installation.
    """
    if context.invoked_subcommand is not None:
        return None
    catalog_profiles = hardware_profiles.known_profiles()
    rows = [[p.name, str(p.threads), str(p.batch_size), p.provider, p.description] for p in catalog_profiles]
    header = ["profile", "threads", "batch", "provider", "description"]
    return print_list(as_json, [asdict(p) for p in catalog_profiles], header, rows)


@app.command(epilog="Example: nas profile model.onnx --profile cpu-1-thread")
def profile(
    model: Annotated[Path | None, argument(help="Any ONNX model.")] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--profile",
            help="A profile of the catalog, or a profile file.",
            autocompletion=profile_names,
            show_default=f"{DEFAULT_PROFILE}; with --sweep, the job's first",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None, option("--shape", help="Shape of an input with dynamic dimensions, e.g. input=1x3x224x224.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision", help="fp32 measures the model unchanged; int8, int4, fp16 and bf16 convert it first."
        ),
    ] = "fp32",
    compare: Annotated[
        str | None, option("--compare", help="Runtimes to measure the model in, e.g. onnxruntime,openvino.")
    ] = None,
    energy: Annotated[
        bool,
        typer.Option("--energy", help="Measure the energy of a call as well, where the machine has counters of it."),
    ] = False,
    sweep: Annotated[
        Path | None, option("--sweep", help="A job file: find widths of its stages that are as fast as narrower ones.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="With --sweep, the folder for the plots.")] = Path(
        "sweep"
    ),
    address: Address = None,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Measure an ONNX model on a hardware profile.

    With --sweep JOB: latency against the widths of a job's stages. With --compare: one line for each runtime.
    """
    if (model is None) == (sweep is None):
        raise typer.BadParameter("expected either a model to measure, or --sweep with a job file")
    if sweep is not None:
        require("plots", "nas profile --sweep")
    if sweep is not None and (shape or precision != "fp32" or compare is not None or energy):
        raise typer.BadParameter(
            "--shape, --precision, --compare and --energy are for a model; a sweep measures the job's blocks in fp32"
        )
    requested_profile = None if name is None else hardware_profiles.load_profile(name)
    if model is not None:
        chosen = requested_profile or hardware_profiles.load_profile(DEFAULT_PROFILE)
        with connected(address, spread=False, profiles=[chosen]):
            if compare is not None:
                return _compare_runtimes(model, chosen, compare.split(","), shape or [], precision, energy, as_json)
            return _profile_model(model, chosen, shape or [], precision, energy, as_json)
    assert sweep is not None
    return _sweep(sweep, requested_profile, output, address, runs, as_json)


def _measurements(
    model: Path, profiles: Sequence[HardwareProfile], shapes: list[str], precision: str, energy: bool
) -> list[dict[str, Any]]:
    """The values of the model on each profile."""
    from hardware_profiles.model_file import measure_latency, parse_shapes, summary  # loads onnx

    note = partial(print, file=sys.stderr)
    measure = partial(
        measure_latency, model, shapes=parse_shapes(shapes), precision=precision, energy=energy, on_wait=note
    )
    return [summary(profile, measure(profile=profile)) for profile in profiles]


def _profile_model(
    model: Path, chosen: HardwareProfile, shapes: list[str], precision: str, energy: bool, as_json: bool
) -> None:
    [values] = _measurements(model, [chosen], shapes, precision, energy)
    if as_json:
        return print_json(values)
    latency = f"{values['latency_ms']:.4f} ± {values['latency_ms'] * values['resolution']:.4f} ms"
    print(f"{model} on {chosen.name} (batch {chosen.batch_size}): {latency}")
    tail = ", ".join(
        f"{key[:3]} {values[key]:.4f}" for key in ("p50_ms", "p90_ms", "p99_ms") if values[key] is not None
    )
    print(f"of {values['samples']} runs: {tail} ms, {values['preempted_share']:.1%} preempted")
    if energy:
        how = values["environment"]["energy"]
        waiting = f"above the {how['waiting_w']:.3g} W of waiting, by the counters {', '.join(how['counters'])}"
        print(f"energy {values['energy_mj']:.4g} ± {values['energy_error_mj']:.2g} mJ a call, {waiting}")
    peak = "" if chosen.browser else f"peak memory {values['peak_mib']:.1f} ± {values['peak_error_mib']:.1f} MiB, "
    return print(
        f"session created in {values['session_ms']:.1f} ± {values['session_error_ms']:.1f} ms, "
        f"{peak}drift {share_text(values['drift'])}, protocol {values['protocol']}"
    )


def _compare_runtimes(
    model: Path,
    chosen: HardwareProfile,
    runtimes: list[str],
    shapes: list[str],
    precision: str,
    energy: bool,
    as_json: bool,
) -> None:
    """Measures the model in each runtime, and prints their latencies in the given order."""
    from hardware_profiles.catalog import in_runtime
    from hardware_profiles.runtimes.lookup import find_runtime

    profiles = [in_runtime(chosen, runtime.strip()) for runtime in runtimes]
    measurements = _measurements(model, profiles, shapes, precision, energy)
    if as_json:
        return print_json(
            [
                {"runtime": variant.runtime, **measurement}
                for variant, measurement in zip(profiles, measurements, strict=True)
            ]
        )
    print(f"{model} on {chosen.name} (batch {chosen.batch_size}), {precision}")
    rows = [
        [
            variant.runtime,
            str(measurement["environment"].get(find_runtime(variant.runtime).package)).partition("-")[0],
            f"{measurement['latency_ms']:.4f} ± {measurement['latency_ms'] * measurement['resolution']:.4f}",
            f"{measurement['latency_ms'] / measurements[0]['latency_ms']:.2f}",
            f"{measurement['session_ms']:.0f} ms, {measurement['peak_mib']:.1f} MiB",
            *([f"{measurement['energy_mj']:.4g} ± {measurement['energy_error_mj']:.2g}"] if energy else []),
        ]
        for variant, measurement in zip(profiles, measurements, strict=True)
    ]
    heads = ["runtime", "version", "latency (ms)", f"of {profiles[0].runtime}", "session"]
    return print_table([*heads, *(["energy (mJ)"] if energy else [])], rows)


def _sweep(
    job: Path, requested_profile: HardwareProfile | None, output: Path, address: str | None, runs: Path, as_json: bool
) -> None:
    resolved = loaded_job(job, runs, kind=None)
    built_job = nas.jobs.build_job(resolved)
    chosen = requested_profile or built_job.job.profiles[0]
    with connected(address, spread=False, profiles=[chosen]), driving(runs, interruption_note="") as options:
        count = partial(options.observer.count, "measuring widths")
        stages = nas.jobs.sweep(built_job, chosen, on_progress=count, on_wait=options.observer.note)
    paths = nas.results.write_chart("sweep", nas.results.sweep_chart(stages, chosen.name), output)
    if as_json:
        plots = [str(path) for path in paths]
        return print_json({"profile": chosen.name, "stages": nas.jobs.stages_json(stages), "plots": plots})
    rows = [[str(s.stage), _widths_text(s.widths), _widths_text(s.aligned), _widths_text(s.chosen)] for s in stages]
    print_table(["stage", "widths measured", "aligned", "nearest to the job's"], rows)
    print("\n".join(str(path) for path in paths))
    return print(f"in the job file:\n{nas.jobs.job_snippet(stages)}")


def _widths_text(widths: tuple[int, ...]) -> str:
    shown = [str(width) for width in widths]
    return ", ".join(shown if len(shown) <= 12 else [*shown[:5], "…", *shown[-5:]])


@app.command(epilog="Example: nas calibrate cpu-1-thread --job digits-cnn.yaml")
@on_server("job", "runs", "address")
def calibrate(
    client: NasClient | None,
    name: Annotated[str, argument(help="A profile of the catalog, or a profile file.", autocompletion=profile_names)],
    job: Annotated[Path | None, option("--job", help="The job whose blocks are measured.")] = None,
    output: Annotated[
        Path | None, option("-o", "--output", help="The lookup table to write; JOB.PROFILE.lookup.json by default.")
    ] = None,
    subnets: Annotated[int, typer.Option("--subnets", help="Whole subnets to fit the scale of the table.", min=3)] = 30,
    source_tables: Annotated[
        list[Path] | None,
        option("--from", help="A table of another profile: predict this one from such tables and few measurements."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="With --from, subnets to measure.", min=4)] = 10,
    address: Address = None,
    runs: Runs = DEFAULT_RUNS,
    run: Annotated[str | None, option("--run", help="With --server, the run whose job's blocks are measured.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a job's blocks into a table of latencies.

    The lookup table predicts the latency of all subnets of the job's search space. With --from, its blocks are predicted.
    With --server and --run: the table stays on the server, and --output downloads it, too.
    """
    if client is not None:
        if run is None:
            raise typer.BadParameter("--server measures the blocks of one of its runs; name it: --run RUN")
        tables = [str(path) for path in source_tables or ()]
        artifact = client.calibrate(run, name, subnets=subnets, tables=tables, samples=samples, on_change=print_change)
        downloads = [] if output is None else _downloaded_table(client, artifact, output)
        lines = [f"wrote {path}" for path in downloads] + [f"in the job file: lookup_tables: [{artifact.table}]"]
        return print_result(as_json, artifact, "\n".join(lines))
    if job is None or run is not None:
        raise typer.BadParameter("name the job file whose blocks are measured: --job JOB; --run is for a server's runs")
    chosen, resolved = hardware_profiles.load_profile(name), loaded_job(job, runs, kind=None)
    path = output or Path(f"{resolved.config.name}.{chosen.name}.lookup.json")
    make_folder(path.parent)  # before anything is measured
    built_job = nas.jobs.build_job(resolved)
    with driving(runs) as options, connected(address, spread=False, profiles=[chosen]):
        if source_tables:
            return _transfer(built_job, chosen, path, source_tables, samples, options.observer, as_json)
        table = nas.jobs.calibrate(
            built_job,
            chosen,
            path,
            subnets=subnets,
            on_progress=partial(options.observer.count, "measuring blocks"),
            on_wait=options.observer.note,
        )
    if as_json:
        return print_json(_table_json(table, path))
    for precision, fit in table.fits.items():
        print(
            f"{precision}: {len(table.entries[precision])} blocks; latency = {fit.scale:.3f} x sum + {fit.offset_ms:.4f} "
            f"ms, MAPE {share_text(fit.mape)} (leave-one-out over {fit.n} subnets)"
        )
    return print(f"wrote {path}; in the job file:\nlookup_tables: [{path}]")


def _downloaded_table(client: NasClient, artifact: Artifact, path: Path) -> list[str]:
    """The path of a downloaded table."""
    make_folder(path.parent)
    with TemporaryDirectory(dir=path.parent, prefix=".table-") as folder:
        [table] = downloaded(client, artifact, Path(folder))
        table.replace(path)
    return [str(path)]


def _table_json(table: LookupTable, path: Path) -> dict[str, Any]:
    fits = {name: {"blocks": len(table.entries[name]), **asdict(fit)} for name, fit in table.fits.items()}
    profile = table.profile["name"]
    return {
        "path": str(path),
        "profile": profile,
        "protocol": table.protocol,
        "fits": fits,
        "predicted": table.predicted,
    }


def _transfer(
    built_job: BuiltJob,
    chosen: HardwareProfile,
    path: Path,
    source_tables: list[Path],
    samples: int,
    observer: ProgressObserver,
    as_json: bool,
) -> None:
    transferred = nas.jobs.transfer(
        built_job,
        chosen,
        path,
        source_tables,
        samples=samples,
        on_progress=partial(observer.count, "measuring networks"),
        on_wait=observer.note,
    )
    if as_json:
        return print_json({**_table_json(transferred.table, path), "median_errors": transferred.errors})
    tables = counted(len(source_tables), "table")
    for precision, fit in transferred.table.fits.items():
        error = transferred.errors[precision]
        print(
            f"{precision}: {len(transferred.table.entries[precision])} blocks predicted from {tables} "
            f"and {fit.n} measured networks; error of a latency ± {share_text(error)}, MAPE {share_text(fit.mape)} "
            "(leave-one-out)"
        )
        if error > nas.jobs.WIDE_ERROR:
            print(f"  that is much: measure more with --samples {2 * fit.n}")
    return print(f"wrote {path}; in the job file:\nlookup_tables: [{path}]")
