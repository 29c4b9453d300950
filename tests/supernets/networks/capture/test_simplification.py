"""Captured networks become ONNX models of which ONNX Runtime runs few kernels; their outputs stay those of torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hardware_profiles.runtime import run_model
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.specialisation import specialised
from supernets.networks.capture.tracing import capture
from supernets.networks.module_to_onnx import INPUT
from supernets.networks.network import Network

Operation = Callable[[Tensor], Tensor]
TOKENS, WIDTH, HEADS = 5, 8, 4
MASK = torch.ones(1, 1, TOKENS, TOKENS, dtype=torch.bool).tril()
COLUMN = torch.arange(1.0, TOKENS + 1).view(1, TOKENS, 1)
WEIGHT = torch.linspace(0.5, 2, WIDTH)


class Around(nn.Module):
    """An operation on the outputs of a linear layer."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation
        self.first, self.last = nn.Linear(7, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.operation(self.first(x)))


class Case(NamedTuple):
    """An operation, the numbers of kernels that it becomes, by type, and those of the types that it does not need."""

    operation: Operation
    kernels: Mapping[str, int]


def normed(x: Tensor) -> Tensor:
    """A root-mean-square norm as transformers writes it."""
    return WEIGHT * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def heads(x: Tensor, n_heads: int) -> Tensor:
    return x.view(len(x), TOKENS, n_heads, -1).transpose(1, 2)


def repeated(x: Tensor, times: int) -> Tensor:
    """Keys or values whose heads are repeated, as transformers repeats them."""
    n, n_heads, tokens, width = x.shape
    return x[:, :, None].expand(n, n_heads, times, tokens, width).reshape(n, n_heads * times, tokens, width)


CASES: Mapping[str, Case] = {
    "a norm by a reciprocal root": Case(
        normed, {"SimplifiedLayerNormalization": 1, "Pow": 0, "Reciprocal": 0, "Mul": 0}
    ),
    "a reciprocal root that is also added": Case(
        lambda x: x * (root := torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1)) + root, {"Reciprocal": 1}
    ),
    "a mask of each example": Case(
        lambda x: x.masked_fill((COLUMN < 3).expand(len(x), -1, -1), 0.0), {"Expand": 0, "Tile": 0, "Shape": 0}
    ),
    "an expanded tensor that is copied": Case(
        lambda x: torch.cat([COLUMN[:, :1].expand(len(x), -1, WIDTH), x], 1)[:, 1:] + x, {"Tile": 1}
    ),
    "embeddings of the same tokens in each example": Case(
        lambda x: x + F.embedding(torch.arange(TOKENS).view(1, -1).expand(len(x), -1), WEIGHT.outer(WEIGHT)),
        {"Expand": 0, "Gather": 0},
    ),
    "a reshape to the same sizes": Case(
        lambda x: F.layer_norm(x + torch.relu(x).reshape(len(x), TOKENS, WIDTH), (WIDTH,)),
        {"Reshape": 0},
    ),
    "a padding of nothing": Case(lambda x: F.pad(x, (0, 0, 0, 0)) + 1, {"Pad": 0}),
    "several selections": Case(
        lambda x: (parts := x.view(len(x), TOKENS, 2, -1).permute(2, 0, 1, 3))[0] @ parts[1].mT @ x,
        {"Split": 1, "Gather": 0},
    ),
    "an example's first token": Case(lambda x: x[:, 0], {"Gather": 1, "Squeeze": 0}),
}


def captured(module: nn.Module) -> bytes:
    """The ONNX model of the captured program of a module."""
    traced = capture(module, [torch.zeros(2, TOKENS, 7)])
    elastic = infer_axes(traced.program)
    return Network(specialised(elastic, elastic.full_sizes), traced.tensors).onnx()


def kernels_of(model: bytes, folder: Path) -> Counter[str]:
    """The nodes of the graph that a session runs, by type."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)


def check(module: nn.Module, model: bytes) -> None:
    """Asserts that a model's outputs are the module's, for batches of one and more."""
    for n in (1, 3):
        x = torch.randn(n, TOKENS, 7, generator=torch.Generator().manual_seed(n))
        with torch.no_grad():
            expected = module(x)
        (out,) = run_model(model, {INPUT: x.numpy()})
        # Single precision; roots and their reciprocals are rounded differently.
        assert relative_difference([expected], [torch.from_numpy(out)]) <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_an_operation_becomes_few_kernels(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Around(CASES[name].operation).eval()
    model = captured(module)
    check(module, model)
    kernels = kernels_of(model, tmp_path)
    assert {kind: kernels[kind] for kind in CASES[name].kernels} == CASES[name].kernels


def test_repeated_keys_are_not_copied() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.value = nn.Linear(7, 16), nn.Linear(7, 8), nn.Linear(7, 8)

        def forward(self, x: Tensor) -> Tensor:
            query, key, value = heads(self.query(x), HEADS), heads(self.key(x), 2), heads(self.value(x), 2)
            mask = MASK.expand(len(x), -1, -1, -1)
            out = F.scaled_dot_product_attention(query, repeated(key, 2), repeated(value, 2), attn_mask=mask)
            return out.transpose(1, 2).flatten(2)

    torch.manual_seed(0)
    module = Attention().eval()
    model = captured(module)
    check(module, model)
    types = {node.op_type for node in onnx.load_model_from_string(model).graph.node}
    assert not types & {"Expand", "Tile"}
