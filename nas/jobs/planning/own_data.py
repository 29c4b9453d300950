"""Fills in a recipe for a user's own data: the path, and what follows from the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image

import nas.jobs
from nas.errors import JobError
from nas.jobs.schema import SearchJob, parse_job
from nas.jobs.schema.data import DATA_BY_TASK
from nas.jobs.schema.job_edit import Path as KeyPath
from nas.jobs.schema.job_edit import edit_job
from nas.jobs.schema.supernet import training_of_model
from nas.search.problem.tasks import SHIPPED
from supernets.data.dense.kinds import dense_kind
from supernets.data.image_folder import SUFFIXES, class_files
from supernets.errors import DataError
from supernets.networks.capture.model_names import HUB

_NONE = "none"
_WITH_WEIGHTS = ("torchvision:", "timm:")
"""Libraries that have weights for their models."""
_N_SURVEYED = 200
"""Image files whose sizes are read, spread over the folder."""
_SIZES = (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
_PRESETS = ((16, "digits"), (96, "tiny"))
"""Presets of small CNNs with the largest image size for each; `mobile` for larger images."""
_SHIFT = (16, 2)
"""Pixels of a side for each pixel of random shifts, and the most pixels: one pixel is an eighth of the smallest images."""
_TRAINING_IMAGES = 200_000
"""Images in all epochs together, from the recipes of digits and Fashion-MNIST."""
_EPOCHS = (5, 60)
_LABELS = ("label", "labels", "target", "class")
"""As in `supernets.data.number_table`, which takes longer to import."""
_CLASSIFICATION: Mapping[str, str] = {
    "task: regression            # or classification, whose labels are words; multi-label: ": (
        "task: classification        # the labels of the table are words; or multi-label: "
    ),
    "objectives: [mae, macs]     # the mean absolute error, in the target's unit; also r2, latency_ms, parameters": (
        "objectives: [accuracy, macs] # also latency_ms, parameters"
    ),
}
"""Texts of the recipe `own-numbers`, and those for a table whose labels are words."""


def fill_recipe(text: str, data: Path, *, model: str | None = None, weights: str | None = None) -> str:
    """A recipe's text with `data` as its path; of images, also with what fits these files: image size, preset, epochs, shifts.

    Args:
        model: the user's, of a recipe for one; None keeps the recipe's.
        weights: Weights of the model: a file, ``package:NAME``, `HUB` or ``none``; None takes its library's where it has some.

    Raises:
        CaptureError: there is no such model.
        JobError: the recipe takes no path or no model, there is no such path, or the images are not in folders of classes.
    """
    job = parse_job(text, source="recipe")
    where = f"data {data}"
    if (model or weights) is not None and job.supernet.model is None:
        parameter, value = ("weights", weights) if model is None else ("model", model)
        text = f"{parameter} {value}: the recipe {job.name} has networks of its own; expected own-image-model"
        raise JobError(text, code="recipe.without-model", parameter=parameter)
    if job.data.path is None:
        recipe_names = (
            "own-images, own-image-model, own-image-labels, own-detector, own-segmenter, own-numbers, own-sentences, "
        )
        recipe_names += "minilm-text"
        with_path = f"{recipe_names}, iso-dates, shakespeare-decoder, shakespeare-experts or smollm2-domain"
        message = f"the recipe {job.name} has data of its own; expected {with_path}"
        raise JobError(f"{where}: {message}", code="recipe.without-path", parameter="data")
    if not data.exists():
        raise JobError(f"{where}: does not exist; correct the path", code="data.missing", parameter="data")
    changes: dict[KeyPath, Any] = {("data", "path"): str(data)}
    if job.data.name == "image-folder":
        n_files, side = _survey_images(data, where=where)
        changes |= _for_images(n_files, side)
        if (name := model or job.supernet.model) is not None:
            del changes["supernet", "preset"]
            changes |= _for_model(name, weights, n_files, changes["data", "image_size"])
    if job.data.of_boxes_or_masks:
        kind = dense_kind(data)
        if kind not in next(names for names in DATA_BY_TASK.values() if job.data.name in names):
            message = f"the recipe {job.name} takes {job.task}'s data, and these are {kind or 'of another kind'}"
            raise JobError(f"{where}: {message}", code="recipe.unfit-data", parameter="data")
        changes |= _for_boxes(job, str(kind))
    if job.data.name == "number-table" and _has_words(data):
        for of_numbers, of_words in _CLASSIFICATION.items():
            text = text.replace(of_numbers, of_words)
    return edit_job(text, changes, source="recipe")


def _for_boxes(job: SearchJob, name: str) -> dict[KeyPath, Any]:
    """The format of a recipe's boxes; images are looked for beside the annotations, and not in the recipe's folder."""
    if not job.data.of_boxes_or_masks:
        return {}
    changes: dict[KeyPath, Any] = {} if name == job.data.name else {("data", "name"): name}
    return changes if job.data.images is None else {**changes, ("data", "images"): None}


def _has_words(table: Path) -> bool:
    """True if a label of a table is no number, so that its labels are names of classes; False of what is no such table."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            if table.suffix.lower() == ".jsonl":
                rows = [json.loads(line) for line in file if line.strip()]
            else:
                rows = list(csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ","))
        columns = [name for name in rows[0] if str(name).lower() in _LABELS]
        return any(not _is_number(row[name]) for name in columns for row in rows)
    except (OSError, ValueError, TypeError, LookupError, csv.Error):  # the plan says what is wrong with it
        return False


