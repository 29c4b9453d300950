"""ViTs of the `transformers` library: read into the family, written from it, held to the library itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.encoder.encoder_spec import EncoderSpec
from supernets.families.vision_transformer.vision_transformer_family import ViTEncoderFamily
from supernets.families.vision_transformer.vision_transformer_spec import ViTEncoderSpec
from supernets.families.vision_transformer.vit_pretrained import read_vit, read_vit_config, write_vit
from supernets.networks.formats.pretrained import CONFIG, PREPROCESSOR, WEIGHTS
from supernets.sharing.spec import MixtureSpec, SharingSpec
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants

SIZES = {"image_size": 12, "patch_size": 4, "hidden_size": 24, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 6, "intermediate_size": 36}


@pytest.fixture(scope="module")
def library() -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def saved(library: Any, folder: Path, kind: str, **options: Any) -> nn.Module:
    """A random ViT of the library, far from its tame initial weights, saved in the folder."""
    torch.manual_seed(0)
    network: nn.Module = getattr(library, kind)(library.ViTConfig(**SIZES, **options)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape))
    network.save_pretrained(folder)  # type: ignore[operator]
    return network


@pytest.fixture(scope="module")
def classifier(library: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    folder = tmp_path_factory.mktemp("classifier")
    return folder, saved(library, folder, "ViTForImageClassification", num_labels=3)


def family_of(folder: Path, n_classes: int = 3, spec: ViTEncoderSpec | None = None) -> ViTEncoderFamily:
    config = read_vit_config(folder)
    return ViTEncoderFamily(
        spec or config.space(), image_size=config.image_size, channels=config.channels, n_classes=n_classes,
        epsilon=config.epsilon,
    )  # fmt: skip


def images(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, channels, 12, 12, generator=generator) + torch.randn(8, channels, 1, 1, generator=generator)


class TestI5:
    """The largest subnet is the pretrained network, before anything is trained."""

    @pytest.mark.parametrize("sharing", [SharingSpec(), SharingSpec(MixtureSpec(experts=2, hidden=8))])
    @torch.no_grad()
    def test_the_largest_subnet_is_the_librarys_classifier(
        self, classifier: tuple[Path, Any], sharing: SharingSpec
    ) -> None:
        folder, network = classifier
        family = family_of(folder)
        supernet = make_supernet(family, sharing, pretrained=read_vit(folder).weights(family)).eval()
        expected = network(images()).logits
        invariants.assert_varies(expected)
        assert invariants.relative(supernet.extract(family.space.largest)(images()), expected) <= 1e-5
        assert invariants.relative(supernet(images(), family.space.largest), expected) <= 1e-5
        assert invariants.relative(supernet(images(), family.space.smallest), expected) > 1e-2

    @pytest.mark.parametrize(
        "options",
        [{"qkv_bias": False}, {"layer_norm_eps": 0.1}, {"num_channels": 1}],
        ids=lambda options: next(iter(options)),
    )
    @torch.no_grad()
    def test_other_settings_of_the_library(self, library: Any, tmp_path: Path, options: dict[str, Any]) -> None:
        network: Any = saved(library, tmp_path, "ViTForImageClassification", num_labels=3, **options)
        family = family_of(tmp_path)
        supernet = make_supernet(family, pretrained=read_vit(tmp_path).weights(family))
        own = images(options.get("num_channels", 3))
        expected = network(own).logits
        assert invariants.relative(supernet.extract(family.space.largest)(own), expected) <= 1e-5

    @torch.no_grad()
    def test_a_network_without_a_classifier_gives_its_first_token(self, library: Any, tmp_path: Path) -> None:
        network: Any = saved(library, tmp_path, "ViTModel")
        family = family_of(tmp_path, n_classes=2)
        ours: Any = make_supernet(family, pretrained=read_vit(tmp_path).weights(family)).extract(family.space.largest)
        first: list[Tensor] = []
        ours.head.classifier.register_forward_pre_hook(lambda module, inputs: first.append(inputs[0]))
        ours(images())
        assert invariants.relative(first[0], network(images()).last_hidden_state[:, 0]) <= 1e-5

    def test_another_number_of_classes_gets_a_classifier_of_its_own(self, classifier: tuple[Path, nn.Module]) -> None:
        vit, family = read_vit(classifier[0]), family_of(classifier[0], n_classes=7)
        torch.manual_seed(0)
        weights = vit.weights(family)
        assert weights["head.classifier.weight"].shape == (7, 24)
        assert torch.equal(weights["head.norm.weight"], vit.tensors["head.norm.weight"])


class TestNormalisation:
    """As the library's own preprocessing has it, for images of the network's size."""

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]},
            {"do_normalize": False},
            {"do_rescale": False},
            {"rescale_factor": 0.5},
        ],
        ids=str,
    )
    def test_images_are_those_of_the_librarys_preprocessing(
        self, library: Any, classifier: tuple[Path, nn.Module], tmp_path: Path, options: dict[str, Any]
    ) -> None:
        folder = Path(shutil.copytree(classifier[0], tmp_path / "copy"))
        processor = library.ViTImageProcessorPil(size={"height": 12, "width": 12}, **options)
        processor.save_pretrained(folder)
        pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
        expected = processor(pixels, return_tensors="np")["pixel_values"][0]
        config = read_vit_config(folder)
        came = (pixels.transpose(2, 0, 1) / 255 - np.reshape(config.mean, (3, 1, 1))) / np.reshape(
            config.std, (3, 1, 1)
        )
        np.testing.assert_allclose(came, expected, rtol=1e-5, atol=1e-5)

    def test_a_folder_that_does_not_say_has_the_librarys_half(self, classifier: tuple[Path, nn.Module]) -> None:
        config = read_vit_config(classifier[0])
        assert (config.mean, config.std) == ((0.5,) * 3, (0.5,) * 3)

    @pytest.mark.parametrize(
        ("content", "error"),
        [
            ("{", "pretrained.unusable | preprocessor_config.json"),
            ('{"image_mean": [0.5]}', "pretrained.unusable | image_mean | [0.5] | 3"),
            ('{"image_std": [0, 1, 1]}', "pretrained.unusable | image_std is | 3 | 0"),
            ('{"do_normalize": 1}', "pretrained.unusable | do_normalize is 1"),
            ('{"rescale_factor": "x"}', "pretrained.unusable | rescale_factor is 'x' | 0"),
        ],
    )
    def test_unusable_preprocessing_is_rejected(
        self, classifier: tuple[Path, nn.Module], tmp_path: Path, content: str, error: str
    ) -> None:
        folder = Path(shutil.copytree(classifier[0], tmp_path / "copy"))
        (folder / PREPROCESSOR).write_text(content)
        with raises(*error.split(" | ")):
            read_vit(folder)


class TestWriting:
    @pytest.mark.parametrize("kept", ["first", "spread"])
    @torch.no_grad()
    def test_the_library_loads_what_is_written_and_answers_the_same(
        self, library: Any, classifier: tuple[Path, nn.Module], tmp_path: Path, kept: str
    ) -> None:
        folder, _ = classifier
        spec = ViTEncoderSpec(head_size=4, depth=(2, 3), width=(24,), heads=(6,), hidden=(20, 36), patch=4, kept=kept)
        family = family_of(folder, spec=spec)
        supernet = make_supernet(family, pretrained=read_vit(folder).weights(family))
        network = supernet.extract(family.space.smallest)
        mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
        write_vit(
            tmp_path / "out", family, family.space.smallest, network.state_dict(), class_names=("a", "b", "c"),
            mean=mean, std=std,
        )  # fmt: skip
        again = library.ViTForImageClassification.from_pretrained(tmp_path / "out").eval()
        assert again.config.id2label == {0: "a", 1: "b", 2: "c"}
        assert invariants.relative(again(images()).logits, network(images())) <= 1e-5
        processor = library.ViTImageProcessorPil.from_pretrained(tmp_path / "out")
        assert (tuple(processor.image_mean), tuple(processor.image_std)) == (mean, std)
        read = read_vit(tmp_path / "out")
        assert (read.classes, read.config.mean, read.config.std) == (3, mean, std)

    def test_architectures_that_no_vit_has_are_rejected(self, tmp_path: Path) -> None:
        spec = ViTEncoderSpec(head_size=4, depth=(3,), width=(24,), heads=(3, 6), hidden=(36,), patch=4)
        family = ViTEncoderFamily(spec, image_size=12, channels=3, n_classes=3)
        smallest, mixed = family.space.smallest, family.space.canonical([0, 0, 1, 0, 0, 0, 1, 0])
        for network, error in (
            (smallest, "export.no-such-architecture | 3 heads | 4 | 24"),
            (mixed, "export.no-such-architecture | heads [6, 3, 6]"),
        ):
            with raises(*error.split(" | ")):
                write_vit(
                    tmp_path / "out", family, network, {}, class_names=("a", "b", "c"), mean=(0.5,) * 3, std=(0.5,) * 3
                )
        assert not (tmp_path / "out").exists()


class TestBadInput:
    @pytest.fixture
    def folder(self, classifier: tuple[Path, nn.Module], tmp_path: Path) -> Path:
        return Path(shutil.copytree(classifier[0], tmp_path / "copy"))

    @pytest.mark.parametrize(
        ("values", "error"),
        [
            ({"model_type": "deit"}, "pretrained.unusable | model_type is 'deit' | 'vit'"),
            ({"model_type": "bert"}, "pretrained.unusable | 'vit' | family: encoder"),
            ({"hidden_act": "gelu_new"}, "pretrained.unusable | hidden_act is 'gelu_new' | 'gelu'"),
            ({"image_size": [12, 16]}, "pretrained.unusable | image_size | [12, 16]"),
            ({"patch_size": 5}, "pretrained.unusable | patch_size | 5 | image_size | 12"),
            ({"num_channels": 4}, "pretrained.unusable | num_channels is 4 | 1 | 3"),
            ({"qkv_bias": "yes"}, "pretrained.unusable | qkv_bias is 'yes'"),
            ({"num_attention_heads": 5}, "pretrained.unusable | 5 heads | hidden_size | 24"),
            (
                {"image_size": 16},
                "pretrained.unusable | position_embeddings is 1 x 10 x 24 | 1 x 17 x 24",
            ),
            ({"patch_size": 6}, "pretrained.unusable | position_embeddings is 1 x 10 x 24 | 1 x 5 x 24"),
            (
                {"num_hidden_layers": 4},
                "pretrained.unusable | vit.encoder.layer.3.attention.attention.query.weight",
            ),
            ({"intermediate_size": 37}, "pretrained.unusable | layer.0.intermediate.dense.weight | 36 x 24 | 37 x 24"),
        ],
    )
    def test_a_configuration_that_does_not_fit(self, folder: Path, values: dict[str, Any], error: str) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | values))
        with raises(*error.split(" | ")):
            read_vit(folder)

    @pytest.mark.parametrize(
        ("edit", "error"),
        [
            (lambda tensors: tensors.pop("vit.embeddings.cls_token"), "pretrained.unusable | vit.embeddings.cls_token"),
            (lambda tensors: tensors.pop("vit.layernorm.bias"), "pretrained.unusable | vit.layernorm.bias"),
            (
                lambda tensors: tensors.update({"vit.embeddings.distillation_token": torch.zeros(1, 1, 24)}),
                "pretrained.unusable | vit.embeddings.distillation_token | config.json",
            ),
            (
                lambda tensors: tensors["vit.embeddings.cls_token"].fill_(torch.nan),
                "pretrained.unusable | vit.embeddings.cls_token | not finite",
            ),
            (
                lambda tensors: tensors.update({"classifier.bias": torch.zeros(4)}),
                "pretrained.unusable | classifier.bias | 4 | config.json | 3",
            ),
        ],
    )
    def test_a_tensor_that_does_not_fit_is_named(
        self, folder: Path, edit: Callable[[dict[str, Tensor]], object], error: str
    ) -> None:
        tensors = load_file(folder / WEIGHTS)
        edit(tensors)
        save_file(tensors, folder / WEIGHTS)
        with raises(*error.split(" | ")):
            read_vit(folder)

    def test_the_token_of_hidden_patches_is_done_without(self, folder: Path) -> None:
        expected = read_vit(folder).tensors
        tensors = load_file(folder / WEIGHTS)
        save_file(tensors | {"vit.embeddings.mask_token": torch.ones(1, 1, 24)}, folder / WEIGHTS)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in read_vit(folder).tensors.items())

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"depth": (2, 4)}, "pretrained.mismatch | depth is 4 | has 3"),
            ({"heads": (3,)}, "pretrained.mismatch | heads is 3 | has 6"),
            ({"patch": 6}, "pretrained.mismatch | 6 pixels | 4"),
        ],
    )
    def test_a_space_that_is_not_within_the_network(
        self, classifier: tuple[Path, nn.Module], change: dict[str, Any], error: str
    ) -> None:
        sizes = {"head_size": 4, "depth": (2, 3), "width": (24,), "heads": (6,), "hidden": (36,), "patch": 4}
        family = family_of(classifier[0], spec=ViTEncoderSpec(**sizes | change))
        with raises(*error.split(" | ")):
            read_vit(classifier[0]).weights(family)

    @pytest.mark.parametrize(("image_size", "channels"), [(16, 3), (12, 1)])
    def test_images_that_are_not_the_networks(
        self, classifier: tuple[Path, nn.Module], image_size: int, channels: int
    ) -> None:
        vit = read_vit(classifier[0])
        family = ViTEncoderFamily(vit.config.space(), image_size=image_size, channels=channels, n_classes=3)
        with raises("pretrained.mismatch", "12 pixels", "3", "data.image_size", "12"):
            vit.weights(family)

    def test_a_family_of_sentences(self, classifier: tuple[Path, nn.Module]) -> None:
        spec = EncoderSpec(head_size=4, depth=(3,), width=(24,), heads=(6,), hidden=(36,))
        family = EncoderFamily(spec, vocabulary=60, positions=16, padding=0, tokens=9, n_classes=3)
        with raises("pretrained.mismatch", "vit-encoder", "not encoder"):
            read_vit(classifier[0]).weights(family)
