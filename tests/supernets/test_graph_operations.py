"""Each lowering rule separately: ONNX Runtime compared with torch for batches of 1, 2 and 5."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets import resizing, tokens
from supernets.graph import TOKENS as ANY_LENGTH
from supernets.graph import functions, lower
from supernets.graph.calls import FUNCTIONS, METHODS
from supernets.graph.ir import Graph
from supernets.graph.rules import RULES
from tests.errors import raises
from tests.supernets.plain_networks import difference, run

IMAGE, TOKENS, VECTOR = (4, 9, 8), (6, 8), (8,)
MODULES: list[tuple[nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), IMAGE),
    (nn.Conv2d(4, 6, 3, groups=2, bias=False), IMAGE),
    (nn.Conv2d(4, 6, 3, padding="valid"), IMAGE),
    (nn.Conv2d(4, 6, 4, padding="same"), IMAGE),
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
    (nn.Identity(), VECTOR),
    (nn.Dropout(0.5), VECTOR),
    (nn.Dropout2d(0.5), IMAGE),
    (nn.ReLU(), VECTOR),
    (nn.ReLU6(), VECTOR),
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
]
CALLS: list[tuple[str, Callable[[Tensor], Tensor], tuple[int, ...]]] = [
    ("arithmetic", lambda x: (x + 1) * 2 - x / (x * x + 3) - 4 + 2 * x, VECTOR),
    ("torch's arithmetic", lambda x: torch.mul(torch.add(x, x), torch.sub(x, 1)).div(2).add(x).sub(x).mul(x), VECTOR),
    ("torch.div", lambda x: torch.div(x, 3.0), VECTOR),
    ("activations", lambda x: torch.relu(x) + x.relu() + functional.relu(x) + functional.relu6(x * 9), VECTOR),
    ("sigmoids", lambda x: torch.sigmoid(x) + x.sigmoid() + functional.sigmoid(x) + torch.tanh(x) + x.tanh(), VECTOR),
    ("smooth", lambda x: functional.silu(x) + functional.hardswish(x) + functional.gelu(x), VECTOR),
    ("smooth by tanh", lambda x: functional.gelu(x, approximate="tanh"), VECTOR),
    ("hardsigmoid", lambda x: functional.hardsigmoid(x), VECTOR),
    ("softmax", lambda x: functional.softmax(x, dim=-1) + torch.softmax(x, 1) + x.softmax(-1), TOKENS),
    ("dropout", lambda x: functional.dropout(x, 0.5, training=False), VECTOR),
    ("mean over the sides", lambda x: x.mean((2, 3)), IMAGE),
    ("mean over the sides, kept", lambda x: torch.mean(x, (-2, -1), keepdim=True), IMAGE),
    ("mean over a dimension", lambda x: x.mean(dim=1) + x.mean(1, keepdim=True).flatten(1), TOKENS),
    ("flatten", lambda x: torch.flatten(x, 1) + x.flatten(1), IMAGE),
    ("view", lambda x: x.view(x.size(0), -1) + x.reshape(x.shape[0], 4, -1).flatten(1), IMAGE),
    ("size by keyword", lambda x: x.reshape(x.size(dim=0), -1) / x.size(dim=1), IMAGE),
    ("reshape", lambda x: torch.reshape(x, (-1, 72, 4)), IMAGE),
    ("permute", lambda x: x.permute(0, 2, 3, 1).contiguous() + torch.permute(x, (0, 2, 3, 1)), IMAGE),
    ("transpose", lambda x: torch.transpose(x, 1, 2) + x.transpose(-1, -2), TOKENS),
    ("cat", lambda x: torch.cat([x, x * 2], dim=1) + torch.concat((x, x), 1), IMAGE),
    ("chunk", lambda x: x.chunk(2, dim=1)[0] - torch.chunk(x, 2, 1)[1], IMAGE),
    ("matmul", lambda x: x @ x.transpose(1, 2) + torch.matmul(x, x.transpose(1, 2)), TOKENS),
    ("bmm", lambda x: torch.bmm(x, x.transpose(1, 2)).matmul(x), TOKENS),
    ("attention", lambda x: functional.scaled_dot_product_attention(x, x + 1, x * 2), (2, 6, 8)),
    ("attention, scaled", lambda x: functional.scaled_dot_product_attention(x, x, x, scale=0.5), (2, 6, 8)),
    ("smaller images", lambda x: functional.interpolate(x, size=(5, 7), mode="bilinear"), IMAGE),
    ("larger images", lambda x: functional.interpolate(x, 20, mode="bilinear", align_corners=False), IMAGE),
    ("resize as in runtimes", lambda x: resizing.resize(x, 5), IMAGE),
    ("images of the same size", lambda x: functional.interpolate(x, (9, 8), mode="bilinear") * 2, IMAGE),
    ("a token of zeros before the others", lambda x: functional.pad(x, (0, 0, 1, 0)), TOKENS),
    ("zeros around images", lambda x: functional.pad(x, (1, 2, 0, 3)), IMAGE),
    ("index along a dimension", lambda x: x[:, 0] + x[:, -1], TOKENS),
    ("index along the last dimension", lambda x: x[:, :, 2], TOKENS),
]


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def assert_agrees(module: nn.Module, shape: tuple[int, ...]) -> None:
    module.eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    x = torch.randn(5, *shape, generator=generator)
    model = lower(module, shape)
    onnx.checker.check_model(model, full_check=True)
    with torch.no_grad():
        expected = module(x).numpy()
    assert expected.std(axis=0).max() > 0.01
    declared = onnx.load_model_from_string(model).graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in declared][1:] == list(expected.shape[1:])
    for batch in (1, 2, 5):
        assert difference(run(model, x[:batch]), expected[:batch]) <= 1e-5


@pytest.mark.filterwarnings(
    "ignore:Using padding='same' with even kernel"
)  # the uneven padding is the subject of the test
@pytest.mark.parametrize(("module", "shape"), MODULES, ids=[repr(module) for module, _ in MODULES])
def test_modules(module: nn.Module, shape: tuple[int, ...]) -> None:
    assert_agrees(module, shape)


@pytest.mark.parametrize(("function", "shape"), [c[1:] for c in CALLS], ids=[c[0] for c in CALLS])
def test_functions(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> None:
    assert_agrees(Call(function), shape)


class Sentences(nn.Module):
    """The operations that support sentences of any length."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.table = nn.Embedding(20, 8), nn.Parameter(torch.zeros(7, 8))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + tokens.first_rows(self.table, ids)
        return tokens.attend(x, x + 1, x * 2, 4, tokens.padding_mask(ids, 3))


