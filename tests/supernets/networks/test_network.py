"""Networks as programs: ONNX Runtime gives torch's outputs for every family and for any module, or the module is rejected."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.networks import resizing, tokens
from supernets.networks.module_to_onnx import BATCH, INPUT, OUTPUT, lower, to_onnx
from supernets.networks.network import network_of
from supernets.sharing.base import Supernet
from supernets.space import Architecture
from supernets.training.checkpoint import make_supernet
from tests.errors import raises
from tests.supernets.networks.plain_networks import ResNet, ViT, difference, mobilenet, outputs, prepared, run

TOLERANCE = 1e-4
"""Relative to the output's scale: single precision in another order of summation."""
SINGLE_TOLERANCE = 1e-5
"""The same for single operations."""
SIZES = {"tiny": (28, 1), "digits": (8, 1), "mobile": (224, 3)}
IMAGE, TOKENS, VECTOR = (4, 9, 8), (6, 8), (8,)
Function = Callable[[Tensor], Any]


def supernet(preset: str) -> Supernet:
    torch.manual_seed(0)
    size, channels = SIZES[preset]
    family = MobileCNNFamily(MOBILE_CNN[preset], image_size=size, channels=channels, n_classes=10)
    return make_supernet(family).eval()


def images(shape: tuple[int, ...], n: int = 8) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def architectures(net: Supernet, n: int) -> list[Architecture]:
    rng = np.random.default_rng(7)
    return [net.space.smallest, net.space.largest, *(net.space.sample(rng) for _ in range(n))]


def traced(net: Supernet, architecture: Architecture) -> nn.Module:
    """The extracted module without its family's program, so that it is traced by itself."""
    with torch.no_grad():
        return net.family.standalone(net.family.template(), architecture, net.weights(architecture)).eval()


def assert_lowered(module: nn.Module, x: Tensor, *, n_norms: int = 0) -> bytes:
    """Checks that the model is valid, has a dynamic batch and folded norms, and agrees with torch."""
    model = lower(module, x)
    onnx.checker.check_model(model, full_check=True)
    proto = onnx.load_model_from_string(model)
    (declared,), (result,) = proto.graph.input, proto.graph.output
    assert (declared.name, result.name) == (INPUT, OUTPUT)
    assert [d.type.tensor_type.shape.dim[0].dim_param for d in (declared, result)] == [BATCH, BATCH]
    expected = outputs(module, x)
    assert [d.dim_value for d in result.type.tensor_type.shape.dim][1:] == list(expected.shape[1:])
    assert [node.op_type for node in proto.graph.node].count("BatchNormalization") == n_norms
    for batch in (1, 2, len(x)):
        assert difference(run(model, x[:batch]), expected[:batch]) <= TOLERANCE
    return model


