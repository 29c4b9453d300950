"""The models of the recordings: thirty networks of 0.02 to 5 ms, and sentinels that span kinds of work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.spec import MOBILE_CNN
from supernets.families.resnet.family import ResNetFamily
from supernets.families.resnet.spec import RESNET
from supernets.families.vit.family import ViTFamily
from supernets.families.vit.spec import VIT
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.sharing.base import Family, Supernet
from supernets.training.checkpoint import make_supernet
from tests.hardware_profiles.sentinels import build_sentinel, build_small

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """A model and its input, by name."""

    name: str
    model: bytes
    input_name: str
    example: Floats


def networks() -> list[Entry]:
    """Thirty random subnets of three families with random weights; always the same."""
    torch.manual_seed(0)
    families: list[tuple[str, Family]] = [
        ("cnn", MobileCNNFamily(MOBILE_CNN["tiny"], image_size=28, channels=1, n_classes=10)),
        ("resnet", ResNetFamily(RESNET["tiny"], image_size=28, channels=1, n_classes=10)),
        ("vit", ViTFamily(VIT["tiny"], image_size=28, channels=1, n_classes=10)),
    ]
    found = []
    for name, family in families:
        supernet = make_supernet(family).eval()
        found += list(_subnets(name, supernet))
    return found


def _subnets(name: str, supernet: Supernet) -> Iterator[Entry]:
    rng = np.random.default_rng(0)
    space = supernet.space
    for i, architecture in enumerate([space.smallest, space.largest, *(space.sample(rng) for _ in range(8))]):
        batch = 1 if i % 3 else 8
        example = rng.standard_normal(supernet.family.example(batch).shape).astype(np.float32)
        yield Entry(
            f"{name} {i}, batch {batch}",
            lower(supernet.extract(architecture), supernet.family.example(2)),
            INPUT,
            example,
        )


def sentinels() -> list[Entry]:
    """The shipped sentinels; a call that does nothing; products of matrices; a walk through more memory than caches hold."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, 16, 32, 32)).astype(np.float32)
    row = rng.standard_normal((1, 256)).astype(np.float32)
    large = rng.standard_normal((1, 1 << 20)).astype(np.float32)
    dense = [(rng.standard_normal((256, 256)) / 16).astype(np.float32) for _ in range(4)]
    return [
        Entry("sentinel", build_sentinel(), "input", image),
        Entry("sentinel again", build_sentinel(), "input", image),
        Entry("call", _chain("Identity", [], (1, 1)), "x", row[:, :1]),
        Entry("dense", _chain("MatMul", dense, (1, 256)), "x", row),
        Entry("memory", _chain("Neg", [], (1, 1 << 20)), "x", large),
        Entry("small sentinel", build_small(), "input", image[:, :1, :28, :28].copy()),
    ]


def _chain(op: str, weights: list[Floats], shape: tuple[int, ...]) -> bytes:
    nodes, at = [], "x"
    for i in range(max(len(weights), 1)):
        out = "y" if i >= len(weights) - 1 else f"h{i}"
        nodes.append(helper.make_node(op, [at, f"w{i}"] if weights else [at], [out]))
        at = out
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name in ("x", "y")]
    held = [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)]
    graph = helper.make_graph(nodes, op, ends[:1], ends[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
