"""Jobs whose supernet is made of a user's model: what fits the data, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.engine.store.folder import RunFolder, RunsFolder
from nas.jobs.build.built_job import BuiltJob, build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from supernets.data import batches, head
from supernets.data.preprocessing import centre
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.captured_model import load_capture, save_capture
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.network import PlainNetwork
from supernets.networks.capture.user_model import Preprocessing
from supernets.sharing.base import Distillation, LabelLoss
from supernets.sharing.removal import removal_importance
from supernets.sharing.sorting import taylor_importance
from supernets.tasks import CLASSIFICATION
from tests.errors import raises
from tests.nas.users_networks import MODEL, forgotten, installed
from tests.supernets.networks.onnx_models.files import classifier, write


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return installed(tmp_path, monkeypatch)


def prepared(
    tmp_path: Path, supernet: str, *, data: str = "{name: digits}", more: str = "", run: RunFolder | None = None
) -> BuiltJob:
    job = parse_job(f"name: a\ndata: {data}\nsupernet: {supernet}\n{more}", source="job.yaml")
    return build_job(ResolvedJob(job, RunsFolder(tmp_path / "runs"), source="job.yaml", run=run))


def test_a_model_is_captured_for_the_jobs_images(tmp_path: Path, module: Path) -> None:
    made = prepared(tmp_path, f"{{model: '{MODEL}'}}")
    assert made.model is not None
    assert made.model.input_shape == (1, 8, 8)
    assert made.model.notes == ()


def test_image_files_are_resized_as_by_the_models_own_preprocessing(tmp_path: Path, module: Path) -> None:
    made = prepared(tmp_path, f"{{model: '{MODEL}'}}").model
    assert made is not None
    own = replace(made, preprocessing=Preprocessing(8, 1, (0.5,), (0.25,), "bicubic", 0.8))
    save_capture(tmp_path / "own.capture", own)
    rng = np.random.default_rng(0)
    for i in range(20):
        (tmp_path / "photos" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (24, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i % 2}" / f"{i:02}.png")
    folder = f"name: image-folder, path: {tmp_path / 'photos'}, validation: 4, test: 4"
    model = f"{{model: {tmp_path / 'own.capture'}}}"
    data = prepared(tmp_path, model, data=f"{{{folder}}}").data.dataset
    assert (data.images.crop, data.images.interpolation) == (0.8, "bicubic")
    files = [Image.open(tmp_path / "photos" / name) for name in data.test.names or ()]
    expected = [data.images.inputs(centre(image, 8, 0.8, "bicubic")) for image in files]
    assert np.array_equal(data.test.inputs.numpy(), np.stack(expected))
    changed = prepared(tmp_path, model, data=f"{{{folder}, crop: 1, interpolation: bilinear}}").data.dataset
    assert changed.images.of_square
    of_arrays = prepared(tmp_path, model).data.dataset
    assert of_arrays.images.of_square
    with raises("job.conflict", "data.crop", "image-folder"):
        prepared(tmp_path, model, data="{name: digits, crop: 0.9}")


def test_the_largest_subnet_is_the_users_network_whose_units_are_sorted(tmp_path: Path, module: Path) -> None:
    made = prepared(tmp_path, f"{{model: '{MODEL}'}}")
    plain = prepared(tmp_path, f"{{model: '{MODEL}', sort: none}}")
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    found = []
    for one in (made, plain):
        supernet = one.untrained().eval()
        with torch.no_grad():
            found.append(supernet(x, supernet.space.largest))
    assert relative_difference([found[0]], [found[1]]) <= 1e-5
    ours = made.untrained().sharing.state_dict()["stored.head.weight"].abs().sum(dim=0)
    norms = [made.untrained().sharing.state_dict()[f"stored.{name}"] for name in ("head.weight", "last.weight")]
    assert torch.equal(ours.argsort(descending=True, stable=True), torch.arange(len(ours)))
    assert len(norms) == 2


def test_units_are_sorted_by_the_change_of_the_loss_on_training_images(tmp_path: Path, module: Path) -> None:
    made = prepared(
        tmp_path, f"{{model: '{MODEL}', sort: taylor}}", more="calibration_images: 96\ntraining: {batch_size: 32}"
    )
    supernets, first = made, head(made.data.dataset.train, 96)
    found = supernets.untrained()
    values = taylor_importance(found, batches(first, 32, generator=None), CLASSIFICATION.loss)
    assert all((own.diff() <= 1e-5 * own.max()).all() for own in values.values())
    before = supernets.current()  # which needs no order: only its costs count
    largest = found.space.largest
    with torch.no_grad():
        assert relative_difference([found(first.inputs, largest)], [before.eval()(first.inputs, largest)]) <= 1e-5
    others = taylor_importance(before, batches(first, 32, generator=None), CLASSIFICATION.loss)
    assert not all((own.diff() <= 1e-5 * own.max()).all() for own in others.values())


def test_units_are_sorted_by_the_error_that_stays_without_them(tmp_path: Path, module: Path) -> None:
    made = prepared(tmp_path, f"{{model: '{MODEL}', sort: activations}}", more="calibration_images: 96")
    images, found, before = head(made.data.dataset.train, 96).inputs, made.untrained(), made.current()
    values, others = removal_importance(found, [images]), removal_importance(before, [images])
    assert all((own.diff() <= 0).all() for own in values.values())
    assert not all((own.diff() <= 0).all() for own in others.values())
    with torch.no_grad():
        assert relative_difference([found(images, found.space.largest)], [before(images, found.space.largest)]) <= 1e-5


def test_a_mixture_begins_with_the_model(tmp_path: Path, module: Path) -> None:
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    outputs = []
    for sharing in ("slice", "{mixture: {experts: 2}}"):
        made = prepared(tmp_path, f"{{model: '{MODEL}', sharing: {sharing}}}").untrained().eval()
        with torch.no_grad():
            outputs.append(made(x, made.space.largest))
    assert relative_difference([outputs[0]], [outputs[1]]) <= 1e-5


def test_the_last_layer_is_replaced_where_the_data_have_other_classes(tmp_path: Path, module: Path) -> None:
    made = prepared(tmp_path, f"{{model: '{MODEL}', arguments: {{classes: 7}}}}")
    assert made.model is not None
    assert "head has 7 outputs" in made.model.notes[0]
    assert isinstance(made.family, CapturedFamily)
    assert made.family.n_outputs == 10


def test_the_model_teaches_unless_its_last_layer_is_fresh(tmp_path: Path, module: Path) -> None:
    more = "training: {distill: original, epochs: 1}"
    made = prepared(tmp_path, f"{{model: '{MODEL}'}}", more=more)
    assert made.model is not None
    assert made.teacher is not None
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    network = PlainNetwork(made.model.program, made.model.tensors, {}).eval()
    with torch.no_grad():
        assert relative_difference([made.teacher.network(x)], [network(x)]) <= 1e-5
    assert made.notes == ()
    steps = made.strategy().plan(0, np.random.default_rng(0), lambda architecture: 0.0)
    assert all(Distillation(None) in step.terms for step in steps)
    fresh = prepared(tmp_path, f"{{model: '{MODEL}', arguments: {{classes: 7}}}}", more=more)
    assert fresh.teacher is None
    assert "the largest network teaches instead" in fresh.notes[-1]
    steps = fresh.strategy().plan(0, np.random.default_rng(0), lambda architecture: 0.0)
    assert steps[1].terms == (Distillation(0),)
    alone = prepared(
        tmp_path, f"{{model: '{MODEL}', arguments: {{classes: 7}}}}",
        more="training: {distill: original, strategy: single-path}",
    )  # fmt: skip
    assert "nothing is distilled" in alone.notes[-1]
    steps = alone.strategy().plan(0, np.random.default_rng(0), lambda architecture: 0.0)
    assert steps[0].terms == (LabelLoss(),)


def test_half_precision_is_noted(tmp_path: Path, module: Path) -> None:
    made = prepared(tmp_path, "{model: 'users_networks:half'}")
    assert made.model is not None
    assert "float16" in made.model.notes[0]


def test_a_run_keeps_its_model(tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = prepared(tmp_path, f"{{model: '{MODEL}', arguments: {{classes: 7}}}}").model
    assert model is not None
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    save_capture(run.model_file, model)
    forgotten(module, monkeypatch)
    again = prepared(tmp_path, f"{{model: '{MODEL}', arguments: {{classes: 7}}}}", run=run).model
    assert again is not None
    assert again.program == model.program
    assert again.fresh == model.fresh == ("head",)
    with raises("capture.unknown-model", "job.yaml: supernet.model", "PYTHONPATH"):
        prepared(tmp_path, f"{{model: '{MODEL}', arguments: {{classes: 7}}}}")


def test_an_onnx_file_is_captured_and_the_run_keeps_it(tmp_path: Path) -> None:
    file = write(tmp_path / "model.onnx", classifier())
    supernet = f"{{model: {file}, arguments: {{dequantize: false}}}}"
    run = RunsFolder(tmp_path / "runs").create("a", "name: a")
    built = prepared(tmp_path, supernet, run=run)
    assert built.model is not None
    assert built.model.input_shape == (1, 8, 8)
    save_capture(run.model_file, built.model)
    file.unlink()
    stored = prepared(tmp_path, supernet, run=run).model
    assert stored is not None
    assert stored.program == built.model.program
    write(file, classifier(size=16))
    with raises("capture.example", "1 x 16 x 16", "1 x 8 x 8"):
        prepared(tmp_path, supernet, data="{name: digits, image_size: 8}")


def test_a_captured_file_fixes_the_images(tmp_path: Path, module: Path) -> None:
    made = prepared(tmp_path, f"{{model: '{MODEL}', arguments: {{channels: 3}}}}", data="{name: digits, channels: 3}")
    assert made.model is not None
    save_capture(tmp_path / "own.capture", made.model)
    assert load_capture(tmp_path / "own.capture").input_shape == (3, 8, 8)
    again = prepared(tmp_path, f"{{model: {tmp_path / 'own.capture'}}}")
    assert again.data.dataset.images.channels == 3
    with raises("job.unfit-data", "data.image_size: 16", "8"):
        prepared(tmp_path, f"{{model: {tmp_path / 'own.capture'}}}", data="{name: digits, image_size: 16}")


@pytest.mark.parametrize(
    ("supernet", "code", "mentions"),
    [
        ("{model: 'users_networks:Branching'}", "capture.data-dependent", ("users_networks.py:",)),
        ("{model: 'users_networks:Custom'}", "capture.unknown-operation", ("users.twice", "users_networks.py:")),
        (f"{{model: '{MODEL}', keep: ['nothing.*']}}", "capture.unknown-name", ("keep: nothing.*",)),
        (f"{{model: '{MODEL}', weights: hub}}", "capture.weights-unusable", ("hub",)),
        ("{model: 'users_networks:OfOneSize'}", "capture.failed", ("1 x 8 x 8",)),
        ("{model: 'users_networks:Pair'}", "capture.outputs", ("2 x 10, 2 x 10",)),
        ("{model: 'users_networks:Rigid'}", "capture.nothing-elastic", ("supernet",)),
        (f"{{model: '{MODEL}', keep: ['*']}}", "capture.nothing-elastic", ("supernet",)),
        (f"{{model: '{MODEL}', arguments: {{size: 3}}}}", "capture.model-unusable", ("size",)),
        (f"{{model: '{MODEL}', arguments: {{channels: 3}}}}", "capture.failed", ("1 x 8 x 8",)),
        (f"{{model: '{MODEL}', weights: missing.pt}}", "capture.weights-unusable", ("missing.pt",)),
        ("{model: missing.capture}", "capture.unknown-model", ("missing.capture",)),
    ],
)
def test_models_that_do_not_fit_are_refused(
    tmp_path: Path, module: Path, supernet: str, code: str, mentions: tuple[str, ...]
) -> None:
    with raises(code, "job.yaml: supernet", *mentions):
        prepared(tmp_path, supernet)


def test_weights_are_loaded_and_those_of_another_architecture_listed(tmp_path: Path, module: Path) -> None:
    import users_networks  # type: ignore[import-not-found]

    network = users_networks.build()
    torch.save(network.state_dict(), tmp_path / "own.pt")
    made = prepared(tmp_path, f"{{model: '{MODEL}', weights: {tmp_path / 'own.pt'}}}")
    assert made.model is not None
    assert torch.equal(made.model.tensors["stem.weight"], network.stem.weight)
    torch.save(users_networks.build(width=24).state_dict(), tmp_path / "other.pt")
    with raises("capture.other-weights", "stem.weight: 24 x 1 x 3 x 3, expected 16 x 1 x 3 x 3"):
        prepared(tmp_path, f"{{model: '{MODEL}', weights: {tmp_path / 'other.pt'}}}")
