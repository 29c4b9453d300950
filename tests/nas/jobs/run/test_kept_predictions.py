"""A search of detectors or segmenters ends with the predictions of its front."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nas.engine.predictions import Predictions
from nas.jobs.run.kept_predictions import measured_front
from nas.results.analysis.report import build_report
from nas.results.plots.prediction_charts import overlap_by_class
from nas.search.problem.objectives import Evaluation
from nas.search.problem.variants import Variants
from tests.dense_scenes import make_parts, write_coco, write_masks
from tests.nas.commands import SMALL_JOB, Shell
from tests.nas.results.export.runs import example_run

DETECTOR = """
name: dense
seed: 1
task: detection
data: {name: coco, path: scenes/annotations, image_size: 64, channels: 3}
supernet: {family: detector, preset: tiny}
training: {epochs: 6, batch_size: 16, random_subnets: 1}
objectives: [map, macs]
search: {algorithm: random, evaluations: 5, batch: 5}
calibration_images: 32
"""
SEGMENTER = """
name: dense
seed: 1
task: segmentation
data: {name: segmentation-folder, path: scenes, image_size: 64, channels: 3}
supernet: {family: segmenter, preset: tiny}
training: {epochs: 2, batch_size: 16, random_subnets: 1}
precisions: [fp32, int8]
objectives: [miou, macs]
search: {algorithm: random, evaluations: 5, batch: 5}
calibration_images: 32
"""


@pytest.mark.slow
@pytest.mark.parametrize(("job", "metric"), [(DETECTOR, "map"), (SEGMENTER, "miou")])
def test_a_run_of_each_task_ends_with_the_predictions_that_were_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, job: str, metric: str
) -> None:
    shell = Shell(tmp_path, capsys, monkeypatch)
    parts = make_parts(64, 24, 24, sides=(64, 80))
    if metric == "map":
        write_coco(parts, tmp_path / "scenes")
    else:
        write_masks(parts, tmp_path / "scenes")
    shell.job(job)
    assert shell.nas("search", "job.yaml", "--inline").code == 0
    path = tmp_path / "runs" / "dense-1" / "predictions.npz"
    predictions = Predictions.read(path)
    assert predictions is not None
    report = json.loads(shell.nas("show", "dense-1", "--json").out)
    values = {point["key"]: point["values"][metric] for point in report["front"]}
    assert set(values) <= set(predictions.networks)
    for key, value in values.items():
        place = predictions.networks.index(key)
        if metric == "map":
            scored = float(np.nanmean(predictions.tables["average_precision"][place, 0]))
        else:
            scored = float(np.nanmean(overlap_by_class(predictions.tables["confusion"][place])))
        assert scored == pytest.approx(value, abs=1e-6)
    assert (predictions.n_examples, len(predictions.images)) == (24, 6)
    assert {Path(name).name[0] for name in predictions.names} == {"b"}  # of the validation part, and of no other

    plots = tmp_path / "runs" / "dense-1" / "plots"
    assert (plots / "predictions.png").is_file()
    path.write_bytes(path.read_bytes()[:1000])
    assert shell.nas("plot", "dense-1", "-o", "damaged").code == 0
    assert "not readable as predictions" in (tmp_path / "damaged" / "front.html").read_text()
    assert not (tmp_path / "damaged" / "predictions.png").exists()


@pytest.mark.slow
def test_a_search_ends_without_predictions_where_they_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("no memory is left")

    shell = Shell(tmp_path, capsys, monkeypatch)
    monkeypatch.setattr("nas.jobs.run.execution.predictions_of", fail)
    shell.job(
        SMALL_JOB.replace("epochs: 4", "epochs: 1").replace("evaluations: 30, batch: 7", "evaluations: 3, batch: 3")
    )
    answer = shell.nas("search", "job.yaml", "--inline")
    assert answer.code == 0
    assert "no predictions are kept for pictures: RuntimeError: no memory is left" in answer.out + answer.err
    assert not (tmp_path / "runs" / "small-1" / "predictions.npz").exists()


def test_the_front_is_that_of_the_final_values() -> None:
    store = example_run()
    report = build_report(store, run="example-1")
    objectives = report.objectives
    architectures = [point.architecture for point in report.evaluated]
    requests = {a: {o.name: Variants().request(a, o) for o in objectives} for a in architectures}
    measured = store.find([request for by_name in requests.values() for request in by_name.values()])
    evaluations = [
        Evaluation(a, {name: measured[request] for name, request in by_name.items()}) for a, by_name in requests.items()
    ]
    front = measured_front(evaluations, store.state().finalists, objectives, Variants(), store)
    assert [a.key for a in front] == [point.key for point in report.front]
    assert measured_front([], [], objectives, Variants(), store) == []
