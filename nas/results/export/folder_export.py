"""Exports a network of a run as a folder that a library loads, with a model card: see `formats`."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.engine.process_memory import release_free_memory
from nas.engine.store.folder import RunsFolder, make_folder, write_atomically
from nas.engine.store.stored_run import StoredRun
from nas.errors import ExportFailedError, NasError, Remedy, attach_remedy
from nas.jobs.build.trained_run import TrainedRun, load_trained_run
from nas.jobs.evaluation.scoring import CALIBRATION_BATCH
from nas.jobs.schema.search_job import stored_job
from nas.plugins.parts import require
from nas.results.analysis.network_selection import choose
from nas.results.analysis.network_values import Point
from nas.results.analysis.report import build_report
from nas.results.export.cost_selection import largest_network, networks_by_cost
from nas.results.export.export_paths import CARD, check_empty
from nas.results.export.export_scripts import script_of
from nas.results.export.format_names import TRANSFORMERS
from nas.results.export.formats.all_formats import FOLDER_FORMATS
from nas.results.export.formats.folder_format import ExportedNetwork, FolderFormat, WrittenFolder
from nas.results.export.manifest import model_name
from nas.results.export.model_card import Measured, model_card, read_original
from nas.results.export.provenance import score_network
from nas.search.problem.objectives import Variant
from nas.search.problem.tasks import CLASSIFICATION, LANGUAGE
from supernets.errors import ExportError
from supernets.space import Architecture
from supernets.training.recalibration import Extraction

_PREPROCESSING, _SCRIPT = "preprocessing.json", "predict.py"
_DATA = ("name", "path", "max_tokens", "separator", "text_column", "label_column")
"""Keys of the job's data that the model card states."""


def export_folder(
    runs: RunsFolder,
    run: str,
    folder: Path,
    *,
    format: str = TRANSFORMERS,
    select: str | None = None,
    index: int | None = None,
    accept_plugin_versions: bool = False,
    data: object = None,
) -> dict[str, Any]:
    """Writes one network as a folder of a format of `FOLDER_FORMATS`, with a model card; all of it or nothing.

    What is written is read again and compared with the network, and by the library itself, where it is installed.

    Args:
        folder: A new or an empty one.
        format: The name of the format.
        select, index: The network, as for `nas.results.export.onnx_export.export_onnx`; of a training, without either the whole
            network.
        accept_plugin_versions, data: Options of `nas.results.export.onnx_export.export_onnx`.

    Returns:
        The output of `nas export --format FORMAT --json`: ``path``, ``format``, ``loader``, ``key``, ``precision``, ``checks``,
        ``files`` and ``values``, which are those of the precision that is written: a network that the run did not measure in
        it is scored now. ``path`` is the folder.

    Raises:
        ExportFailedError: the folder is not empty, what was written computes something else, or the disk is full.
        ExportError: the format has no such network.
        PartError: a package that the format needs is missing.
    """
    writer = FOLDER_FORMATS[format]
    if writer.part is not None:
        require(writer.part, f"an export of the format {format}")
    check_empty(folder)
    opened = StoredRun.open(runs, run)
    selection = _select(opened, select, index, keeps_precision=writer.keeps_precision)
    trained = load_trained_run(opened, accept_plugin_versions=accept_plugin_versions, data=data)
    if (task := trained.data.job.config.task) not in (CLASSIFICATION.name, LANGUAGE):
        problem = f"run {run!r} is of the task {task}, and this export writes classifiers and language models"
        raise ExportFailedError(f"{problem}; export ONNX", code="export.task-unavailable", remedy=Remedy("export", run))
    supernet = trained.checkpoint.supernet
    family, plain = supernet.family.plain(selection.network)
    measured = selection.measured or _measured(score_network(run, selection.network, trained)[0])
    original = read_original(_original_of(opened))
    calibration = trained.data.calibration.split(CALIBRATION_BATCH)
    network = ExportedNetwork(
        run,
        Path(model_name(run, selection.network.key)).stem,
        family,
        plain,
        Extraction(supernet, calibration)(selection.network),
        trained.data.dataset,
        trained.data.task,
        selection.precision,
        calibration,
        original.license,
    )
    supernet.to("meta")  # a copy of the network has its weights
    release_free_memory()
    with _all_or_nothing(folder) as staging:
        written = _write(staging, writer, network, run)
        card = model_card(
            network,
            written,
            key=selection.network.key,
            original=original,
            measured=measured,
            data=_data_facts(trained),
            task=task,
            folder_name=folder.name,
        )
        write_atomically(staging / CARD, card.encode())
        files = sorted(path.name for path in staging.iterdir())
    return {
        "path": str(folder),
        "format": format,
        "loader": written.loader.format(path=str(folder)),
        "key": selection.network.key,
        "values": dict(measured.values),
        "precision": written.precision,
        "checks": dict(written.checks),
        "files": files,
    }


