"""Lowering: ONNX Runtime gives torch's outputs for every family and for plain networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from supernets.base import Supernet
from supernets.checkpoint import make_supernet
from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.spec import MOBILE_CNN
from supernets.graph import BATCH, INPUT, OUTPUT, lower, lower_blocks
from supernets.module_to_onnx import to_onnx
from supernets.space import Architecture
from tests.errors import raises
from tests.supernets.plain_networks import ResNet, ViT, difference, mobilenet, outputs, prepared, run

TOLERANCE = 1e-4
"""Relative to the output's scale: single precision in another order of summation."""
NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet": ResNet,
    "mobilenet_v2": lambda: mobilenet(gated=False),
    "mobilenet_v3": lambda: mobilenet(gated=True),
    "vit": lambda: ViT(fused=False),
    "vit_fused": lambda: ViT(fused=True),
}
SIZES = {"tiny": (28, 1), "digits": (8, 1), "mobile": (224, 3)}


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


def assert_lowered(module: nn.Module, x: Tensor, *, n_norms: int = 0) -> bytes:
    """Checks that the model is valid, has a dynamic batch and folded norms, and agrees with torch."""
    model = lower(module, x.shape[1:])
    onnx.checker.check_model(model, full_check=True)
    proto = onnx.load_model_from_string(model)
    (declared,), (result,) = proto.graph.input, proto.graph.output
    assert (declared.name, result.name) == (INPUT, OUTPUT)
    assert [d.type.tensor_type.shape.dim[0].dim_param for d in (declared, result)] == [BATCH, BATCH]
    expected = outputs(module, x)
    assert [d.dim_value for d in result.type.tensor_type.shape.dim][1:] == list(expected.shape[1:])
    assert [node.op_type for node in proto.graph.node].count("BatchNormalization") == n_norms
    for batch in (1, 2, len(x)):
        assert difference(run(model, x[:batch]), outputs(module, x)[:batch]) <= TOLERANCE
    return model


class TestFamilies:
    @pytest.mark.parametrize("preset", ["tiny", "digits"])
    def test_subnets_agree_with_torch(self, preset: str) -> None:
        net = supernet(preset)
        x = images(tuple(net.family.example().shape[1:]), 8)
        for architecture in architectures(net, 20):
            module = prepared(net.extract(architecture), x)
            model = assert_lowered(module, x)
            # The extracted module is channels last; the contiguous layout gives the same bytes.
            assert lower(module.to(memory_format=torch.contiguous_format), x.shape[1:]) == model

    def test_the_mobile_preset(self) -> None:
        net = supernet("mobile")
        x = images((3, 224, 224), 3)
        for architecture in (net.space.smallest, net.space.sample(np.random.default_rng(3))):
            assert_lowered(prepared(net.extract(architecture), x), x)

    def test_a_live_subnet_gives_the_bytes_of_the_extracted_module(self) -> None:
        net = supernet("tiny")
        for architecture in architectures(net, 5):
            live, extracted = net.subnet(architecture), net.extract(architecture)
            assert lower(live, (1, 28, 28)) == lower(extracted, (1, 28, 28))

    def test_negative_control_a_wrong_statistic_is_detected(self) -> None:
        net = supernet("tiny")
        x = images((1, 28, 28))
        module = prepared(net.extract(net.space.smallest), x)
        model, expected = lower(module, (1, 28, 28)), outputs(module, x)
        assert difference(run(model, x), expected) <= TOLERANCE
        module.get_buffer("head.norm.running_mean").add_(0.05)
        assert difference(run(lower(module, (1, 28, 28)), x), expected) > 10 * TOLERANCE


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
        assert difference(run(lower(module, (3, 32, 32)), x), run(to_onnx(module, x), x)) <= TOLERANCE

    def test_modules_of_one_class_with_different_settings_have_different_graphs(self) -> None:
        x = images((4,))

        class Scaled(nn.Module):
            def __init__(self, factor: float, *, doubled: bool) -> None:
                super().__init__()
                self.layer, self.factor, self.doubled = nn.Linear(4, 4), factor, doubled

            def forward(self, x: Tensor, extra: bool = False) -> Tensor:
                y: Tensor = self.layer(x) * self.factor * self.layer.out_features
                y = y + x if extra else y
                return y + y if self.doubled else y

        class Both(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: Tensor) -> Tensor:
                return self.inner(x, extra=True) - self.inner(x) * 3

        for factor, doubled in ((1.0, False), (2.0, False), (2.0, True)):
            assert_lowered(Scaled(factor, doubled=doubled).eval(), x)
            assert_lowered(Both(Scaled(factor, doubled=doubled)).eval(), x)

    def test_a_norm_is_kept_if_its_input_has_another_reader(self) -> None:
        class Forked(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

            def forward(self, x: Tensor) -> Tensor:
                y = self.conv(x)
                return (y + self.norm(y)).mean((2, 3))

        x = images((3, 9, 9))
        assert_lowered(prepared(Forked(), x), x, n_norms=1)

    def test_a_layer_called_twice_with_different_norms(self) -> None:
        class Shared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.a, self.b = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

            def forward(self, x: Tensor) -> Tensor:
                return self.a(self.conv(x)) - 2 * self.b(self.conv(x))

        x = images((3, 9, 9))
        assert_lowered(prepared(Shared(), x), x)

    def test_a_norm_without_a_convolution_before_it_is_kept(self) -> None:
        x = images((3, 9, 9))
        assert_lowered(prepared(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3)), x), x, n_norms=1)

    def test_the_identity(self) -> None:
        assert_lowered(nn.Sequential(nn.Identity(), nn.Dropout(0.5)).eval(), images((3,)))


