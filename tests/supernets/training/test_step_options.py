"""Options of a step that save memory: the gradients are those without them, and less is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from supernets.data import DataSet, head
from supernets.sharing.base import Distillation, LabelLoss, Pass, Supernet
from supernets.tasks import CLASSIFICATION, LanguageModelling, Task
from supernets.training.checkpoint import make_supernet
from supernets.training.gradients import ALONE, CPU, StepGradients, StepOptions
from supernets.training.strategies.single_phase import SandwichStrategy, SortedStrategy
from supernets.training.training_loop import Loop, TrainingSettings
from tests.conftest import digits_family
from tests.supernets import invariants
from tests.supernets.families.decoder.test_decoder_family import GPT2, LLAMA, VOCABULARY, texts
from tests.supernets.families.encoder_decoder.test_encoder_decoder_family import SOURCE, pairs
from tests.supernets.sharing.families import FAMILIES

PLAIN = StepOptions()
DECODERS = {"llama": LLAMA, "gpt2": GPT2}


def supernet(family: Any) -> Supernet:
    return invariants.randomised(make_supernet(family)).double().train()


def batch(ids: Tensor | None = None, source: int = 0) -> tuple[Tensor, Tensor]:
    """Texts after their sources, the last of which is padded, and their labels."""
    ids = texts(10) if ids is None else ids
    after = ids[:, source + 1 :]
    labels = torch.stack([after, torch.zeros_like(after), torch.ones_like(after)], dim=2)
    labels[-1, -3:, 1] = -1
    return ids, labels


def sandwich(net: Supernet, *, frozen: bool = False) -> list[Pass]:
    """Of four subnets, with the largest or a frozen network as the teacher, at two temperatures."""
    passes = SandwichStrategy(net.space, 2, "frozen" if frozen else "largest").plan(
        0, np.random.default_rng(0), lambda a: 0.0
    )
    first, *others = passes
    warm = replace(others[-1], terms=(LabelLoss(0.3), Distillation(None if frozen else 0, 0.7, temperature=2.0)))
    return [first, *others[:-1], warm]


def gradients(
    net: Supernet,
    passes: list[Pass],
    options: StepOptions,
    *,
    task: Task | None = None,
    data: tuple[Tensor, Tensor] | None = None,
) -> tuple[list[float], dict[str, Tensor]]:
    inputs, labels = data or batch()
    net.zero_grad()
    torch.manual_seed(1)
    teacher = invariants.randomised(make_supernet(net.family), seed=9).double().extract(net.space.largest).double()
    step = StepGradients(net, options, teacher=teacher, device=CPU, workers=ALONE, task=task or LanguageModelling())
    losses = step.backward(passes, inputs, labels, n=len(inputs))
    return losses, {n: p.grad.clone() for n, p in net.sharing.named_parameters() if p.grad is not None}


def assert_same(one: tuple[list[float], dict[str, Tensor]], two: tuple[list[float], dict[str, Tensor]]) -> None:
    assert one[0] == pytest.approx(two[0], rel=1e-9)
    assert one[1].keys() == two[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, two[1][name], rtol=1e-7, atol=1e-10, msg=name)


@pytest.mark.parametrize("layout", DECODERS)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    "options",
    [replace(PLAIN, accumulate=n) for n in (2, 4, 10, 100)]
    + [replace(PLAIN, activation_checkpointing=True), replace(PLAIN, accumulate=3, activation_checkpointing=True)]
    + [replace(PLAIN, top_k=VOCABULARY), replace(PLAIN, top_k=10**6)],
)
def test_the_gradients_of_a_sandwich_are_those_of_the_whole_batch(
    layout: str, frozen: bool, options: StepOptions
) -> None:
    net = supernet(DECODERS[layout])
    passes = sandwich(net, frozen=frozen)
    assert_same(gradients(net, passes, options), gradients(net, passes, PLAIN))


def test_so_are_those_of_top_k_targets_in_parts() -> None:
    net = supernet(LLAMA)
    passes, options = sandwich(net), replace(PLAIN, top_k=5)
    whole = gradients(net, passes, options)
    assert_same(gradients(net, passes, replace(options, accumulate=5)), whole)
    assert whole[0] != pytest.approx(gradients(net, passes, PLAIN)[0], rel=1e-3)


@pytest.mark.parametrize("options", [PLAIN, replace(PLAIN, top_k=5), replace(PLAIN, divergence="alpha")])
@pytest.mark.parametrize("frozen", [False, True])
def test_tokens_that_pad_a_text_are_not_distilled(frozen: bool, options: StepOptions) -> None:
    net, (ids, labels) = supernet(LLAMA), batch()
    other = ids.clone()
    other[-1, -3:] = (ids[-1, -3:] + 1) % VOCABULARY
    passes = sandwich(net, frozen=frozen)
    expected = gradients(net, passes, options, data=(ids, labels))
    assert_same(gradients(net, passes, options, data=(other, labels)), expected)


def test_networks_of_parts_of_a_batch_see_the_same_examples() -> None:
    net = supernet(LLAMA)
    passes = list(SortedStrategy(net.space, 3).plan(0, np.random.default_rng(0), lambda a: 0.0))
    assert_same(gradients(net, passes, replace(PLAIN, accumulate=2)), gradients(net, passes, PLAIN))


def test_a_subnets_loss_in_parts_is_that_of_the_batch() -> None:
    net = supernet(LLAMA)
    whole, parts = (
        StepGradients(net, options, teacher=None, device=CPU, workers=ALONE, task=LanguageModelling())
        for options in (PLAIN, replace(PLAIN, accumulate=4))
    )
    expected = whole.loss(net.space.smallest, *batch())
    assert parts.loss(net.space.smallest, *batch()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "single"])
def test_checkpointing_leaves_the_gradients_of_every_family(family: str) -> None:
    torch.manual_seed(0)
    net = supernet(FAMILIES[family])
    inputs = FAMILIES[family].example(6)
    inputs = (
        torch.randn(inputs.shape, dtype=torch.float64)
        if inputs.is_floating_point()
        else torch.randint(1, 9, inputs.shape)
    )
    text = "decoder" in family
    data = batch() if text else (inputs, torch.randint(3, (6,)))
    if family == "encoder_decoder":
        data = batch(pairs(6), SOURCE)
    task = LanguageModelling() if text else CLASSIFICATION
    passes = list(SandwichStrategy(net.space, 1).plan(0, np.random.default_rng(0), lambda a: 0.0))
    came = gradients(net, passes, replace(PLAIN, activation_checkpointing=True), task=task, data=data)
    assert_same(came, gradients(net, passes, PLAIN, task=task, data=data))


def test_batch_norms_get_two_examples_in_each_part() -> None:
    """One example of one pixel has no variance; a batch norm rejects it."""
    net = supernet(FAMILIES["cnn"])
    data = torch.randn(5, 2, 8, 8, dtype=torch.float64), torch.randint(5, (5,))
    passes = [Pass(net.space.largest, (LabelLoss(),))]
    two = gradients(net, passes, replace(PLAIN, accumulate=2), task=CLASSIFICATION, data=data)
    assert_same(gradients(net, passes, replace(PLAIN, accumulate=5), task=CLASSIFICATION, data=data), two)


def saved_bytes(run: Callable[[], object]) -> int:
    """The bytes that autograd keeps for the backward pass, each storage once, at the most."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(sizes.values())


