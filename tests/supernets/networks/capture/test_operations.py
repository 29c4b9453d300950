"""Single operations in a captured network: subnets agree live, extracted and in ONNX Runtime; permutations change nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from hardware_profiles.runtime import run_model
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.program import BATCH
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import capture
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.space.axes import size_of
from supernets.training.checkpoint import make_supernet
from tests.supernets.networks.capture.networks import prove

Operation = Callable[[Tensor], Tensor]


def grid(x: Tensor) -> Tensor:
    """Positions that all channels decide, some outside of the image, (n, height, width, 2)."""
    means = x.mean(1)
    return torch.stack([means * 2, means.transpose(1, 2) - 0.3], -1)


OPERATIONS: Mapping[str, Operation] = {
    "log2": lambda x: torch.log2(x.abs() + 1),
    "log1p, expm1": lambda x: torch.log1p(x.abs()) + torch.expm1(x * 0.1),
    "addcdiv": lambda x: torch.addcdiv(x, x, x.abs() + 1, value=0.5),
    "lerp": lambda x: torch.lerp(x, x.flip(2), 0.3),
    "clamp by tensors": lambda x: torch.clamp(
        x, min=x.mean((2, 3), keepdim=True), max=x.amax((2, 3), keepdim=True) * 0.5
    ),
    "cumsum of another type": lambda x: x + (x > 0).cumsum(2, dtype=torch.float32) * 0.1,
    "movedim": lambda x: torch.movedim(x, 1, -1).movedim((3, 1), (1, 2)),
    "tile": lambda x: x.tile((2, 1)),
    "pixel_unshuffle": lambda x: F.pixel_shuffle(F.pixel_unshuffle(x, 2) * 2, 2),
    "repeat_interleave": lambda x: (
        x.repeat_interleave(2, dim=1).unflatten(1, (16, 2)).sum(2) + x.repeat_interleave(3, dim=2)[:, :, :10]
    ),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 4),
    "var": lambda x: x / (x.var((2, 3), unbiased=False, keepdim=True) + 1) + x.std(-1, keepdim=True),
    "var_mean": lambda x: sum(torch.var_mean(x, (2, 3), keepdim=True)) * x,
    "max": lambda x: torch.max(x, x.max(dim=3, keepdim=True).values * 0.5) + x.min(dim=2, keepdim=True)[0],
    "replicate": lambda x: F.pad(x, (1, 0, 2, 1), mode="replicate"),
    "instance_norm": lambda x: F.instance_norm(x),
    "upsample_linear1d": lambda x: F.interpolate(x.flatten(2), 50, mode="linear", align_corners=True).unsqueeze(-1),
    "bicubic by a factor": lambda x: F.interpolate(x, scale_factor=1.6, mode="bicubic"),
    "a constant that is named like a method": lambda x: x * torch.arange(10).to(x.dtype),
    "unfold": lambda x: x.unfold(2, 4, 3).unfold(3, 2, 2).flatten(2, 3).mean(-1),
    "masks of truth values": lambda x: (x > 0) * x + x * ((x > 0.1) & (x < 1)).long() + (x > 0) * (x < 2),
    "integers": lambda x: (
        x * (x > 0).sum(1, keepdim=True) / 3 + torch.where(x > 0, 1, 2) + (x > 0).long().clamp(0, 1) / 2
    ),
    "softmax of channels": lambda x: x.softmax(1) + x.log_softmax(-3) * 0.1 + (x > 0).softmax(1, dtype=torch.float32),
    "softplus": lambda x: F.softplus(x, 2.0, 0.7) + F.softplus(x, beta=0.5),
    "log of a small sigmoid": lambda x: F.logsigmoid(x * 500) * 0.01,
    "rms_norm without epsilon": lambda x: F.rms_norm(x, (10, 10), eps=0.0) + F.rms_norm(x.mT, (10,)),
    "rsub of a multiple": lambda x: torch.rsub(x, 0.5, alpha=0.1) + torch.sub(1.0, x.relu(), alpha=3),
    "parts of windows": lambda x: F.max_pool2d(x, 1, 3, ceil_mode=True) + F.max_pool2d(x, 3, 3, 1, ceil_mode=True),
    "einsum with dots": lambda x: torch.einsum("...hw,...hw->...", x, x.sin())[:, :, None, None] * x,
    "parts of dilated windows": lambda x: F.max_pool2d(x[:, :, :, :8], 2, 2, 1, dilation=2, ceil_mode=True),
    "a factor that keeps a size": lambda x: (
        F.interpolate(x[:, :, :5, :5], scale_factor=1.1, mode="bilinear")
        + F.interpolate(x[:, :, :5, :5], (5, 5), mode="bicubic")
    ),
    "narrow": lambda x: x.narrow(2, -3, 2) + torch.clip(x.narrow(2, 1, 2), -1, 0.5),
    "parts that nothing reads": lambda x: (
        torch.cat([x.split([3, 5, 8], 1)[2], x[:, :8]], 1) + x.chunk(3, 1)[2].mean(1, keepdim=True)
    ),
    "samples of a grid": lambda x: sum(
        F.grid_sample(x, grid(x), mode=mode, padding_mode=outside, align_corners=aligned)
        for mode, outside, aligned in (
            ("bilinear", "zeros", False),
            ("bilinear", "border", True),
            ("bicubic", "reflection", False),
        )
    ),
    "circular": lambda x: (
        F.pad(x, (1, 0, 2, 3), mode="circular")[:, :, :10, :10] + F.pad(x, (0, 0, 0, 2), mode="circular")[:, :, 2:]
    ),
    "topk": lambda x: (
        x.topk(3, 2)[0].mean(2, keepdim=True) + x * x.topk(2, 3, largest=False, sorted=True)[1].sum(3, keepdim=True)
    ),
    "sort": lambda x: x.sort(2, descending=True)[0] + x.argsort(stable=True, dim=3) * 0.1 + x.sort(3)[1] * 0.1,
    "positions of extremes": lambda x: (
        x * x.argmax(2, keepdim=True) + x.argmin(-1)[..., None] + sum(x.max(3, keepdim=True)) + x.min(2)[1][:, :, None]
    ),
    "triangles": lambda x: x.tril(1) - x.triu(-2) * 0.5,
    "remainders": lambda x: (
        x.remainder(0.7)
        + x.fmod(-0.7)
        + (x * 9).floor_divide(2.0)
        + (x * 9).long().remainder(-4)
        + (x * 9).long().fmod(4)
        + (x * 9).long() // 4
        + torch.div(x, 0.3, rounding_mode="trunc")
        + torch.div(x, 0.3, rounding_mode="floor")
    ),
    "remainders of near multiples": lambda x: (
        ((x * 20).round() * 0.1) // 0.1
        + ((x * 20).round() * 0.1) % 0.1
        + torch.div((x * 20).round() * 0.1, 0.1, rounding_mode="floor")
        + (x * 20).round() % -3.0
    ),
    "shrinks": lambda x: (
        F.hardshrink(x, 0.3)
        + F.softshrink(x, 0.2)
        + F.tanhshrink(x)
        + F.threshold(x, 0.1, -2.0)
        + (x * 3).trunc()
        + x.erfc()
    ),
    "likes": lambda x: torch.ones_like(x) * x.mean(1, keepdim=True) + torch.zeros_like(x) + torch.full_like(x, 2.5) * x,
    "finite": lambda x: x * x.log().isnan() + x * x.isfinite() + (x / x.relu()).isinf() * 2.0,
    "operations that torch composes of others": lambda x: (
        torch.multiply(x, 2).subtract(0.5).divide(3).absolute().negative()
        + x * torch.greater(x, 0.1)
        + torch.concatenate([x, x.relu()], 2)[:, :, :10]
        + torch.hstack(torch.hsplit(x, 2)).arctan()
        + torch.special.expit(x).multiply_(0.5)
        + torch.cosine_similarity(x, x.sin(), 3)[..., None]
        + torch.linalg.norm(x, dim=1, keepdim=True)
        + torch.linalg.matmul(x, torch.kron(torch.eye(5), torch.ones(2, 2)))
        + F.feature_alpha_dropout(x, 0.5, training=False)
    ),
    "prod": lambda x: x * x.prod(2, keepdim=True).tanh(),
    "a factor of no whole size": lambda x: (
        F.interpolate(x[:, :, :7, :7], scale_factor=1.6, mode="bilinear")
        + F.interpolate(x[:, :, :7, :7], scale_factor=1.6)
    ),
}


class Around(nn.Module):
    """An operation between two convolutions."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation
        self.stem, self.conv, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.conv(self.operation(self.stem(x)))).mean((2, 3)))