class Sorting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sort(x)[0]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class OverBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class FoldsBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 2)


class Adds(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x.shape[0]


class CreatesTensor(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(3)


class PadsBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, 0, 1, 0))


class Reflects(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (1, 1), mode="reflect")


class TestRejections:
    @pytest.mark.parametrize(
        ("module", "shape", "code", "mentions"),
        [
            (nn.Sequential(nn.PReLU()), (4,), "export.unknown-operation", ["0:", "PReLU"]),
            (Sorting(), (4,), "export.unknown-operation", ["Sorting", "sort"]),
            (Branching(), (4,), "export.untraceable", ["Branching"]),
            (OverBatch(), (4,), "export.dynamic-dimension", ["OverBatch", "mean", "(0,)"]),
            (FoldsBatch(), (4,), "export.shape-mismatch", ["FoldsBatch", "(-1, 2)"]),
            (PadsBatch(), (4,), "export.unknown-operation", ["PadsBatch", "pad((0, 0, 1, 0)"]),
            (Reflects(), (2, 4), "export.unknown-operation", ["Reflects", "mode='reflect'"]),
            (Adds(), (4,), "export.unknown-operation", ["Adds", "add"]),
            (CreatesTensor(), (3,), "export.unknown-operation", ["CreatesTensor", "buffer"]),
            (
                nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (3, 8, 8), "export.unknown-operation",
                ["padding_mode='reflect'"],
            ),
            (nn.Sequential(nn.Conv2d(3, 4, 3)), (3, 2, 2), "export.shape-mismatch", ["Conv", "(-1, 4, 0, 0)"]),
            (nn.Conv2d(3, 4, 3), (1, 8, 8), "export.shape-mismatch", ["Conv2d", "3 channels", "(-1, 1, 8, 8)"]),
            (nn.BatchNorm2d(3, track_running_stats=False), (3, 8, 8), "export.dynamic-dimension", ["BatchNorm2d"]),
            (nn.Linear(4, 2).double(), (4,), "export.type-mismatch", ["weight", "torch.float64"]),
        ],
        ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
    )  # fmt: skip
    def test_unsupported_modules_are_rejected_by_name(
        self, module: nn.Module, shape: tuple[int, ...], code: str, mentions: list[str]
    ) -> None:
        with raises(code, *mentions):
            lower(module.eval(), shape)

    def test_a_parameter_with_the_inputs_name_is_rejected(self) -> None:
        class Named(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.input = nn.Parameter(torch.ones(4))

            def forward(self, x: Tensor) -> Tensor:
                return x + self.input

        with raises("export.unknown-operation", "'input'"):
            lower(Named().eval(), (4,))

    def test_training_mode_and_hooks_are_rejected(self) -> None:
        module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
        with raises("export.module-state", "training mode"):
            lower(module, (4,))
        module.eval()[0].register_forward_hook(lambda *_: None)
        with raises("export.module-state", "0 (Linear)", "hooks"):
            lower(module, (4,))


class TestBlocks:
    def test_chained_blocks_equal_the_network(self) -> None:
        net = supernet("tiny")
        x = images((1, 28, 28))
        for architecture in architectures(net, 5):
            module = prepared(net.extract(architecture), x)
            blocks = lower_blocks(module, (1, 28, 28), net.family.blocks)
            dropped = net.family.dropped(architecture)
            assert [b.name for b in blocks] == [name for name in net.family.blocks if name not in dropped]
            came = x.numpy()
            for block in blocks:
                onnx.checker.check_model(block.model, full_check=True)
                assert came.shape[1:] == block.inputs[0].shape
                came = run(block.model, torch.from_numpy(came))
            assert difference(came, outputs(module, x)) <= TOLERANCE

    def test_input_shapes_equal_those_in_torch(self) -> None:
        net = supernet("tiny")
        module = net.extract(net.space.largest)
        seen: dict[str, tuple[int, ...]] = {}
        handles = [
            module.get_submodule(name).register_forward_pre_hook(
                lambda _m, args, name=name: seen.update({name: tuple(args[0].shape[1:])})
            )
            for name in net.family.blocks
        ]
        module(images((1, 28, 28), 1))
        for handle in handles:
            handle.remove()
        assert {b.name: b.inputs[0].shape for b in lower_blocks(module, (1, 28, 28), net.family.blocks)} == seen

    def test_blocks_of_a_residual_network_and_a_transformer(self) -> None:
        x = images((3, 32, 32))
        for module, names in (
            (ResNet(), ["conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "fc"]),
            (ViT(fused=False), ["blocks.0", "blocks.1", "head"]),
        ):
            for block in lower_blocks(prepared(module, x), (3, 32, 32), names):
                own = module.get_submodule(block.name)
                given = images(block.inputs[0].shape)
                came = run(block.model, given)
                if block.name not in ("conv1", "layer2.1", "blocks.1"):  # these include the operations that follow them
                    assert difference(came, outputs(own, given)) <= TOLERANCE

    def test_keys_depend_only_on_operations_and_shapes(self) -> None:
        def conv(inputs: int, outputs: int, kernel: int = 3, **settings: int) -> nn.Module:
            return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **settings)  # type: ignore[arg-type]

        module = nn.Sequential(
            nn.Sequential(conv(4, 4), nn.ReLU()),
            nn.Sequential(conv(4, 4), nn.ReLU()),
            nn.Sequential(conv(4, 4), nn.Sigmoid()),
            nn.Sequential(conv(4, 4, 5), nn.ReLU()),
            nn.Sequential(conv(4, 4, dilation=1, stride=2), nn.ReLU()),
            nn.Sequential(conv(4, 4), nn.ReLU()),  # the first block on a smaller image
            nn.Sequential(conv(4, 4, groups=4), nn.ReLU()),
            nn.Sequential(conv(4, 4), nn.BatchNorm2d(4), nn.ReLU()),  # equals block 5 once folded
        ).eval()
        keys = [b.key for b in lower_blocks(module, (4, 8, 8), [str(i) for i in range(8)])]
        assert keys[0] == keys[1]
        assert keys[5] == keys[7]
        assert len(set(keys)) == 6

    def test_blocks_called_twice_or_overlapping_are_rejected(self) -> None:
        class Skips(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

            def forward(self, x: Tensor) -> Tensor:
                return self.b(self.b(self.a(x)))

        with raises("export.invalid-block", "block b "):
            lower_blocks(Skips().eval(), (4,), ["a", "b"])
        with raises("export.invalid-block", "0.0", "0 overlap"):
            lower_blocks(nn.Sequential(nn.Sequential(nn.Linear(4, 4))).eval(), (4,), ["0", "0.0"])
