"""Runs whose images version 0.1 resized in another way keep them: their exports, and what continues from them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import Image

from nas.engine.store.folder import RunsFolder
from nas.jobs.build import job_data
from nas.jobs.build.built_job import build_job
from nas.jobs.build.trained_run import load_trained_run
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.runs.driver import resume
from nas.runs.driver import run as search
from nas.runs.run import Run
from supernets.data import DataSet, ImageOptions, TextOptions, image_folder, load_data
from supernets.data.preprocessing import square
from tests.errors import raises
from tests.nas.results.export.digit_images import write_digits
from tests.nas.results.export.running_scripts import prediction_of
from tests.nas.results.export.scripts.test_images import JOB


def as_version_0_1(name: str, *, options: ImageOptions | TextOptions | None = None, **given: Any) -> DataSet:
    assert isinstance(options, ImageOptions)
    return load_data(name, options=replace(options, as_in_0_1=True), **given)


def _rounded_otherwise(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """The square of an image as another version of Pillow resizes it: some bytes differ by 1."""
    pixels = square(image, size).copy()
    pixels[:, ::5, ::5] ^= 1
    return pixels


@pytest.fixture(params=["digits", "image-folder"])
def earlier(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A finished run whose data are resized as in version 0.1."""
    data = "{name: digits, image_size: 12}"
    if request.param == "image-folder":
        if int(PIL.__version__.partition(".")[0]) < 13:  # which resizes in one call as in two
            monkeypatch.setattr(image_folder, "square_in_one_call", _rounded_otherwise)
        write_digits(tmp_path / "digits", n=200)
        data = f"{{name: image-folder, path: {tmp_path / 'digits'}, image_size: 12}}"
    job = parse_job(JOB.format(data=data, epochs=1), source="job.yaml")
    with monkeypatch.context() as patched:
        patched.setattr(job_data, "load_data", as_version_0_1)
        return search(job, RunOptions(RunsFolder(tmp_path / "runs"), inline=True))


def test_they_are_read_exported_and_continued(earlier: Run, tmp_path: Path) -> None:
    data = load_trained_run(earlier).data.dataset
    now = load_data(data.name, path=earlier.job.data.path, options=ImageOptions(image_size=12))
    assert data.images.resizing == ("torch" if data.name == "digits" else "pillow-in-one-call")
    assert data.train.digest != now.train.digest
    made = earlier.export(tmp_path, index=0)
    assert made["as_measured"] == 1
    assert json.loads(Path(made["manifest"]).read_text())["preprocessing"]["resizing"] == data.images.resizing
    with raises("export.preprocessing-unavailable", "version 0.1"):
        earlier.export(tmp_path, index=0, with_preprocessing=True)
    assert prediction_of(Path(made["script"]))[0].how["resizing"] == data.images.resizing
    described = f"name: {data.name}, image_size: 12" + (f", path: {path}" if (path := earlier.job.data.path) else "")
    further = parse_job(f"name: further\ndata: {{{described}}}\nsupernet: {{from: photos-1}}", source="job.yaml")
    assert build_job(ResolvedJob(further, earlier.runs)).data.dataset.test.digest == data.test.digest
    assert resume(earlier.id, RunOptions(earlier.runs, inline=True), evaluations="+1").report.n_evaluations == 9
