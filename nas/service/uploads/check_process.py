"""The process that reads an upload as a job does: a request in JSON on standard input, the facts or an error on its output."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import ValidationError

from nas.errors import JobError, NasError, TooLargeError, quoted
from nas.jobs.schema.data import DATA_BY_TASK, DataConfig
from nas.jobs.schema.errors import translate
from supernets.data.checking import check_data
from supernets.data.options import DocumentOptions, ImageOptions, RowOptions, TextOptions
from supernets.data.recognition import recognise, recognise_targets
from supernets.data.targets import CLASSES, NUMBERS, SETS
from supernets.errors import SupernetError

_OPTIONS: Mapping[str, type[ImageOptions | TextOptions | RowOptions | DocumentOptions]] = {
    "number-table": RowOptions,
    "text-classification": TextOptions,
    "text": DocumentOptions,
    "text-pairs": DocumentOptions,
}
"""Options by data set; those of the others are `ImageOptions`."""
_TARGETS = {"classification": CLASSES, "regression": NUMBERS, "multi-label": SETS}
_TASKS = {targets: task for task, targets in _TARGETS.items()}
_WITH_TASKS = ("image-table", "number-table")
"""Data sets whose labels are read by the task of the job."""
_LANGUAGE = "language-modelling"
_PANIC = "PanicException"
"""The name of the errors of libraries in Rust, a class that cannot be imported and is no `Exception`."""
_MAX_LABEL, _MAX_LABELS = 255, 2**18
"""Characters of a label, as of a folder's name, and of all labels: lists of data sets have them all."""
_NO_MEMORY = "allocate memory"
"""In the message of torch for too little memory."""
_READERS = {
    "data": "nas.service.uploads.check_process:read_data",
    "model": "nas.service.uploads.pretrained_check:read_pretrained",
}
"""The function that reads each subject; that of models is loaded with torch, which data sets are read without."""


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of an upload, or its error.

    Args:
        request: The fields of `nas.service.uploads.content_check.UploadedContent`.
    """
    try:
        facts: dict[str, Any] = resolve_name(_READERS[request["subject"]])(request)
        return facts
    except (SupernetError, NasError) as error:
        return {"error": str(error), "code": error.code}
    except RecursionError:
        return {"error": "a file is nested too deeply to be read; replace it", "code": "archive.invalid"}
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and _NO_MEMORY not in str(error):
            raise
        text = "reading it takes more memory than the server allows; send less"
        return {"error": text, "code": TooLargeError.code}
    except BaseException as error:
        if type(error).__name__ != _PANIC:
            raise
        return {"error": f"a file is damaged ({str(error)[:300]}); replace it", "code": "archive.invalid"}


def read_data(request: Mapping[str, Any]) -> dict[str, Any]:
    """The facts of a data set: its kind, place, task and options in a job, and those of `CheckedData`.

    Raises:
        DataError: no job can be trained on it.
        JobError: it cannot have these options, or its labels are too long.
    """
    folder, options = Path(request["folder"]), dict(request["options"] or {})
    columns = {key: value for key, value in options.items() if key.endswith("_column")}
    encoding = str(options.get("encoding", "utf-8"))
    kind, path = recognise(folder, name=request["kind"] or None, columns=columns, encoding=encoding)
    data = _data_section(kind, path, options)
    task = request["task"] or _task(kind, path, data)
    kind_of_options = _OPTIONS.get(kind, ImageOptions)
    names = {field.name for field in fields(kind_of_options)}
    section_options = {key: getattr(data, key) for key in options if key in names}
    targets = _TARGETS.get(task, CLASSES)
    checked = check_data(kind, path, options=kind_of_options(**section_options), targets=targets)
    _check_labels(checked.class_names)
    place = "" if path == folder else path.relative_to(folder).as_posix()
    return {"kind": kind, "place": place, "task": task, "options": options, **asdict(checked)}


def _check_labels(labels: Sequence[str]) -> None:
    longest = max(labels, key=len, default="")
    if len(longest) > _MAX_LABEL:
        text = f"the label {quoted(longest)} is longer than {_MAX_LABEL} characters; shorten it, or name another column"
        raise JobError(text, code="data.too-large")
    if (size := sum(map(len, labels))) > _MAX_LABELS:
        text = f"the {len(labels):,} labels have {size:,} characters; expected at most {_MAX_LABELS:,}; shorten them"
        raise JobError(text, code="data.too-large")


def _data_section(kind: str, path: Path, options: Mapping[str, Any]) -> DataConfig:
    """The data section of a job on this data set; raises `JobError` for options that it cannot have."""
    try:
        return DataConfig.model_validate({"name": kind, "path": path, **options})
    except ValidationError as error:
        raise translate(error, DataConfig, source="options") from None


def _task(kind: str, path: Path, data: DataConfig) -> str:
    if kind in _WITH_TASKS:
        return _TASKS[recognise_targets(path, kind, label_column=data.label_column)]
    dense = next((task for task, names in DATA_BY_TASK.items() if kind in names), "classification")
    return _LANGUAGE if data.of_documents else dense


def limit_resources(memory: int, seconds: int) -> None:
    """Limits the memory that this process takes beside that of its libraries, in bytes, and its CPU time."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Answers one request."""
    request = json.load(sys.stdin)
    resolve_name(_READERS[request["subject"]])  # its libraries do not count
    limit_resources(request["memory"], request["seconds"])
    print(json.dumps(answer(request)))


if __name__ == "__main__":
    main()