def example(n: int) -> Tensor:
    return torch.randn(n, 3, 10, 10, generator=torch.Generator().manual_seed(n))


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_elastic_exact_and_becomes_onnx(name: str) -> None:
    torch.manual_seed(0)
    module = Around(OPERATIONS[name]).eval()
    found = capture(module, [example(2)])
    elastic = infer_axes(found.program)
    assert not elastic.unknown
    assert any(axis.startswith("stem") for axis in elastic.axes)
    proof = prove(found)
    assert proof.permuted <= 1e-12
    assert proof.control is not None
    assert proof.control > 1e-6
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(multiple=4), tensors=found.tensors)).eval()
    for architecture in (supernet.space.largest, supernet.space.smallest):
        subnet = supernet.extract(architecture).eval()
        model = lower(subnet, example(2))
        for n in (1, 3):
            with torch.no_grad():
                live, plain = supernet(example(n), architecture), subnet(example(n))
                expected = module(example(n)) if architecture is supernet.space.largest else plain
            (out,) = run_model(model, {INPUT: example(n).numpy()})
            assert relative_difference([expected], [plain]) <= 1e-6
            assert relative_difference([plain], [live]) <= 1e-6
            assert relative_difference([plain], [torch.from_numpy(out)]) <= 1e-5


class Heads(nn.Module):
    """Attention whose queries share keys in groups, with masks."""

    def __init__(self, mask: Tensor | None, scale: float | None, *, causal: bool = False) -> None:
        super().__init__()
        self.query, self.key, self.value, self.last = (
            nn.Linear(7, 24),
            nn.Linear(7, 12),
            nn.Linear(7, 12),
            nn.Linear(24, 3),
        )
        self.mask, self.scale, self.causal = mask, scale, causal

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        query = self.query(x).view(n, 5, 6, 4).transpose(1, 2)
        key, value = (layer(x).view(n, 5, 3, 4).transpose(1, 2) for layer in (self.key, self.value))
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=self.mask, scale=self.scale, is_causal=self.causal, enable_gqa=True
        )
        return self.last(out.transpose(1, 2).reshape(n, 5, 24))