def _write(folder: Path, writer: FolderFormat, network: ExportedNetwork, run: str) -> WrittenFolder:
    try:
        written = writer.write(folder, network)
    except ExportError as error:
        attach_remedy(error, Remedy("export", run))
        raise
    if writer.name == TRANSFORMERS:
        # What the library's own preprocessing does not state, and a script that preprocesses as in training.
        preprocessing = network.data.format
        write_atomically(folder / _PREPROCESSING, json.dumps(preprocessing.to_json(), indent=2).encode())
        write_atomically(folder / _SCRIPT, script_of(preprocessing, in_transformers=True))
    return written


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[Path]:
    """A folder beside another one, which replaces it at the end; after an error it is gone.

    Raises:
        ExportFailedError: A file cannot be written, for instance as the disk is full.
    """
    make_folder(folder.absolute().parent)
    staging = folder.absolute().with_name(f".{folder.absolute().name}.{os.getpid()}.partial")
    try:
        staging.mkdir()
        yield staging
        if folder.exists():
            folder.rmdir()  # it is empty
        staging.rename(folder)
    except OSError as error:
        place = folder if error.errno == errno.ENOSPC else error.filename or folder
        reason = error.strerror or error  # NumPy's, by which GGUF files are written, has no number
        message = f"{place} cannot be written: {reason}; free space there, or choose another folder"
        raise ExportFailedError(message, code="file.not-writable") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Selection:
    """A selected network.

    Attributes:
        precision: The precision that it is written in.
        measured: Its values in this precision; None where the run did not measure it in this one.
    """

    network: Architecture
    precision: str
    measured: Measured | None


def _select(run: StoredRun, select: str | None, index: int | None, *, keeps_precision: bool) -> _Selection:
    """A network of a run, and its values: in fp32, or in the precision in which it is selected."""
    if run.kind == "training" and index is None:
        network, _ = largest_network(run) if select is None else networks_by_cost(run).satisfying(select)[-1]
        return _Selection(network, "fp32", None)
    with run.store() as store:
        report = build_report(store, run=run.id)
        variants = store.search_facts().variants
    point = choose(report, select, index)
    network, variant = variants.split(point.architecture)
    if keeps_precision:
        return _Selection(network, variant.precision, _measured(point))
    same = [p for p in report.candidates if variants.split(p.architecture) == (network, Variant())]
    return _Selection(network, "fp32", _measured(same[0]) if same else None)


def _measured(point: Point) -> Measured:
    return Measured(point.values, point.errors, point.test)


def _original_of(run: StoredRun) -> str | None:
    """The name of the pretrained network or model that a run's networks were made of; None for none."""
    supernet = stored_job(run).supernet
    for _ in range(_MAX_RUNS):
        if supernet.pretrained is not None or supernet.from_ is None:
            break
        try:
            supernet = stored_job(StoredRun.open(run.runs, str(supernet.from_))).supernet
        except NasError:  # the other run is gone, or another file than a run's is named
            break
    return None if supernet.pretrained is None else str(supernet.pretrained)


_MAX_RUNS = 10
"""Runs that are followed from one to the one whose supernet it searched."""


def _data_facts(trained: TrainedRun) -> dict[str, Any]:
    """The data of a run, as the model card states them."""
    settings, dataset = trained.data.job.config.data.model_dump(mode="json"), trained.data.dataset
    stated = {key: settings[key] for key in _DATA if settings.get(key) is not None}
    if "path" in stated:  # a card may be published
        stated["path"] = Path(stated["path"]).name
    sizes = {f"{part} {dataset.format.noun}s": len(getattr(dataset, part)) for part in ("train", "validation", "test")}
    return {**stated, **sizes, "validation digest": dataset.validation.digest}
