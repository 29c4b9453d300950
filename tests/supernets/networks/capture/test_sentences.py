"""Captured encoders of sentences: the mask is a part of them, so that padding changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from supernets.families.captured.captured_family import CapturedFamily
from supernets.families.captured.inspection import inspect_model
from supernets.families.encoder.bert_pretrained import read_bert
from supernets.families.encoder.encoder_family import EncoderFamily
from supernets.networks.capture.batch_independence import without_row_numbers
from supernets.networks.capture.captured_model import CapturedModel, capture_model, load_capture, save_capture
from supernets.networks.capture.classifier import with_outputs
from supernets.networks.capture.program import Call, Program, Ref, ValueSpec
from supernets.networks.capture.program_json import program_from_json, program_to_json
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.user_model import TokenInputs, UserModel, random_tokens
from supernets.networks.module_to_onnx import lower
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets.networks.capture.encoders import KINDS, TOKENS, saved
from tests.supernets.networks.capture.networks import opened_module

SHORT = 15
"""Tokens of the sentences that are compared."""


def captured(folder: Path) -> tuple[UserModel, CapturedModel]:
    model = opened_module(f"transformers:{folder}", classifier=True)
    return model, capture_model(model, model.example((TOKENS,)))


def sentences(model: UserModel) -> tuple[Tensor, Tensor]:
    """Three sentences as long as they are, and padded."""
    assert model.tokens is not None
    assert model.tokens.padding is not None
    generator = torch.Generator().manual_seed(7)
    short = random_tokens((3, SHORT), model.tokens.vocabulary, None, generator)
    short[short == model.tokens.padding] = 5
    long = torch.full((3, TOKENS), model.tokens.padding)
    long[:, :SHORT] = short
    return short, long


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing_live_extracted_or_in_onnx(kind: str, tmp_path: Path) -> None:
    saved(tmp_path, kind)
    model, found = captured(tmp_path)
    assert found.difference is not None
    assert found.difference <= 1e-5
    short, long = sentences(model)
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(), tensors=found.tensors))
    with torch.no_grad():
        expected = model.module.eval()(short).logits  # by the library, without padding
        largest = supernet(short, supernet.space.largest)
    torch.testing.assert_close(largest, expected, rtol=1e-5, atol=1e-5)
    for architecture in (supernet.space.largest, supernet.space.smallest):
        network = supernet.extract(architecture).eval()
        with torch.no_grad():
            y = network(long)
            torch.testing.assert_close(network(short), y, rtol=0, atol=1e-6)
            torch.testing.assert_close(supernet(short, architecture), y, rtol=1e-5, atol=1e-6)
        onnx = lower(network, long)
        for x in (short, long, short[:1]):
            (logits,) = run_model(onnx, {"input": x.numpy()})
            np.testing.assert_allclose(logits, y[: len(x)].numpy(), rtol=1e-4, atol=1e-5)


def test_the_family_encoder_and_the_captured_model_agree(tmp_path: Path) -> None:
    original = saved(tmp_path, head="ForSequenceClassification", num_labels=3)
    model, found = captured(tmp_path)
    pretrained = read_bert(tmp_path)
    config = pretrained.config
    family = EncoderFamily(
        config.space(), vocabulary=config.vocabulary, positions=config.positions, padding=config.padding, tokens=TOKENS,
        n_classes=3,
    )  # fmt: skip
    network = family.template().eval()
    network.load_state_dict(pretrained.weights(family))
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(), tensors=found.tensors))
    short, long = sentences(model)
    with torch.no_grad():
        ours, theirs = supernet.extract(supernet.space.largest).eval()(short), network(long)
        torch.testing.assert_close(ours, original(short).logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_an_encoder_without_a_classifier_gets_a_fresh_one(tmp_path: Path) -> None:
    saved(tmp_path, "Roberta")
    model, found = captured(tmp_path)
    assert model.fresh == ("classifier.dense", "classifier.out_proj")
    assert "classifier.dense" in found.notes[0]
    assert found.outputs == (ValueSpec((2, 2), "float32"),)
    more = with_outputs(found, 5, seed=0)
    assert more.fresh == ("classifier.dense", "classifier.out_proj")
    assert more.outputs[0].shape == (2, 5)
    alone = opened_module(f"transformers:{tmp_path}")
    assert (alone.fresh, alone.notes) == ((), ())


def test_its_axes_are_right_and_its_width_is_elastic(tmp_path: Path) -> None:
    saved(tmp_path)
    _, found = captured(tmp_path)
    inspection = inspect_model(found, SpaceOptions())
    assert [layer.name for layer in inspection.layers if "layer" in layer.name] == [
        "bert.encoder.layer.0",
        "bert.encoder.layer.1",
    ]
    assert inspection.proof is not None
    assert inspection.proof.holds
    assert inspection.unknown == {}
    assert inspection.share > 0.99


def test_the_positions_and_the_tokenizer_are_read(tmp_path: Path) -> None:
    for kind, most in (("Bert", TOKENS + 4), ("Roberta", TOKENS + 3)):
        saved(tmp_path / kind, kind)
        tokens = opened_module(f"transformers:{tmp_path / kind}").tokens
        assert tokens is not None
        assert (tokens.max_tokens, tokens.padding, tokens.masked) == (most, 0, True)
        assert tokens.tokenizer == tmp_path / kind / "tokenizer.json"


def test_a_sentence_beyond_the_captured_length_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    _, found = captured(tmp_path)
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(), tensors=found.tensors))
    with pytest.raises(IndexError, match=f"takes {TOKENS}"):
        supernet.extract(supernet.space.largest)(torch.ones(2, TOKENS + 1, dtype=torch.int64))


def test_a_captured_file_keeps_the_padding(tmp_path: Path) -> None:
    saved(tmp_path / "bert")
    _, found = captured(tmp_path / "bert")
    save_capture(tmp_path / "own.capture", found)
    assert load_capture(tmp_path / "own.capture").program == found.program
    data = program_to_json(found.program)
    data["values"][data["inputs"][0]][1] = "float32"
    with raises("capture.malformed"):
        program_from_json(data)


class Bag(nn.Module):
    """Averages the words of a sentence; takes no mask."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.inner, self.last = nn.Embedding(20, 16), nn.Linear(16, 32), nn.Linear(32, 3)

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids != 0).unsqueeze(-1)
        return self.last(self.inner((self.words(ids) * there).sum(1) / there.sum(1)).relu())


