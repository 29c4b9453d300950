"""Job files that tests begin with, and what is said of those that are none."""

from __future__ import annotations

import pytest

from nas.config import parse_job
from nas.errors import JobError

BASE = "name: a\ndata: {name: digits}\nsupernet: {preset: tiny}\n"
STAGE = "{stride: 1, depth: [1, 2], width: [8], kernel: [3, 5], expand: [2]}"


def fails(text: str) -> str:
    """The error of a text that is no job."""
    with pytest.raises(JobError) as caught:
        parse_job(text, source="job.yaml")
    message = str(caught.value)
    assert message.startswith("job.yaml: ")
    assert message.count("\n") <= 1
    return message


BLOCKS = "{stride: 2, depth: [1, 2], width: [32], expand: [0.25, 0.5]}"
