"""`nas.build.compatibility_facts`: jobs whose weights are shared in different ways are not comparable."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.build.compatibility_facts import compatibility_facts
from nas.build.prepared_job import prepare_job
from nas.config import parse_job
from nas.errors import NasError
from nas.store.compatibility import check_compatibility
from nas.store.folder import RunsFolder
from tests.nas.build.jobs import prepared
from tests.nas.commands import SMALL_JOB


def test_another_sharing_is_not_comparable(tmp_path: Path) -> None:
    ways = ["slice", "{mixture: {}}", "{mixture: {routing: neuron}}"]
    jobs = [SMALL_JOB.replace("family: mobile-cnn", f"family: mobile-cnn\n  sharing: {way}") for way in ways]
    plain, layer, neuron = (
        compatibility_facts(prepare_job(parse_job(text, source="job.yaml"), RunsFolder(tmp_path)), measured=False)
        for text in jobs
    )
    assert plain == compatibility_facts(prepared(tmp_path, ""), measured=False)
    with pytest.raises(NasError, match=r"made under other conditions: supernet, sharing: was None, is .*layer"):
        check_compatibility("run a", plain, layer)
    with pytest.raises(NasError, match=r"other conditions: supernet, sharing: was .*layer.*, is .*neuron"):
        check_compatibility("run a", layer, neuron)