def test_a_module_of_the_users_makes_its_own_mask() -> None:
    model = UserModel("bag", Bag(), tokens=TokenInputs(20, padding=0))
    found = capture_model(model, model.example((TOKENS,)))
    short, long = sentences(model)
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(), tensors=found.tensors))
    network = supernet.extract(supernet.space.largest).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(short), model.module(short))
        torch.testing.assert_close(network(long), model.module(short))


def test_only_lookups_of_every_row_in_order_become_views() -> None:
    def looked_up(rows: Tensor, columns: Tensor) -> str:
        arguments = {"self": Ref("%x"), "indices": (Ref("rows"), Ref("columns"))}
        program = Program(
            inputs=("%x",), tensors=("rows", "columns"), trainable=frozenset(), batch=2, outputs=("%y",),
            values={
                "%x": ValueSpec((2, 3), "float32"),
                "%y": ValueSpec(tuple(torch.broadcast_shapes(rows.shape, columns.shape)), "float32"),
            },
            calls=(Call("aten.index.Tensor", arguments, ("%y",)),),
        )  # fmt: skip
        return without_row_numbers(program, {"rows": rows, "columns": columns}).calls[0].name

    rows, columns = torch.arange(2).view(2, 1, 1), torch.arange(3).view(1, 1, 3)
    assert looked_up(rows, columns) == "reshape"
    assert looked_up(rows.flip(0), columns) == "index"
    assert looked_up(rows, columns.flip(2)) == "index"
    assert looked_up(rows, columns[..., :2]) == "index"
    assert looked_up(rows.view(1, 2, 1), columns.view(3, 1, 1)) == "index"
