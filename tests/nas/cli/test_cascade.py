"""`nas cascade`: the table of a real run, a pair on the test part and as files, and what has no cascades."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import nas
from nas.engine.store.folder import RunsFolder
from supernets.data import load_data
from tests.nas.commands import Shell, assert_error
from tests.nas.results.export.running_scripts import found_by, prediction_of
from tests.nas.service import made_runs

LATENCY = "latency_ms@cpu-1-thread"


def test_a_pair_is_chosen_tested_and_exported(after: Shell) -> None:
    shown = after.nas("cascade", "small-1", "--json").data
    front = json.loads((after.folder / "search.json").read_text())["front"]
    singles = [row["cascade"] for row in shown["rows"] if row["cascade"]["large"] is None]
    assert [(c["accuracy"], c["mean_ms"]) for c in singles] == [
        (point["values"]["accuracy"], point["values"][LATENCY]) for point in front
    ]
    number = next(row["number"] for row in shown["rows"] if row["gain"] is not None)
    made = after.nas("cascade", "small-1", "--row", str(number), "--test", "-o", "both", "--json").data
    assert made["rows"] == shown["rows"]
    chosen, test = made["rows"][number]["cascade"], made["test"]
    for name in ("small", "large"):
        assert test[name]["accuracy"] == front[chosen[name]]["test"]["accuracy"]
    exported = made["export"]
    assert (exported["small"]["as_measured"], exported["large"]["as_measured"]) == (1.0, 1.0)
    assert exported["parity"] <= 1e-4
    manifest = json.loads((after.folder / exported["manifest"]).read_text())
    assert set(manifest["files"]) == {"cascade.onnx", "cascade.predict.py"}
    assert (manifest["threshold"], manifest["large"]["key"]) == (chosen["threshold"], front[chosen["large"]]["key"])

    # The script's rule on the validation and test parts gives the values of the table.
    network, preprocess = prediction_of(after.folder / exported["script"])
    data = load_data("digits", validation=0.25, test=0.25)
    for part, values in ((data.validation, chosen), (data.test, test["cascade"])):
        answers = [network.answer(own[None]) for own in part.inputs.numpy()]
        right = np.array([logits.argmax() for logits, _ in answers]) == part.labels.numpy()
        assert right.mean() == pytest.approx(values["accuracy"], abs=1e-12)
        assert np.mean([bool(remark) for _, remark in answers]) == pytest.approx(values["share"], abs=1e-12)

    # As a program, without torch and without this project.
    files = images(after.folder, data.validation.inputs[:20, 0].numpy())
    printed = found_by(after.folder / exported["script"], files)
    assert [name for name, _ in printed] == [
        str(network.answer(preprocess(file))[0].argmax()) for file in map(str, files)
    ]


def images(folder: Path, pixels: NDArray[np.float32]) -> list[Path]:
    """Digits (n, 8, 8), of any scale, as image files."""
    scaled = 255 * (pixels - pixels.min()) / (pixels.max() - pixels.min())
    paths = [folder / f"{i}.png" for i in range(len(pixels))]
    for path, own in zip(paths, scaled.astype(np.uint8), strict=True):
        Image.fromarray(own).save(path)
    return paths


def test_an_export_replaces_an_earlier_one_and_nothing_else(after: Shell) -> None:
    run = nas.open_run("small-1", after.folder / "runs")
    cascades = run.cascades()
    number = next(i for i, row in enumerate(cascades.table.rows) if row.gain is not None)
    folder = after.folder / "both"
    first = cascades.export(number, folder)
    again = after.nas("cascade", "small-1", "--row", str(number), "-o", "both")
    assert again.code == 0, again.err
    assert f"wrote {Path('both') / 'cascade.onnx'}, for a batch of 1: parity" in again.out
    assert again.out.count("single network") == len(run.front)
    assert Path(first["manifest"]).exists()
    (after.folder / "other").mkdir()
    (after.folder / "other" / "large.onnx").write_text("mine")
    refused = after.nas("cascade", "small-1", "--row", str(number), "-o", "other")
    assert_error(refused, "large.onnx", code="file.exists")
    assert [file.name for file in (after.folder / "other").iterdir()] == ["large.onnx"]
    assert_error(after.nas("cascade", "small-1", "--row", "999"), "row 999", code="selection.unknown-network")
    single = next(i for i, row in enumerate(cascades.table.rows) if row.gain is None)
    refused = after.nas("cascade", "small-1", "--row", str(single), "-o", "alone")
    assert (refused.code, refused.error) == (1, "cascade.single-network")
    assert f"--row {single}: the row is a single network; choose a row of two networks" in refused.err


def test_what_has_no_cascades_is_refused_before_anything_is_loaded(shell: Shell) -> None:
    runs = RunsFolder(shell.folder / "runs")
    made_runs.searched(runs, name="open", final=False)
    made_runs.regressed(runs)
    made_runs.trained(runs)
    assert_error(shell.nas("cascade", "open-1"), "nas resume open-1", code="run.wrong-state")
    assert_error(shell.nas("cascade", "ages-1"), "regression", code="cascade.task-unavailable")
    assert_error(shell.nas("cascade", "supernet-1"), "supernet-1", code="run.not-a-search")
    assert_error(shell.nas("cascade", "gone"), "gone", code="run.unknown")
    assert_error(shell.nas("cascade", "open-1", "--profile", "bord"), "bord", code="profile.unknown")
    for wrong in (["--test"], ["-o", "both"]):
        assert shell.nas("cascade", "open-1", *wrong).code == 2