MASKS: Mapping[str, Tensor | None] = {
    "none": None,
    "of truth values": torch.ones(5, 5, dtype=torch.bool).tril(),
    "of numbers": torch.arange(25).view(1, 1, 5, 5) * -0.1,
    "of each head": torch.arange(30).view(6, 1, 5) * 0.1,
}


@pytest.mark.parametrize(("mask", "scale"), [*((mask, None) for mask in MASKS), ("none", 0.7), ("of numbers", 0.0)])
def test_grouped_attention_becomes_onnx(mask: str, scale: float | None) -> None:
    torch.manual_seed(0)
    module, x = Heads(MASKS[mask], scale, causal=mask == "none").eval(), torch.randn(3, 5, 7)
    found = capture(module, [x])
    supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(multiple=1), tensors=found.tensors)).eval()
    for architecture in (supernet.space.largest, supernet.space.smallest):
        subnet = supernet.extract(architecture).eval()
        with torch.no_grad():
            expected = subnet(x[:2])
            assert relative_difference([supernet(x[:2], architecture)], [expected]) <= 1e-6
        (out,) = run_model(lower(subnet, x), {INPUT: x[:2].numpy()})
        assert relative_difference([expected], [torch.from_numpy(out)]) <= 1e-5


def test_units_that_a_padding_repeats_are_fixed() -> None:
    def padded(x: Tensor) -> Tensor:
        return F.pad(x.permute(0, 2, 3, 1), (1, 1, 0, 0), mode="reflect")[..., 1:-1].permute(0, 3, 1, 2)

    found = capture(Around(padded), [example(2)])
    elastic = infer_axes(found.program)
    assert not any(axis.startswith("stem") for axis in elastic.axes)
    assert prove(found).permuted <= 1e-12