class TestFamilies:
    @pytest.mark.parametrize("preset", ["tiny", "digits"])
    def test_subnets_agree_with_torch(self, preset: str) -> None:
        net = supernet(preset)
        x = images(tuple(net.family.example().shape[1:]))
        for architecture in architectures(net, 4):
            module = prepared(net.extract(architecture), x)
            model = assert_lowered(module, x)
            # The extracted module is channels last; the contiguous layout gives the same bytes.
            assert lower(module.to(memory_format=torch.contiguous_format), x) == model

    def test_the_mobile_preset(self) -> None:
        net = supernet("mobile")
        x = images((3, 224, 224), 3)
        for architecture in (net.space.smallest, net.space.sample(np.random.default_rng(3))):
            assert_lowered(prepared(net.extract(architecture), x), x)

    def test_a_subnet_traced_by_itself_gives_the_bytes_of_its_familys_program(self) -> None:
        net = supernet("tiny")
        x = net.family.example(2)
        for architecture in architectures(net, 1):
            assert lower(traced(net, architecture), x) == lower(net.extract(architecture), x)

    def test_copies_have_the_program_of_their_family_and_pickled_modules_are_traced(self) -> None:
        net = supernet("digits")
        x, module = net.family.example(2), net.extract(net.space.smallest)
        copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
        for other in (*copies, copy.deepcopy(net).extract(net.space.smallest)):
            assert lower(other, x) == lower(module, x)

    def test_modules_replaced_after_the_extraction_are_traced(self) -> None:
        net = supernet("digits")
        x = images((1, 8, 8))
        module = prepared(net.extract(net.space.smallest), x)
        before = assert_lowered(module, x)
        module.head.act = nn.Tanh().eval()  # type: ignore[union-attr]
        assert assert_lowered(module, x) != before

    @pytest.mark.parametrize("copied", [False, True])
    @pytest.mark.parametrize(
        "change",
        [
            lambda module: setattr(module.head.norm, "eps", 0.5),
            lambda module: setattr(module.head.conv, "padding_mode", "reflect"),
            lambda module: setattr(module.stem.conv, "stride", (1, 1)),
            lambda module: setattr(module.classifier, "bias", None),
            lambda module: module.stages[0].append(module.stem.act),
            lambda module: setattr(
                module, "classifier", nn.Linear(module.classifier.in_features, 3, bias=False).eval()
            ),
        ],
        ids=["eps", "padding mode", "stride", "no bias", "a module twice", "other outputs"],
    )
    def test_changed_attributes_and_tensors_are_exported(
        self, change: Callable[[Any], object], *, copied: bool
    ) -> None:
        net = supernet("digits")
        x = images((1, 8, 8))
        module = prepared(net.extract(net.space.smallest), x)
        module = copy.deepcopy(module) if copied else module
        change(module)
        assert_lowered(module, x)

    @pytest.mark.parametrize(
        "change",
        [lambda tree: setattr(tree.head, "act", nn.Tanh()), lambda tree: setattr(tree.head.norm, "eps", 0.5)],
        ids=["module", "attribute"],
    )
    def test_changes_of_the_supernet_itself_are_exported(self, change: Callable[[Any], object]) -> None:
        net = supernet("digits")
        x = images((1, 8, 8))
        change(net.sharing.template)
        assert_lowered(prepared(net.extract(net.space.smallest), x), x)

    def test_inputs_of_another_size_are_exported(self) -> None:
        net = supernet("digits")
        x = images((1, 16, 16))
        assert_lowered(prepared(net.extract(net.space.smallest), x), x)

    def test_negative_control_a_wrong_statistic_is_detected(self) -> None:
        net = supernet("tiny")
        x = images((1, 28, 28))
        module = prepared(net.extract(net.space.smallest), x)
        expected = outputs(module, x)
        assert difference(run(lower(module, x), x), expected) <= TOLERANCE
        module.get_buffer("head.norm.running_mean").add_(0.05)
        assert difference(run(lower(module, x), x), expected) > 10 * TOLERANCE


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet": ResNet,
    "mobilenet_v2": lambda: mobilenet(gated=False),
    "mobilenet_v3": lambda: mobilenet(gated=True),
    "vit": lambda: ViT(fused=False),
    "vit_fused": lambda: ViT(fused=True),
}