class Texts(nn.Module):
    """The operations of causal attention; the keys of half of a text serve as a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.table = nn.Embedding(20, 8), nn.Parameter(torch.zeros(14, 8))
        self.wide = nn.Parameter(torch.zeros(16, 8))

    def forward(self, ids: Tensor) -> Tensor:
        positions = tokens.token_positions(ids)
        x = self.words(ids) + tokens.rows_at(self.table, positions)
        query, key = tokens.by_head(functional.linear(x, self.wide), 2), tokens.by_head(x, 2)
        cosine, sine = tokens.rotation(positions, (1.0,))
        query = tokens.rotated(query, cosine, sine)
        all_keys = tokens.appended(key, key)
        mixed = tokens.attend_grouped(query, all_keys, all_keys, tokens.causal_mask(ids, None, key))
        return tokens.last_token(mixed)


class Losses(nn.Module):
    """The losses of the tokens of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 20)

    def forward(self, ids: Tensor) -> Tensor:
        return tokens.token_losses(self.words(ids), ids)


@pytest.mark.parametrize("made", [Sentences, Texts, Losses])
def test_texts_of_any_length(made: type[nn.Module]) -> None:
    generator = torch.Generator().manual_seed(0)
    module = made().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model = lower(module, ANY_LENGTH)
    onnx.checker.check_model(model, full_check=True)
    for n, length in ((1, 1 + (made is Losses)), (4, 7), (3, 2)):
        ids = torch.randint(0, 20, (n, length), generator=generator)
        ids[:, -1] = 3
        assert difference(run(model, ids), module(ids).detach().numpy()) <= 1e-5


@pytest.mark.parametrize(
    ("function", "code", "mention"),
    [
        (lambda x: x.flatten(1), "export.dynamic-dimension", "flatten"),
        (lambda x: x.reshape(x.shape[0], 4, -1), "export.dynamic-dimension", "reshape"),
        (lambda x: x * x.shape[1], "export.unknown-operation", "mul"),
        (lambda x: x[:, 1], "export.shape-mismatch", "index dimension 1"),
        (lambda x: torch.cat([x, x], dim=1), "export.shape-mismatch", "Concat"),
        (lambda x: x.chunk(2, dim=1)[0], "export.shape-mismatch", "Split"),
    ],
)
def test_operations_that_need_the_dynamic_length_are_rejected(
    function: Callable[[Tensor], Tensor], code: str, mention: str
) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.function = nn.Embedding(20, 8), function

        def forward(self, ids: Tensor) -> Tensor:
            return self.function(self.words(ids))

    with raises(code, mention):
        lower(Network().eval(), ANY_LENGTH)


def test_an_embedding_of_positions() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(6, 8)
            self.register_buffer("index", torch.arange(6).flip(0))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table(self.index)

    assert_agrees(Positions(), TOKENS)