def test_checkpointing_keeps_less() -> None:
    net, ids = supernet(LLAMA), texts(64)
    kept = []
    for options in (PLAIN, replace(PLAIN, activation_checkpointing=True)):
        step = StepGradients(net, options, teacher=None, device=CPU, workers=ALONE, task=LanguageModelling())
        kept.append(saved_bytes(lambda step=step: step._subnet_logits(ids, net.subnet(net.space.largest))))  # type: ignore[misc]
    assert kept[1] < 0.4 * kept[0]


def test_bfloat16_runs_forwards_alone() -> None:
    net = supernet(LLAMA).float()
    passes = [Pass(net.space.largest, (LabelLoss(),))]
    expected = gradients(net, passes, replace(PLAIN, precision="float32"))
    losses, found = gradients(net, passes, replace(PLAIN, precision="bfloat16"))
    assert losses != expected[0]
    assert losses == pytest.approx(expected[0], rel=0.02)
    whole, other = (torch.cat([g.flatten() for g in own.values()]) for own in (expected[1], found))
    assert {g.dtype for g in found.values()} == {torch.float32}
    assert torch.nn.functional.cosine_similarity(whole, other, dim=0) > 0.98


@pytest.mark.parametrize("limit", [None, 1e-3])
def test_the_norm_of_a_steps_gradient_is_limited(digits: DataSet, limit: float | None) -> None:
    net, norms = make_supernet(digits_family(digits)), []

    def record(optimizer: torch.optim.Optimizer, *_: object) -> None:
        found = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norms.append(torch.nn.utils.get_total_norm(found).item())

    handle = register_optimizer_step_pre_hook(record)
    settings = TrainingSettings(epochs=1, batch_size=64, clip_norm=limit)
    Loop(net, head(digits.train, 128), SandwichStrategy(net.space, 1), settings).run_epoch(1, lambda *_: None)
    handle.remove()
    assert len(norms) == 2
    assert all(norm == pytest.approx(limit, rel=1e-3) if limit else norm > 0.1 for norm in norms)
