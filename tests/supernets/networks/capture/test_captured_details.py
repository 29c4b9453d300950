"""Operations of models of torchvision, timm and transformers that captures once got wrong or could not lower."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from hardware_profiles.runtime import run_model
from supernets.families.captured.captured_family import CapturedFamily
from supernets.families.captured.inspection import inspect_model
from supernets.networks.capture.captured_model import capture_model
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.execution import outputs_of
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import capture
from supernets.networks.capture.user_model import own_model
from supernets.networks.module_to_onnx import INPUT, lower, onnx_model
from supernets.training.checkpoint import make_supernet
from tests import errors
from tests.supernets.networks.capture import faulty
from tests.supernets.networks.capture.networks import prove


class Masked(nn.Module):
    """A mask for each window of each image, which the forward makes (as Swin of transformers)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.qkv, self.head = nn.Conv2d(3, 16, 1), nn.Linear(16, 48), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        n, t, c = x.shape
        q, k, v = self.qkv(x).view(n * 4, t // 4, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mask = torch.arange(4)[:, None] * torch.arange(t // 4)[None, :] * 0.1
        mask = mask[None, :, None, None].expand(n, -1, -1, t // 4, -1).reshape(n * 4, 1, t // 4, -1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.head(y.transpose(1, 2).reshape(n, t, c).mean(1))


class Positions(nn.Module):
    """Positions that count the tokens which are no padding (RoBERTa), chosen from a table (BERT), and heads in the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(50, 16), nn.Embedding(12, 16)
        self.kinds, self.table = nn.Embedding(3, 16), nn.Parameter(torch.randn(4, 3, 4))
        self.query, self.head = nn.Linear(16, 16), nn.Linear(16, 5)
        self.register_buffer("kind", torch.arange(12)[None] % 3)

    def forward(self, ids: Tensor) -> Tensor:
        n, t = ids.shape
        mask = ids.ne(1).int()
        places = (torch.cumsum(mask, dim=1).type_as(mask) * mask).long() + 1
        kinds = torch.gather(self.kind.expand(n, -1), 1, torch.arange(t).expand(n, t))
        x = self.words(ids) + self.positions(places) + self.kinds(kinds) + self.positions(torch.arange(t).expand(n, t))
        heads = self.query(x).view(n, t, 4, 4).transpose(1, 2).reshape(n * 4, t, 4)
        scores = heads @ self.table.transpose(1, 2).repeat(n, 1, 1)
        return self.head(
            (x * scores.view(n, 4, t, 3)[..., 0].sigmoid().sum(1)[:, :, None].to(x.device, x.dtype)).mean(1)
        )


class Waves(nn.Module):
    """One-dimensional convolutions with weight norm and padding by name, and an enlargement to a size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(3, 16, 3, padding="same", dilation=2)
        self.normed = weight_norm(nn.Conv1d(16, 16, 3, groups=4, padding="valid"), dim=2)
        self.head = weight_norm(nn.Linear(16, 5), dim=None)

    def forward(self, x: Tensor) -> Tensor:
        y = self.normed(F.gelu(self.first(x.flatten(2))))
        small = F.interpolate(y[:, :, None, ::2], scale_factor=2, mode="bilinear")
        large = F.interpolate(small, size=(2, y.shape[-1]), mode="nearest")
        return self.head(large.to(self.head.weight.dtype).mean((2, 3)))


class Padded(nn.Module):
    """Windows of a padded image (torchvision's Swin), autocast switched off (EfficientViT), and a residual branch in one."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.first, self.second = nn.Conv2d(3, 16, 1), nn.Linear(16, 24), nn.Linear(24, 24)
        self.third, self.head = nn.Linear(24, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(F.avg_pool2d(self.patch(x), 2, ceil_mode=True).permute(0, 2, 3, 1), (0, 0, 0, 1, 0, 1))
        n, h, w, c = x.shape
        x = x.view(n, h // 3, 3, w // 3, 3, c).transpose(2, 3).reshape(-1, 9, c)
        with torch.autocast("cpu", enabled=False):
            y = F.relu(self.first(x))
            y = self.third(y + F.relu(self.second(y)))
        return self.head((x + y).mean(1))


class States(nn.Module):
    """The last state of one layer of an LSTM, and slices of all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Linear(3, 16), nn.LSTM(16, 12, num_layers=2, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        y, (last, _) = self.lstm(self.embed(x.flatten(2).transpose(1, 2))[:, :, :])
        return self.head(torch.cat([last[-1], y[:, 0]], 1))


class Cells(nn.Module):
    """Cells over the rows of the input, whose first states have a row for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm, self.gru, self.rnn = (
            nn.Linear(12, 16),
            nn.LSTMCell(16, 12),
            nn.GRUCell(12, 8),
            nn.RNNCell(8, 8),
        )
        self.rectified = nn.RNN(16, 6, nonlinearity="relu", batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.embed(x.flatten(2).transpose(1, 2).reshape(len(x), 4, 12))
        states, gated, plain = [x.new_zeros(len(x), 12)] * 2, x.new_zeros(len(x), 8), torch.zeros(len(x), 8)
        for i in range(2):
            states = self.lstm(rows[:, i], tuple(states))
            gated = self.gru(states[0], gated)
            plain = self.rnn(gated, plain)
        return self.head(plain + states[1].mean(1, keepdim=True) + self.rectified(rows)[0].mean((1, 2))[:, None])


class Transformed(nn.Module):
    """A network that looks at its input through an affine transform that it computes, as spatial transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 6))
        self.first, self.head = nn.Conv2d(3, 12, 3, padding=1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        grid = F.affine_grid(self.layers(x).view(-1, 2, 3), x.size(), align_corners=False)
        return self.head(F.relu(self.first(F.grid_sample(x, grid, align_corners=False))).mean((2, 3)))


class ComputedWeights(nn.Module):
    """Batch norms after layers whose weights are computed: weight norm, weight standardisation, and a low-rank addition."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.standardised = weight_norm(nn.Conv2d(3, 12, 3, padding=1)), nn.Conv2d(12, 16, 3, padding=1)
        self.dense, self.down, self.up = nn.Linear(16, 12), nn.Linear(16, 2, bias=False), nn.Linear(2, 12, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(12), nn.BatchNorm2d(16), nn.BatchNorm1d(12)])
        self.head = nn.Linear(12, 5)
        for norm in self.norms:
            nn.init.uniform_(norm.running_mean, -1.0, 1.0)
            nn.init.uniform_(norm.running_var, 0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norms[0](self.first(x)))
        weight = self.standardised.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)
        x = F.relu(self.norms[1](F.conv2d(x, weight, self.standardised.bias, padding=1))).mean((2, 3))
        x = F.linear(x, self.dense.weight + self.up.weight @ self.down.weight, self.dense.bias)
        return self.head(F.relu(self.norms[2](x)))


NETWORKS = {
    "masked": Masked,
    "positions": Positions,
    "waves": Waves,
    "padded": Padded,
    "states": States,
    "cells": Cells,
    "transformed": Transformed,
    "computed-weights": ComputedWeights,
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def example(name: str, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    if name == "positions":
        return torch.randint(0, 50, (n, 7), generator=generator)
    return torch.randn(n, 3, 4, 4, generator=generator)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_capture_is_the_network_for_any_batch_and_its_axes_are_right(name: str) -> None:
    module, x = network(name), example(name, 3)
    found = capture(module, [example(name, 2)])
    elastic = infer_axes(found.program)
    with torch.no_grad():
        assert relative_difference([module(x)], outputs_of(elastic, found.tensors.__getitem__, [x])) <= 1e-5
    assert not elastic.unknown
    proof = prove(found)
    assert proof.permuted <= 1e-10
    assert proof.control is not None
    assert proof.control > 1e-7


@pytest.mark.parametrize("name", NETWORKS)
def test_its_subnets_agree_in_onnx_runtime(name: str) -> None:
    found = capture(network(name), [example(name, 2)])
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(multiple=4), tensors=found.tensors)).eval()
    for architecture in (supernet.space.smallest, supernet.space.largest):
        module = supernet.extract(architecture).eval()
        model = lower(module, example(name, 2))
        for n in (1, 3):
            x = example(name, n)
            with torch.no_grad():
                expected = module(x)
                assert relative_difference([supernet(x, architecture)], [expected]) <= 1e-5
            (out,) = run_model(model, {INPUT: x.numpy()})
            assert relative_difference([expected], [torch.from_numpy(out)]) <= 1e-4


def test_a_constant_that_differs_between_examples_is_rejected() -> None:
    class Numbered(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) + torch.arange(len(x))[:, None]

    with errors.raises("capture.example", "constants"):
        capture(Numbered(), [torch.randn(2, 4)])


def test_an_axis_of_one_tensor_has_no_control() -> None:
    class Gram(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.weight = nn.Linear(4, 8), nn.Linear(8, 3), nn.Parameter(torch.randn(8, 16))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x) @ self.weight @ self.weight.t())

    found = inspect_model(capture_model(own_model(Gram()), torch.randn(2, 4)), SpaceOptions(multiple=4))
    assert len(found.choices) == 2
    assert found.proof is not None
    assert found.proof.holds


def test_a_batch_of_one_example_is_not_squeezed() -> None:
    found = capture(faulty.Squeezing(), [torch.randn(2, 4)])
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(multiple=4), tensors=found.tensors)).eval()
    module = supernet.extract(supernet.space.smallest)
    for n in (1, 3):
        x = torch.randn(n, 4)
        with torch.no_grad():
            expected = module(x)
        (out,) = run_model(lower(module, x), {INPUT: x.numpy()})
        assert expected.shape == out.shape == (n,)
        assert relative_difference([expected], [torch.from_numpy(out)]) <= 1e-4


def test_a_convolution_with_kernels_of_each_example_is_captured_and_not_lowered() -> None:
    module, x = faulty.OfExamples(), torch.randn(3, 4)
    found = capture(module, [x[:2]])
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(multiple=4), tensors=found.tensors)).eval()
    extracted = supernet.extract(supernet.space.largest)
    with torch.no_grad():
        assert relative_difference([module(x)], [extracted(x)]) <= 1e-5
    with errors.raises("export.unknown-operation", "Conv", "group", "faulty.py:"):
        lower(extracted, x)
    with errors.raises("export.unsupported", "Conv", "group", "faulty.py:") as caught:
        onnx_model(extracted, x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("normed", "remedy"),
    [(spectral_norm, "remove_parametrizations"), (nn.utils.spectral_norm, "remove_spectral_norm")],
)
def test_weights_that_are_fixed_by_their_parametrization_have_a_remedy(normed: Any, remedy: str) -> None:
    module = nn.Sequential(normed(nn.Linear(4, 16)), nn.ReLU(), nn.Linear(16, 3)).eval()
    with errors.raises("capture.nothing-elastic", "mv", remedy):
        CapturedFamily(capture(module, [torch.randn(2, 4)]).program, SpaceOptions())


def test_outputs_that_are_not_finite_never_agree() -> None:
    broken = torch.tensor([1.0, float("nan")])
    assert relative_difference([broken], [broken]) == float("inf")


class Largest(nn.Module):
    """Residual layers by maxima, whose positions nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.layers = nn.ModuleList(nn.Linear(8, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = x + layer(x).unflatten(1, (2, -1)).max(1)[0]
        return self.head(x)


def test_layers_with_results_that_nothing_reads_may_be_left_out() -> None:
    module, x = Largest().eval(), torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    captured = capture(module, [x])
    calls = [
        replace(call, outputs=(call.outputs[0], *[""] * (len(call.outputs) - 1))) for call in captured.program.calls
    ]
    assert [call.outputs[1:] for call in calls if call.name == "max"] == [("",)] * 3
    program = replace(captured.program, calls=tuple(calls))
    family = CapturedFamily(program, SpaceOptions(multiple=2), tensors=captured.tensors)
    supernet = make_supernet(family).eval()
    torch.testing.assert_close(supernet(x, family.space.largest), module(x))
    for architecture in family.space.enumerate():
        torch.testing.assert_close(supernet(x, architecture), supernet.extract(architecture)(x))


def test_tensors_of_a_captured_family_are_freed_with_its_last_reference() -> None:
    x = torch.randn(2, 6)
    captured = capture(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).eval(), [x])
    gc.collect()
    gc.disable()
    try:
        family = CapturedFamily(captured.program, SpaceOptions(), tensors=captured.tensors)
        supernet = make_supernet(family).eval()
        lower(supernet.extract(family.space.smallest), x)
        references = [weakref.ref(family), weakref.ref(supernet.sharing.template)]
        del family, supernet
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()
