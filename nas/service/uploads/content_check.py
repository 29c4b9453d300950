"""Checks the contents of an upload as a job reads them, in a process of its own with bounded memory and time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from nas.errors import JobError, ServiceError, TooLargeError
from nas.service.settings import Limits

OPTIONS = (
    "text_column",
    "image_column",
    "label_column",
    "source_column",
    "target_column",
    "encoding",
    "documents",
    "skip_unreadable",
)
"""Keys of a job's data section that say how files are read, and not what is made of them."""


@dataclass(frozen=True, slots=True)
class UploadedContent:
    """An upload that is not checked yet.

    Attributes:
        folder: Its files.
        subject: Whether it is a data set or a pretrained network.
        kind: The name of the data set in jobs; "" to recognise it.
        options: Keys of the data section of jobs, those of `OPTIONS`.
        task: The task of jobs; "" to recognise it.
    """

    folder: Path
    subject: Literal["data", "model"]
    kind: str = ""
    options: Mapping[str, Any] | None = None
    task: str = ""


def check_content(content: UploadedContent, limits: Limits) -> dict[str, Any]:
    """The facts of an upload's contents, see `nas.service.uploads.check_process`.

    Raises:
        JobError: no job can use them.
        TooLargeError: reading them takes more memory or time than the limits allow.
        ServiceError: the process that reads them failed.
    """
    request = {**asdict(content), "folder": str(content.folder)}
    request |= {"memory": limits.check_bytes, "seconds": int(limits.check_s) + 1}
    command = [sys.executable, "-P", "-m", "nas.service.uploads.check_process"]
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=limits.check_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise TooLargeError(f"reading it took more than {limits.check_s:g} seconds; send less") from None
    if done.returncode in (-signal.SIGKILL, -signal.SIGXCPU):
        raise TooLargeError("reading it took more memory or time than the server allows; send less")
    if done.returncode < 0:  # by a signal, such as that of an invalid address
        raise _unusable("a file of it ends the process that reads it; find the damaged file, and remove it")
    if done.returncode > 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ServiceError(f"the upload was not checked, and so not stored: {last[:300]}", code="upload.unchecked")
    answer: dict[str, Any] = json.loads(done.stdout)
    return _facts_of(answer, content.folder)


def _facts_of(answer: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The facts that a check answered; raises its error, with paths of files relative to the upload's folder."""
    if "error" not in answer:
        return dict(answer)
    text = str(answer["error"])
    for path in dict.fromkeys((str(folder), str(folder.resolve()))):
        text = text.replace(f"{path}/", "").replace(path, "the upload")
    if answer["code"] == TooLargeError.code:
        raise TooLargeError(text)
    raise _unusable(text, code=str(answer["code"]))


def _unusable(text: str, *, code: str = "archive.invalid") -> JobError:
    return JobError(text, code=code, fields=[("archive", text)])