def test_a_norm_is_folded_into_a_linear_layer() -> None:
    module = nn.Sequential(nn.Linear(8, 5, bias=False), nn.BatchNorm1d(5), nn.ReLU())
    assert_agrees(module, VECTOR)
    ops = [node.op_type for node in onnx.load_model_from_string(lower(module, VECTOR)).graph.node]
    assert ops == ["Gemm", "Relu"]


@pytest.mark.parametrize(
    ("function", "shape", "code", "mention"),
    [
        (lambda x: x[:, 1:], TOKENS, "export.unknown-operation", "indexing"),
        (lambda x: x[0], TOKENS, "export.shape-mismatch", "index dimension 0"),
        (lambda x: x.mean(), TOKENS, "export.dynamic-dimension", "mean"),
        (lambda x: x.flatten(), TOKENS, "export.dynamic-dimension", "flatten"),
        (lambda x: x.transpose(0, 1), TOKENS, "export.dynamic-dimension", "(1, 0, 2)"),
        (lambda x: x.view(x.shape[0] * 2, -1), TOKENS, "export.unknown-operation", "mul"),
        (lambda x: torch.cat([x, x]), TOKENS, "export.shape-mismatch", "concatenate"),
        (lambda x: x.chunk(3, dim=1)[0], IMAGE, "export.shape-mismatch", "3 equal parts"),
        (lambda x: functional.gelu(x, approximate="erf"), VECTOR, "export.unknown-operation", "gelu"),
        (lambda x: functional.dropout(x), VECTOR, "export.module-state", "dropout"),
        (lambda x: functional.interpolate(x, 5), IMAGE, "export.unknown-operation", "interpolate(mode='nearest'"),
        (
            lambda x: functional.interpolate(x, 5, mode="bilinear", align_corners=True),
            IMAGE, "export.unknown-operation", "interpolate(mode='bilinear'",
        ),
        (
            lambda x: functional.interpolate(x, scale_factor=2.0, mode="bilinear"),
            IMAGE, "export.unknown-operation", "interpolate(mode='bilinear'",
        ),
        (lambda x: x.mul_(2), VECTOR, "export.unknown-operation", "mul_"),
        (lambda x: x == 1, VECTOR, "export.unknown-operation", "eq"),
        (lambda x: x * (x.shape[0] == 3), VECTOR, "export.unknown-operation", "eq"),
        (lambda x: x[:, True], TOKENS, "export.unknown-operation", "indexing"),
        (lambda x: x * x.size(dim=0), VECTOR, "export.unknown-operation", "mul"),
        (lambda x: x.view(-1, 7), TOKENS, "export.shape-mismatch", "(-1, 7)"),
        (lambda x: (x, x), VECTOR, "export.type-mismatch", "tuple"),
    ],
)  # fmt: skip
def test_unsupported_operations_are_rejected_by_name(
    function: Callable[[Tensor], Tensor], shape: tuple[int, ...], code: str, mention: str
) -> None:
    with raises(code, mention):
        lower(Call(function).eval(), shape)


@pytest.mark.parametrize("side", [128, 132, 200, 256])
def test_large_smooth_images_are_resized_as_in_torch(side: int) -> None:
    """Coordinates differ in their last bits, so that errors are proportional to differences between neighbours."""
    rows = torch.linspace(0, 12, 224)
    x = torch.stack([torch.sin(rows)[:, None] * torch.cos(rows + phase) for phase in range(3)])[None]
    module = Call(lambda x: functional.interpolate(x, side, mode="bilinear")).eval()
    assert difference(run(lower(module, (3, 224, 224)), x), module(x).numpy()) <= 1e-5


def test_the_size_of_resized_images_is_exact_for_all_scales() -> None:
    for old in (28, 97, 224):
        for side in range(1, 2 * old):
            graph = Graph()
            resized = functions.interpolate(graph, graph.input("x", (-1, 1, old, old)), side, mode="bilinear")
            if side != old:
                scale = graph.constants[graph.nodes[0].inputs[2]][2]
                assert resized.shape[2:] == (side, side)
                assert int(np.float32(old) * scale) == int(float(old) * float(scale)) == side


def test_every_rule_has_a_case() -> None:
    assert {type(module) for module, _ in MODULES} | {nn.Embedding} == set(RULES)
    text = repr(
        [c[1].__code__.co_names for c in CALLS] + [c.forward.__code__.co_names for c in (Sentences, Texts, Losses)]
    )
    assert not [name for name in METHODS if f"'{name}'" not in text]
    # Their cases are those of served decoders, of layers of experts and of encoder-decoders.
    covered = {"attend_filled", "gated_heads", "mixed_experts", "index_select", "joined", "divided"}
    names = {f.__name__ for f in FUNCTIONS} - covered
    operators = {"add", "iadd", "sub", "isub", "mul", "imul", "truediv", "itruediv", "matmul"}
    assert not [name for name in names - operators if f"'{name}'" not in text]
