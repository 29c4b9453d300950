"""Language modelling: losses, distances and metrics against hand-computed ones, and a small training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from hardware_profiles.runtime import run_model
from supernets.data import DocumentOptions, head, load_data
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.tasks import LanguageModelling
from supernets.training.checkpoint import make_supernet
from supernets.training.strategies.single_phase import SandwichStrategy
from supernets.training.trainer import Epoch, outputs_of, score_and_loss, train
from supernets.training.training_loop import TrainingSettings
from tests.supernets.data.test_documents import BLOCK, document

TASK = LanguageModelling()


def labels(n: int, tokens: int, vocabulary: int, generator: torch.Generator) -> torch.Tensor:
    """Of three documents and, at the end, nothing."""
    ids = torch.randint(vocabulary, (n, tokens - 1), generator=generator)
    documents = (torch.arange(n * (tokens - 1)) * 3 // (n * (tokens - 1) - 2)).view(ids.shape)
    sizes = torch.randint(1, 5, ids.shape, generator=generator)
    return torch.stack([ids, documents.where(documents < 3, -1), sizes], dim=2)


def test_losses_and_metrics_equal_sums_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(4, 6, 11, generator=generator), labels(4, 6, 11, generator)
    nats, tokens, sizes = [0.0] * 3, [0] * 3, [0] * 3
    rows, losses = [], torch.zeros(4, 5)
    for i in range(4):
        own = []
        for t in range(5):
            token, of, size = targets[i, t].tolist()
            losses[i, t] = loss = -math.log(math.exp(logits[i, t, token]) / sum(map(math.exp, logits[i, t].tolist())))
            if of >= 0:
                nats[of], tokens[of], sizes[of] = nats[of] + loss, tokens[of] + 1, sizes[of] + size
                own.append(loss)
        rows.append(sum(own) / len(own))
    torch.testing.assert_close(TASK.losses(logits, targets), torch.tensor(rows))
    torch.testing.assert_close(TASK.losses(losses, targets), torch.tensor(rows))
    perplexity = TASK.score("perplexity", losses.numpy(), targets.numpy())
    assert perplexity.value == pytest.approx(math.exp(sum(nats) / sum(tokens)), rel=1e-5)
    bits = TASK.score("bits_per_byte", losses.numpy(), targets.numpy())
    assert bits.value == pytest.approx(sum(nats) / math.log(2) / sum(sizes), rel=1e-5)
    assert (len(perplexity.examples), len(bits.examples)) == (3, 3)


@pytest.mark.parametrize("metric", ["perplexity", "bits_per_byte"])
def test_errors_are_those_of_samples_of_documents(metric: str) -> None:
    """Against the deviation of the metric over bootstrap samples of documents, also of the difference of two networks."""
    rng = np.random.default_rng(0)
    n, tokens = 80, 12
    documents = np.repeat(np.arange(n), tokens).reshape(n, tokens)
    targets = np.stack([documents * 0, documents, rng.integers(1, 6, (n, tokens))], axis=2)
    one = rng.gamma(2.0, 1.0, (n, 1)) + rng.random((n, tokens))
    two = one + 0.2 + 0.1 * rng.random((n, tokens))
    scores = [TASK.score(metric, own.astype(np.float32), targets) for own in (one, two)]
    drawn = [rng.integers(n, size=n) for _ in range(400)]

    def value(losses: np.ndarray, rows: np.ndarray) -> float:
        units = targets[rows, :, 2].sum() * math.log(2) if metric == "bits_per_byte" else rows.size * tokens
        mean = losses[rows].sum() / units
        return float(mean if metric == "bits_per_byte" else math.exp(mean))

    assert scores[0].error == pytest.approx(np.std([value(one, rows) for rows in drawn]), rel=0.2)
    difference = scores[1].examples - scores[0].examples
    paired = float(difference.std(ddof=1) / math.sqrt(n))
    assert paired == pytest.approx(np.std([value(two, rows) - value(one, rows) for rows in drawn]), rel=0.2)


def test_the_distance_is_the_divergence_of_every_position() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(2, 3, 5, generator=generator) for _ in range(2))
    p, q = teacher.softmax(2), logits.softmax(2)
    torch.testing.assert_close(TASK.distance(logits, teacher, "kl"), (p * (p / q).log()).sum(2).mean())


def test_only_tokens_with_a_label_are_distilled() -> None:
    targets = labels(4, 6, 11, torch.Generator().manual_seed(0))
    found = TASK.distilled(targets)
    assert found.shape == (4, 6)
    assert torch.equal(found[:, :-1], targets[..., 1] >= 0)
    assert not found[:, -1].any()


def test_training_lowers_the_perplexity_and_the_runtime_scores_the_same(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(map(document, range(120))), encoding="utf-8")
    data = load_data("text", path=path, options=DocumentOptions(block=BLOCK, vocabulary=300))
    task = TASK.for_data(data)
    spec = DecoderSpec(head_size=8, depth=(1, 2), width=(16, 32), heads=(1, 2), hidden=(16, 48))
    family = DecoderFamily(spec, vocabulary=task.n_outputs(data), positions=BLOCK, tokens=BLOCK)
    torch.manual_seed(0)
    supernet = make_supernet(family)
    before, _ = score_and_loss(supernet.extract(family.space.largest), data.validation, task)
    assert before == pytest.approx(300, rel=0.2)  # of uniform guesses
    settings = TrainingSettings(epochs=4, batch_size=16, learning_rate=0.01)
    train(supernet, data, SandwichStrategy(family.space), settings, tmp_path / "training", task=task)
    for architecture in (family.space.smallest, family.space.largest):
        network = supernet.extract(architecture)
        after, loss = score_and_loss(network, data.validation, task)
        assert after < 0.3 * before
        assert loss > 0
        expected = outputs_of(task.scored(network), data.validation)
        (found,) = run_model(
            lower(task.scored(network), data.validation.inputs), {INPUT: data.validation.inputs.numpy()}
        )
        assert found.shape == tuple(expected.shape)
        assert np.abs(found - expected.numpy()).max() <= 1e-4


def test_the_progress_of_a_training_shows_the_scores_of_the_first_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(map(document, range(120))), encoding="utf-8")
    data = load_data("text", path=path, options=DocumentOptions(block=BLOCK, vocabulary=300))
    task, n = TASK.for_data(data), 3
    assert len(data.validation) > n
    monkeypatch.setattr("supernets.training.trainer._SHOWN_TOKENS", n * BLOCK + 5)
    spec = DecoderSpec(head_size=8, depth=(1, 2), width=(16,), heads=(1,), hidden=(16,))
    supernet = make_supernet(DecoderFamily(spec, vocabulary=task.n_outputs(data), positions=BLOCK, tokens=BLOCK))
    epochs: list[Epoch] = []
    settings = TrainingSettings(epochs=1, batch_size=16)
    strategy = SandwichStrategy(supernet.space, 0)
    train(supernet, data, strategy, settings, tmp_path / "training", task=task, on_epoch=epochs.append)
    expected, _ = score_and_loss(supernet.extract(supernet.space.smallest), head(data.validation, n), task)
    assert epochs[0].smallest == pytest.approx(expected, rel=1e-6)