def _is_number(cell: object) -> bool:
    try:
        float(str(cell))
    except ValueError:
        return cell in (None, "")
    return True


@dataclass(frozen=True, slots=True)
class KnownData:
    """Data that a server has read, so that a recipe is filled in without them.

    Attributes:
        name: The name of the data set in jobs, e.g. ``image-folder``.
        path: Its path, as jobs name it.
        options: Keys of the data section that say how its files are read.
        task: The task that its labels are for.
        n_examples: Number of its examples.
        short_side: The median of its images' short sides in pixels; None for other data.
    """

    name: str
    path: str
    options: Mapping[str, Any]
    task: str
    n_examples: int
    short_side: float | None = None


def fill_known(
    text: str, data: KnownData | None = None, *, model: str | None = None, pretrained: str | None = None
) -> str:
    """A recipe's text with data and a model by the names that jobs have for them; None keeps those of the recipe.

    Raises:
        JobError: the recipe takes no such data, or no such model.
    """
    job = parse_job(text, source="recipe")
    changes: dict[KeyPath, Any] = {}
    if data is not None:
        same_task = any({data.name, job.data.name} <= set(names) for names in DATA_BY_TASK.values())
        if data.name != job.data.name and not same_task:
            message = f"the recipe {job.name} takes data of the kind {job.data.name}, and these are of {data.name}"
            raise JobError(f"data {data.path}: {message}", code="recipe.unfit-data", parameter="data")
        changes |= {("data", "path"): data.path, **{("data", key): value for key, value in data.options.items()}}
        changes |= _for_boxes(job, data.name)
        if data.short_side is not None:
            changes |= _for_images(data.n_examples, data.short_side)
        if data.task != job.task:
            changes |= _for_task(job, data.task)
    for key, name in (("model", model), ("pretrained", pretrained)):
        if name is not None and getattr(job.supernet, key) is None:
            message = f"the recipe {job.name} has no supernet.{key}; expected one that has"
            raise JobError(f"model {name}: {message}", code="recipe.without-model", parameter="model")
        if name is not None:
            changes["supernet", key] = name
    if model is not None:  # its file has its weights
        keys = ("weights", "arguments")
        changes |= {("supernet", key): None for key in keys if getattr(job.supernet, key) is not None}
    if job.supernet.model is not None and data is not None:
        changes.pop(("supernet", "preset"), None)
        epochs = training_of_model({"model": model or job.supernet.model}, {}, data.n_examples).get("epochs")
        changes |= {} if epochs is None else {("training", "epochs"): epochs}
    return edit_job(text, changes, source="recipe")


def _for_task(job: SearchJob, task: str) -> dict[KeyPath, Any]:
    """The task, with its first metric in place of the recipe's."""
    metrics, first = SHIPPED[job.task].names, SHIPPED[task].names[0]
    objectives = dict.fromkeys(first if name in metrics else name for name in job.objectives)
    return {("task",): task, ("objectives",): list(objectives)}


def _survey_images(folder: Path, *, where: str) -> tuple[int, float]:
    """The number of images of a folder, and their typical short side in pixels."""
    if not folder.is_dir():
        message = "is a file; expected a folder with one folder of images for each class"
        raise JobError(f"{where}: {message}", code="data.layout", parameter="data")
    try:
        files, class_names = class_files(folder)
    except DataError as error:
        raise JobError(f"data {error}", code=error.code, parameter="data") from None
    if len(class_names) < 2:
        message = f"holds the folder of 1 class ({class_names[0]}); expected at least 2"
        raise JobError(f"{where}: {message}", code="data.layout", parameter="data")
    sides = [side for file in files[:: max(1, len(files) // _N_SURVEYED)] if (side := _short_side(file)) is not None]
    if not sides:
        message = f"no image can be read; expected one folder for each class with {', '.join(SUFFIXES)} files"
        raise JobError(f"{where}: {message}", code="data.layout", parameter="data")
    return len(files), median(sides)


def _for_images(n_files: int, side: float) -> dict[KeyPath, Any]:
    size = max((s for s in _SIZES if s <= side), default=_SIZES[0])
    preset = next((name for largest, name in _PRESETS if size <= largest), "mobile")
    min_epochs, max_epochs = _EPOCHS
    pixels, furthest = _SHIFT
    return {
        ("data", "image_size"): size,
        ("supernet", "preset"): preset,
        ("training", "augment", "shift"): min(furthest, size // pixels),
        ("training", "epochs"): min(max_epochs, max(min_epochs, round(_TRAINING_IMAGES / n_files))),
    }


def _for_model(name: str, weights: str | None, n_files: int, size: int) -> dict[KeyPath, Any]:
    """The model with its weights, its channels, the size of its images, and the epochs of a trained one."""
    if weights is None and name.startswith(_WITH_WEIGHTS):
        weights = HUB
    supernet = {"model": name, "weights": None if weights == _NONE else weights}
    changes: dict[KeyPath, Any] = {("supernet", key): value for key, value in supernet.items()}
    changes["data", "channels"], changes["data", "image_size"] = nas.jobs.image_shape_for(name, size)
    if (epochs := training_of_model(supernet, {}, n_files).get("epochs")) is not None:
        changes["training", "epochs"] = epochs
    return changes


def _short_side(file: Path) -> int | None:
    """The short side of an image by its header; None for what is no image."""
    if not file.is_file():  # a named pipe would block
        return None
    try:
        with Image.open(file) as image:
            return min(image.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