class Own(nn.Module):
    """A module with some attributes, whose forward is a function of it and the input."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **attributes: Any) -> None:
        super().__init__()
        self.function = function
        for name, value in attributes.items():
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


class TestPlainNetworks:
    @pytest.mark.parametrize("name", list(NETWORKS))
    def test_plain_networks_agree_with_torch(self, name: str) -> None:
        torch.manual_seed(1)
        x = images((3, 32, 32))
        assert_lowered(prepared(NETWORKS[name](), x), x)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["mobilenet_v3", "vit_fused"])
    def test_torchs_exporter_agrees(self, name: str) -> None:
        torch.manual_seed(1)
        x = images((3, 32, 32))
        module = prepared(NETWORKS[name](), x)
        assert difference(run(lower(module, x), x), run(to_onnx(module, x), x)) <= TOLERANCE

    @pytest.mark.parametrize(
        ("module", "shape", "n_norms"),
        [
            (Own(lambda m, x: (y := m.conv(x)) + m.norm(y), conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)), (3, 9, 9), 1),
            (
                Own(
                    lambda m, x: m.one(m.conv(x)) - 2 * m.two(m.conv(x)),
                    conv=nn.Conv2d(3, 4, 3), one=nn.BatchNorm2d(4), two=nn.BatchNorm2d(4),
                ), (3, 9, 9), 0,
            ),
            (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3)), (3, 9, 9), 1),
            (nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), (4, 8, 8), 0),
            (nn.Sequential(nn.Linear(4, 3), *(nn.BatchNorm1d(3) for _ in range(3))), (4,), 0),
        ],
        ids=["read twice", "of a layer called twice", "of the input", "two", "three"],
    )  # fmt: skip
    def test_norms_are_folded_unless_something_else_reads_their_input(
        self, module: nn.Module, shape: tuple[int, ...], n_norms: int
    ) -> None:
        x = images(shape)
        assert_lowered(prepared(module, x), x, n_norms=n_norms)


def times_two(x: Tensor) -> Tensor:
    x *= 2
    return x


def with_all_operators(x: Tensor) -> Tensor:
    x += 1
    x -= 3
    x /= 2
    return x


IN_PLACE: list[Function] = [
    nn.ReLU(inplace=True), nn.ReLU6(inplace=True), nn.SiLU(inplace=True), nn.Hardswish(inplace=True),
    nn.Hardsigmoid(inplace=True), times_two, with_all_operators, lambda x: functional.relu(x, inplace=True),
    lambda x: functional.relu6(x, inplace=True), lambda x: functional.silu(x, inplace=True),
    lambda x: functional.hardswish(x, inplace=True), lambda x: functional.hardsigmoid(x, inplace=True), lambda x: x.mul_(2),
]  # fmt: skip


def changed_in_part(x: Tensor) -> Tensor:
    """A tensor that is read under another name, and changed through a view."""
    y = x * 2
    y[:, :4].mul_(3)
    return y + y[:, 4:].mean(1, keepdim=True)


def changed_in_place(x: Tensor) -> Tensor:
    """Tensors that are changed, and read under another name."""
    for change in IN_PLACE:
        y = x * 3 + 0.1
        alias = functional.dropout(y, training=False)
        x = x + 0.1 * torch.tanh(change(y) * alias + y)
    return x


def joined(x: Tensor) -> Tensor:
    """A list that a callee changes."""
    parts = [x]
    parts.append(parts[0] * 2)
    return torch.cat(parts, 1)


class Reversed(nn.Sequential):
    def __iter__(self) -> Any:
        return iter(reversed(list(super().__iter__())))


MODULES: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), IMAGE),
    (nn.Conv2d(4, 6, 3, groups=2, bias=False), IMAGE),
    (nn.Conv2d(4, 6, 3, padding="valid"), IMAGE),
    (nn.Conv2d(4, 6, 4, padding="same"), IMAGE),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), IMAGE),
    (nn.Linear(8, 3), VECTOR),
    (nn.Linear(8, 3, bias=False), VECTOR),
    (nn.Linear(8, 3), TOKENS),
    (nn.Linear(8, 3, bias=False), TOKENS),
    (nn.BatchNorm2d(4), IMAGE),
    (nn.BatchNorm2d(4, affine=False), IMAGE),
    (nn.BatchNorm2d(4, eps=0), IMAGE),
    (nn.BatchNorm1d(8), VECTOR),
    (nn.LayerNorm(8), TOKENS),
    (nn.RMSNorm(8), TOKENS),
    (nn.RMSNorm(8, eps=1e-3, elementwise_affine=False), TOKENS),
    (nn.LayerNorm((6, 8), elementwise_affine=False), TOKENS),
    (nn.LayerNorm(8, bias=False), TOKENS),
    (nn.MaxPool2d(3, 2, 1), IMAGE),
    (nn.MaxPool2d(np.int64(2)), IMAGE),  # type: ignore[arg-type]
    (nn.Conv2d(np.int64(4), np.int64(6), np.int64(3), groups=np.int64(2)), IMAGE),  # type: ignore[arg-type]
    (nn.Linear(np.int64(8), np.int64(3)), VECTOR),  # type: ignore[arg-type]
    (nn.Softmax(np.int64(1)), TOKENS),  # type: ignore[arg-type]
    (nn.MaxPool2d(2, ceil_mode=True), IMAGE),
    (nn.MaxPool2d((3, 2), dilation=2, stride=1), IMAGE),
    (nn.AvgPool2d(3, 2, 1), IMAGE),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGE),
    (nn.AdaptiveAvgPool2d(1), IMAGE),
    (nn.AdaptiveAvgPool2d((3, None)), IMAGE),
    (nn.AdaptiveAvgPool2d([3, 1]), IMAGE),  # type: ignore[arg-type]  # which torch accepts
    (nn.Sequential(nn.Identity(), nn.Dropout(0.5)), VECTOR),
    (nn.Dropout2d(0.5), IMAGE),
    (nn.ReLU(), VECTOR),
    (nn.ReLU6(), VECTOR),
    (nn.PReLU(), VECTOR),
    (nn.Sigmoid(), VECTOR),
    (nn.Tanh(), VECTOR),
    (nn.SiLU(), VECTOR),
    (nn.Hardswish(), VECTOR),
    (nn.Hardsigmoid(), VECTOR),
    (nn.GELU(), VECTOR),
    (nn.Softmax(-1), TOKENS),
    (nn.Softmax(1), TOKENS),
    (nn.Flatten(), IMAGE),
    (nn.Flatten(2), IMAGE),
    (nn.Flatten(1, 2), IMAGE),
    (Reversed(nn.Linear(8, 8), nn.Tanh()), VECTOR),
    (nn.utils.parametrizations.weight_norm(nn.Linear(8, 4)), VECTOR),
    (nn.utils.parametrizations.weight_norm(nn.Linear(8, 4), dim=None), VECTOR),
    (fx.symbolic_trace(nn.Sequential(nn.Linear(8, 4), nn.Tanh())), VECTOR),
    (Own(lambda m, x: m.b(m.a(x)) @ m.a.weight, a=(layer := nn.Linear(8, 8)), b=layer), VECTOR),
    (
        Own(lambda m, x: x * m.factors[0] + m.factors[1], factors=nn.ParameterList([torch.rand(8), torch.rand(8)])),
        VECTOR,
    ),
    (Own(lambda m, x: x + m.table(m.index), table=nn.Embedding(6, 8), index=torch.arange(6).flip(0)), TOKENS),
    (Own(lambda m, x: x + m.table(m.index * 2 + 1), table=nn.Embedding(9, 8), index=torch.tensor([3, 0])), (2, 8)),
    (Own(lambda m, x: x + m.input, input=nn.Parameter(torch.ones(8))), VECTOR),
    (Own(lambda m, x: changed_in_place(m.layer(x)), layer=nn.Linear(8, 8)), VECTOR),
    (Own(lambda m, x: changed_in_part(m.layer(x)), layer=nn.Linear(8, 8)), VECTOR),
    (Own(lambda _, x: x * torch.tensor([2]) + torch.tensor([3]) / 2), VECTOR),
]
FUNCTIONS: Mapping[str, tuple[Function, tuple[int, ...]]] = {
    "arithmetic": (lambda x: (x + 1) * 2 - x / (x * x + 3) - 4 + 2 * x, VECTOR),
    "torch's arithmetic": (
        lambda x: torch.mul(torch.add(x, x), torch.sub(x, 1)).div(2).add(x).sub(x).mul(x) + torch.div(x, 3.0), VECTOR,
    ),
    "activations": (lambda x: torch.relu(x) + x.relu() + functional.relu(x) + functional.relu6(x * 9), VECTOR),
    "sigmoids": (
        lambda x: torch.sigmoid(x) + x.sigmoid() + functional.sigmoid(x) + torch.tanh(x) + functional.hardsigmoid(x), VECTOR,
    ),
    "smooth": (lambda x: functional.silu(x) + functional.hardswish(x) + functional.gelu(x), VECTOR),
    "smooth by tanh": (lambda x: functional.gelu(x, approximate="tanh"), VECTOR),
    "softmax": (lambda x: functional.softmax(x, dim=-1) + torch.softmax(x, 1) + x.softmax(-1), TOKENS),
    "mean over the sides": (lambda x: x.mean((2, 3)), IMAGE),
    "mean over the sides, kept": (lambda x: torch.mean(x, (-2, -1), keepdim=True), IMAGE),
    "mean over a dimension": (lambda x: x.mean(dim=1) + x.mean(1, keepdim=True).flatten(1), TOKENS),
    "flatten": (lambda x: torch.flatten(x, 1) + x.flatten(1), IMAGE),
    "view": (lambda x: x.view(x.size(0), -1) + x.reshape(x.shape[0], 4, -1).flatten(1), IMAGE),
    "size by keyword": (lambda x: x.reshape(x.size(dim=0), -1) / x.size(dim=1), IMAGE),
    "reshape": (lambda x: torch.reshape(x, (-1, 72, 4)), IMAGE),
    "permute": (lambda x: x.permute(0, 2, 3, 1).contiguous() + torch.permute(x, (0, 2, 3, 1)), IMAGE),
    "transpose": (lambda x: torch.transpose(x, 1, 2) + x.transpose(-1, -2), TOKENS),
    "cat": (lambda x: torch.cat([x, x * 2], dim=1) + torch.concat((x, x), 1) + joined(x), IMAGE),
    "chunk": (lambda x: x.chunk(2, dim=1)[0] - torch.chunk(x, 2, 1)[1], IMAGE),
    "uneven chunks": (lambda x: x.chunk(3, dim=1)[0], IMAGE),
    "matmul": (lambda x: x @ x.transpose(1, 2) + torch.matmul(x, x.transpose(1, 2)), TOKENS),
    "bmm": (lambda x: torch.bmm(x, x.transpose(1, 2)).matmul(x), TOKENS),
    "attention": (lambda x: functional.scaled_dot_product_attention(x, x + 1, x * 2), (2, 6, 8)),
    "attention, scaled": (lambda x: functional.scaled_dot_product_attention(x, x, x, scale=0.5), (2, 6, 8)),
    "smaller images": (lambda x: functional.interpolate(x, size=(5, 7), mode="bilinear"), IMAGE),
    "larger images": (lambda x: functional.interpolate(x, 20, mode="bilinear", align_corners=False), IMAGE),
    "aligned corners": (lambda x: functional.interpolate(x, 5, mode="bilinear", align_corners=True), IMAGE),
    "twice as large": (lambda x: functional.interpolate(x, scale_factor=2.0, mode="bilinear"), IMAGE),
    "nearest pixels": (lambda x: functional.interpolate(x, 5), IMAGE),
    "resize as in runtimes": (lambda x: resizing.resize(x, 5), IMAGE),
    "images of the same size": (lambda x: functional.interpolate(x, (9, 8), mode="bilinear") * 2, IMAGE),
    "a token of zeros before the others": (lambda x: functional.pad(x, (0, 0, 1, 0)), TOKENS),
    "zeros around images": (lambda x: functional.pad(x, (1, 2, 0, 3)), IMAGE),
    "reflection": (lambda x: functional.pad(x, (1, 1), mode="reflect"), TOKENS),
    "index along a dimension": (lambda x: x[:, 0] + x[:, -1], TOKENS),
    "index along the last dimension": (lambda x: x[:, :, 2], TOKENS),
    "slices": (lambda x: x[:, 1:] + x[:, :-1], TOKENS),
    "a new dimension": (lambda x: x[:, None] + x[:, True], TOKENS),
    "a created constant": (lambda x: x + torch.arange(8) * torch.ones(8), VECTOR),
    "a batch of two rows an example": (lambda x: (x.view(x.shape[0] * 2, -1) + 1).reshape(-1, 8), VECTOR),
    "the batch's mean": (lambda x: x + x.mean(0), VECTOR),
    "rows before the batch": (lambda x: torch.cat([x.new_ones(3, 8), x]).reshape(-1, 2), VECTOR),
}  # fmt: skip


def assert_agrees(module: nn.Module, shape: tuple[int, ...]) -> None:
    module.eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    x = torch.randn(5, *shape, generator=generator)
    model = lower(module, x[:3])
    onnx.checker.check_model(model, full_check=True)
    for batch in (1, 2, 5):
        with torch.no_grad():
            expected = module(x[:batch].clone()).numpy()
        assert difference(run(model, x[:batch]), expected) <= SINGLE_TOLERANCE
    assert expected.std(axis=0).max() > 0.01
    declared = onnx.load_model_from_string(model).graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in declared][1:] == list(expected.shape[1:])


class TestOperations:
    # The uneven padding is the subject of the test.
    @pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
    @pytest.mark.parametrize(("module", "shape"), MODULES, ids=[repr(module) for module, _ in MODULES])
    def test_modules(self, module: nn.Module, shape: tuple[int, ...]) -> None:
        assert_agrees(module, shape)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_functions(self, name: str) -> None:
        function, shape = FUNCTIONS[name]
        assert_agrees(Own(lambda _, x: function(x)), shape)

    def test_a_norm_is_folded_into_a_linear_layer(self) -> None:
        module = nn.Sequential(nn.Linear(8, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU())
        assert_agrees(module, VECTOR)
        ops = [node.op_type for node in onnx.load_model_from_string(lower(module, images(VECTOR))).graph.node]
        assert ops == ["Gemm", "Relu"]

    @pytest.mark.parametrize("side", [128, 132, 200, 256])
    def test_large_smooth_images_are_resized_as_in_torch(self, side: int) -> None:
        """Coordinates differ in their last bits, so that errors are proportional to differences between neighbours."""
        rows = torch.linspace(0, 12, 224)
        x = torch.stack([torch.sin(rows)[:, None] * torch.cos(rows + phase) for phase in range(3)]).repeat(2, 1, 1, 1)
        module = Own(lambda _, x: functional.interpolate(x, side, mode="bilinear")).eval()
        assert difference(run(lower(module, x), x), module(x).numpy()) <= SINGLE_TOLERANCE


def sentences(module: Any, ids: Tensor) -> Tensor:
    x = module.words(ids) + tokens.first_rows(module.table, ids)
    return tokens.attend(x, x + 1, x * 2, 4, tokens.padding_mask(ids, 3))


def causal(module: Any, ids: Tensor) -> Tensor:
    """Causal attention; the keys of half of a text serve as a cache."""
    positions = tokens.token_positions(ids)
    x = module.words(ids) + functional.embedding(positions, module.table)
    query, key = tokens.by_head(functional.linear(x, module.wide), 2), tokens.by_head(x, 2)
    query = tokens.rotated(query, *tokens.rotation(positions, (1.0,)))
    all_keys = tokens.appended(key, key)
    return tokens.last_token(tokens.attend_grouped(query, all_keys, all_keys, tokens.causal_mask(ids, None, key)))


def words(function: Callable[[Any, Tensor], Any], width: int = 8, **attributes: nn.Module) -> nn.Module:
    """A module that reads token ids, with random weights."""
    torch.manual_seed(0)
    table, wide = nn.Parameter(torch.randn(14, 8)), nn.Parameter(torch.randn(16, 8))
    return Own(function, words=nn.Embedding(20, width), table=table, wide=wide, **attributes).eval()


class TestTexts:
    @pytest.mark.parametrize(
        ("module", "shortest"),
        [
            (words(sentences), 1),
            (words(causal), 1),
            (words(lambda m, ids: tokens.token_losses(m.words(ids), ids), width=20), 2),
            (words(lambda m, ids: m.words(ids)[:, 1]), 2),
            (words(lambda m, ids: torch.cat([m.words(ids)] * 2, dim=1)), 1),
        ],
        ids=["sentences", "causal", "losses", "a token", "twice as many tokens"],
    )
    def test_texts_of_any_length(self, module: nn.Module, shortest: int) -> None:
        ids = torch.randint(0, 20, (4, 7), generator=torch.Generator().manual_seed(0))
        model = lower(module, ids)
        onnx.checker.check_model(model, full_check=True)
        for n, length in ((1, shortest), (4, 7), (3, 5), (3, 2)):
            text = ids[:n, :length].clone()
            text[:, -1] = 3
            assert difference(run(model, text), module(text).detach().numpy()) <= SINGLE_TOLERANCE

    @pytest.mark.parametrize(
        ("function", "code", "mention"),
        [
            (lambda x: x.flatten(1), "export.unknown-operation", "several sizes"),
            (lambda x: x.reshape(x.shape[0], 4, -1), "export.dynamic-dimension", "reshape"),
            (lambda x: x * x.shape[1], "export.dynamic-dimension", "mul"),
            (lambda x: x.chunk(2, dim=1)[0], "export.dynamic-dimension", "split"),
            (lambda x: x + torch.arange(x.shape[1])[:, None], "export.dynamic-dimension", "makes a tensor"),
        ],
    )
    def test_operations_that_need_the_length_are_rejected(self, function: Function, code: str, mention: str) -> None:
        module = words(lambda m, ids: function(m.words(ids)))
        with raises(code, mention):
            lower(module, torch.zeros(3, 8, dtype=torch.int64))


class Called(nn.Module):
    def __call__(self, x: Tensor) -> Tensor:
        return x * 2

    def forward(self, x: Tensor) -> Tensor:
        return x


def scaled_more_each_time(module: nn.Module, x: Tensor) -> Tensor:
    """The input times a number of the module that each call makes larger."""
    scale = module.get_buffer("scale")
    scale += 1
    return x * scale


class TestRejections:
    @pytest.mark.parametrize(
        ("function", "shape", "code", "mention"),
        [
            (lambda x: torch.fft.rfft(x).abs(), VECTOR, "export.unknown-operation", "fft_rfft"),
            (lambda x: x if x.sum() > 0 else -x, VECTOR, "capture.data-dependent", "test_network.py"),
            (lambda x: x + torch.rand(8), VECTOR, "capture.random", "rand"),
            (functional.dropout, VECTOR, "capture.random", "dropout"),
            (lambda x: x.mean(), TOKENS, "export.unknown-operation", "includes the batch"),
            (lambda x: x / x.sum(), TOKENS, "export.unknown-operation", "includes the batch"),
            (lambda x: x + x.shape[0], VECTOR, "export.dynamic-dimension", "aten.add.Tensor in the network (at"),
            (lambda x: x * (x.shape[0] == 3), VECTOR, "export.dynamic-dimension", "mul"),
            (lambda x: x + torch.ones(x.shape[0], 1), VECTOR, "export.dynamic-dimension", "makes a tensor"),
            (lambda x: x.view(-1, 7), TOKENS, "capture.failed", "[-1, 7]"),
            (lambda x: functional.conv2d(x, torch.ones(4, 4, 9, 10)), IMAGE, "capture.failed", "Kernel size"),
            (lambda x: x == 1, VECTOR, "capture.outputs", "torch.bool"),
            (lambda x: (x, x * 2), VECTOR, "export.type-mismatch", "2 outputs"),
        ],
    )  # fmt: skip
    def test_forwards(self, function: Function, shape: tuple[int, ...], code: str, mention: str) -> None:
        with raises(code, mention):
            lower(Own(lambda _, x: function(x)).eval(), images(shape, 3))

    @pytest.mark.parametrize(
        ("module", "shape", "code", "mention"),
        [
            (Called(), VECTOR, "export.module-state", "overrides __call__"),
            (Own(scaled_more_each_time, scale=torch.ones(8)), VECTOR, "capture.in-place", "scale"),
            (nn.Sequential(nn.Linear(8, 8), Called()), VECTOR, "export.module-state", "1 (Called)"),
            (nn.Conv2d(3, 4, 3), IMAGE, "capture.failed", "3 channels"),
            (nn.BatchNorm2d(4, track_running_stats=False), IMAGE, "export.unknown-operation", "no running statistics"),
            (nn.Linear(8, 2).double(), VECTOR, "export.type-mismatch", "float64"),
            (nn.Linear(8, 8, device="meta"), VECTOR, "capture.failed", "meta"),
            (nn.Embedding(5, 3), VECTOR, "capture.failed", "indices"),
            (
                nn.utils.parametrizations.orthogonal(nn.Linear(8, 8)),
                VECTOR,
                "export.unknown-operation",
                "parametrizations",
            ),
        ],
    )
    def test_modules(self, module: nn.Module, shape: tuple[int, ...], code: str, mention: str) -> None:
        with raises(code, mention):
            lower(module.eval(), images(shape, 3))

    def test_training_mode_hooks_and_replaced_forwards(self) -> None:
        module, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), images((4,))
        with raises("export.module-state", "training mode"):
            lower(module, x)
        handle = module.eval()[0].register_forward_hook(lambda *_: None)
        with raises("export.module-state", "0 (Linear)", "hooks"):
            lower(module, x)
        handle.remove()
        module[0].forward = torch.relu  # type: ignore[method-assign]
        with raises("export.module-state", "0 (Linear)", "forward"):
            lower(module, x)

    @pytest.mark.filterwarnings("ignore:`torch.jit")
    @pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
    def test_a_compiled_script(self) -> None:
        with raises("export.module-state"):
            lower(torch.jit.trace(nn.Linear(4, 4).eval(), torch.zeros(2, 4)), images((4,)))


def block_of(inputs: int, outputs: int, kernel: int = 3, **settings: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **settings)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.ReLU())


class TestBlocks:
    def test_chained_blocks_equal_the_network(self) -> None:
        net = supernet("tiny")
        x = images((1, 28, 28))
        for architecture in architectures(net, 2):
            module = prepared(net.extract(architecture), x)
            blocks = network_of(module, x, net.family.blocks).block_models()
            dropped = net.family.dropped(architecture)
            assert [b.name for b in blocks] == [name for name in net.family.blocks if name not in dropped]
            value = x.numpy()
            for block in blocks:
                onnx.checker.check_model(block.model, full_check=True)
                assert value.shape[1:] == block.inputs[0].shape
                value = run(block.model, torch.from_numpy(value))
            assert difference(value, outputs(module, x)) <= TOLERANCE

    def test_blocks_of_a_residual_network_and_a_transformer(self) -> None:
        x = images((3, 32, 32))
        for module, names in (
            (ResNet(), ["conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"]),
            (ViT(fused=False), ["blocks.0", "blocks.1", "head"]),
        ):
            blocks = network_of(prepared(module, x), x, names).block_models()
            assert [block.name for block in blocks] == names
            for block in blocks:
                block_input = images(block.inputs[0].shape)
                value = run(block.model, block_input)
                if block.name not in ("conv1", "layer2.1", "blocks.1"):  # these include the operations that follow them
                    assert difference(value, outputs(module.get_submodule(block.name), block_input)) <= TOLERANCE

    def test_keys_depend_only_on_operations_and_shapes(self) -> None:
        module = nn.Sequential(
            block_of(4, 4),
            block_of(4, 4),
            nn.Sequential(block_of(4, 4), nn.Sigmoid()),
            block_of(4, 4, 5),
            block_of(4, 4, dilation=1, stride=2),
            block_of(4, 4),  # the first block on a smaller image
            block_of(4, 4, groups=4),
            nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),  # equals block 5 once folded
        ).eval()
        keys = network_of(module, images((4, 8, 8)), [str(i) for i in range(8)]).block_keys()
        assert keys["0"] == keys["1"]
        assert keys["5"] == keys["7"]
        assert len(set(keys.values())) == 6

    @pytest.mark.parametrize(
        ("module", "blocks", "mentions"),
        [
            (Own(lambda m, x: m.b(m.a(m.b(x))), a=nn.Linear(4, 4), b=nn.Linear(4, 4)), ["a", "b"], ["block b "]),
            (nn.Sequential(nn.Sequential(nn.Linear(4, 4))), ["0", "0.0"], ["0.0", "0 overlap"]),
            (words(lambda m, ids: m.words(m.next(ids)), next=Own(lambda m, x: x + 1)), ["words"], ["block words ", "integers"]),
        ],
    )  # fmt: skip
    def test_blocks_called_twice_overlapping_or_of_integers_are_rejected(
        self, module: nn.Module, blocks: list[str], mentions: list[str]
    ) -> None:
        with raises("export.invalid-block", *mentions):
            example = torch.zeros(3, 4, dtype=torch.int64) if "words" in blocks else images((2, 4))
            network_of(module.eval(), example, blocks).block_keys()
