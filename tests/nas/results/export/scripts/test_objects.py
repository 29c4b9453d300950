"""The scripts beside detectors and segmenters reproduce the promised scores from the images' files, and draw them."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nas.engine.store.folder import RunsFolder
from nas.jobs.run.run_options import RunOptions
from nas.jobs.schema import parse_job
from nas.runs.driver import run as search
from nas.runs.run import Run
from supernets.data.preprocessing import letterbox_window
from tests.dense_scenes import make_parts, write_coco, write_masks
from tests.nas.results.export.running_scripts import bare_interpreter, module_of

SIZE = 64
JOB = """
name: scenes
task: {task}
data: {data}
supernet:
  family: {family}
  preset: tiny
training: {{epochs: 2, batch_size: 16, random_subnets: 1, augment: {{shift: 4, flip: true}}}}
objectives: [{metric}, macs]
search: {{algorithm: random, evaluations: 4, batch: 4}}
calibration_images: 32
"""


def exported(folder: Path, *, task: str, family: str, metric: str, data: str) -> tuple[Run, Path, float]:
    """A searched run, the script of its best network, and the score on the test part that its manifest promises."""
    job = parse_job(JOB.format(task=task, family=family, metric=metric, data=data), source="job.yaml")
    run = search(job, RunOptions(RunsFolder(folder / "runs"), inline=True))
    run.export(folder / "net.onnx", index=0)
    manifest = json.loads((folder / "net.json").read_text())
    return run, folder / "net.predict.py", manifest["figures"]["test"][metric]


def run_script(folder: Path, script: Path, *arguments: str | Path) -> str:
    """The output of a script in an interpreter that has only its own packages."""
    packages = folder / "packages"
    packages.mkdir()
    bare = bare_interpreter(packages, "numpy", "pillow", "onnxruntime")
    command = [*bare, str(script), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.slow
def test_boxes_of_the_script_have_the_promised_average_precision(tmp_path: Path) -> None:
    parts = make_parts(96, 32, 48, sides=(90, 120))
    data = f"{{name: coco, path: {write_coco(parts, tmp_path / 'coco')}, image_size: {SIZE}, channels: 3}}"
    _, script, promised = exported(tmp_path, task="detection", family="detector", metric="map", data=data)
    annotations = json.loads((tmp_path / "coco" / "annotations" / "test.json").read_text())
    files = [tmp_path / "coco" / "images" / image["file_name"] for image in annotations["images"]]
    results, pictures = tmp_path / "results.json", tmp_path / "pictures"

    lines = run_script(tmp_path, script, "--json", results, "--pictures", pictures, *files).splitlines()

    assert [line.partition(": ")[0] for line in lines] == list(map(str, files))
    assert len(list(pictures.iterdir())) == len(files)
    id_of_category = {category["name"]: category["id"] for category in annotations["categories"]}
    rows: list[dict[str, Any]] = json.loads(results.read_text())
    for row in rows:
        row["image_id"] = annotations["images"][files.index(Path(row["file_name"]))]["id"]
        row["category_id"] = id_of_category[row["category"]]
    assert average_precision(annotations, rows) == pytest.approx(promised, abs=5e-7)
    assert 0 < promised < 1


def average_precision(annotations: dict[str, Any], results: list[dict[str, Any]]) -> float:
    """COCO's average precision by its own library."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = annotations
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


@pytest.mark.slow
def test_class_maps_of_the_script_have_the_promised_intersection_over_union(tmp_path: Path) -> None:
    parts = make_parts(96, 32, 48, sides=(90, 120))
    folder = write_masks(parts, tmp_path / "masks")
    data = f"{{name: segmentation-folder, path: {folder}, image_size: {SIZE}, channels: 3}}"
    _, script, promised = exported(tmp_path, task="segmentation", family="segmenter", metric="miou", data=data)
    files = sorted((folder / "test" / "images").iterdir())
    maps = tmp_path / "maps"

    text = run_script(tmp_path, script, "--maps", maps, "--pictures", tmp_path / "pictures", *files)

    assert len(text.splitlines()) == len(files)
    for file, written in zip(files, sorted(maps.iterdir(), key=lambda path: path.name[3:]), strict=True):
        assert opened(file).size == opened(written).size
    module = module_of(script)
    network = module.network_beside(script)
    counts = np.zeros((11, 11), dtype=np.int64)
    for file in files:
        image, mask = opened(file), opened(folder / "test" / "masks" / file.name)
        left, top, width, height = letterbox_window(*image.size, SIZE)
        pixels = module.letterbox(module.decode(image, 3), SIZE)
        how = network.how
        classes, _ = network.answer(module.normalised(pixels, how["levels"], how["mean"], how["std"])[None])
        labels = np.asarray(mask.resize((width, height), Image.Resampling.NEAREST))
        np.add.at(counts, (labels.ravel(), classes[top : top + height, left : left + width].astype(int).ravel()), 1)
    both = np.diag(counts)
    union = counts.sum(0) + counts.sum(1) - both
    present = counts.sum(1) > 0
    # Roundings differ between batches of one and of many, and decide between equal logits of a few pixels.
    assert float((both[present] / union[present]).mean()) == pytest.approx(promised, abs=2e-5)


def opened(path: Path) -> Image.Image:
    """An image whose file is closed again."""
    with Image.open(path) as image:
        return image.copy()