def test_channels_over_which_a_convolution_moves_are_fixed() -> None:
    class Moving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.head = nn.Linear(3, 8), nn.Conv1d(5, 6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(self.stem(x)).mean(-1))

    assert list(infer_axes(capture(Moving(), [torch.randn(2, 5, 3)]).program).axes) == ["conv.out"]


def test_a_dimension_that_would_be_squeezed_at_size_1_is_fixed() -> None:
    found = capture(Around(lambda x: x.mean((2, 3)).squeeze(1)[:, :, None, None]), [example(2)])
    assert list(infer_axes(found.program).axes) == ["conv.out"]
    found = capture(
        Around(lambda x: x.mean((2, 3), keepdim=True).squeeze()[:, :, None, None].squeeze(())), [example(2)]
    )
    assert list(infer_axes(found.program).axes) == ["stem.out", "conv.out"]


def test_the_steps_of_a_recurrent_layer_are_fixed() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.layer, self.head = nn.Linear(3, 8), nn.GRU(5, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.layer(self.stem(x).mT)[0][:, -1])

    axes = list(infer_axes(capture(Turned(), [torch.randn(2, 5, 3)]).program).axes)
    assert len(axes) == 1
    assert axes[0].startswith("layer")


def test_a_batch_norm_beside_a_change_in_place_is_one() -> None:
    class Assigned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.norm, self.head = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            y = x.clone()
            y[:, ::2] = 0.0
            return self.head(self.norm(x) + y)

    program = capture(Assigned().eval(), [torch.randn(2, 3)]).program
    assert "batch_norm" in {call.name for call in program.calls}
    assert not infer_axes(program).unknown


@pytest.mark.parametrize("operation", [lambda x: F.pixel_shuffle(x, 2), lambda x: F.pixel_unshuffle(x, 2)])
def test_channels_that_become_pixels_are_fixed(operation: Operation) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.head = nn.Linear(3, 8), nn.LazyConv2d(6, 1), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(operation(self.stem(x))).mean((2, 3)))

    module, x = Turned(), torch.randn(2, 4, 6, 3)
    module(x)
    assert list(infer_axes(capture(module, [x]).program).axes) == ["conv.out"]


@pytest.mark.parametrize(
    "equation",
    ["btc,cz->btz", "...c,cz->...z", "btc,cz", "zc,btc->bzt", "btc, cz -> bz", "btc,cz->btcz"],
)
def test_an_equation_is_elastic_and_its_work_is_counted(equation: str) -> None:
    class Equation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            n, size = 8, 6
            self.stem, self.weight = (
                nn.Linear(3, n),
                nn.Parameter(torch.randn((size, n) if equation[0] == "z" else (n, size))),
            )

        def forward(self, x: Tensor) -> Tensor:
            operands = (self.weight, self.stem(x)) if equation[0] == "z" else (self.stem(x), self.weight)
            return torch.einsum(equation, *operands).flatten(1).mean(1, keepdim=True)

    module, x = Equation(), torch.randn(2, 5, 3)
    found = capture(module, [x])
    elastic = infer_axes(found.program)
    assert len(elastic.axes) == 2
    assert prove(found).permuted <= 1e-12
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(x[:1])
    sizes: dict[str, int] = {**elastic.full_sizes, BATCH: 1}
    assert 2 * sum(int(size_of(work.products, sizes)) for work in elastic.work) == counter.get_total_flops()
