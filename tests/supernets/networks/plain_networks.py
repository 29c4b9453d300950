"""Plain torch networks for the tests of lowering, with weights that make outputs depend on inputs."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardware_profiles.runtime import run_model
from supernets.networks.module_to_onnx import INPUT
from supernets.training.recalibration import recalibrate


def prepared(module: nn.Module, images: Tensor) -> nn.Module:
    """The module in eval mode with random norms and biases, and batch-norm statistics randomised around those of images.

    Fresh networks with identity norms have nearly equal outputs for all images, which would hide errors.
    """
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 1:
                noise = torch.rand(parameter.shape, generator=generator)
                parameter.copy_(0.2 * noise - 0.1 if name.endswith("bias") else 0.6 + 0.8 * noise)
        recalibrate(module, [images])
        for name, tensor in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor.mul_(0.9 + 0.2 * torch.rand(tensor.shape, generator=generator))
    return module.eval()


def outputs(module: nn.Module, x: Tensor) -> NDArray[np.float32]:
    """Torch's outputs; asserts that they differ over the batch."""
    with torch.no_grad():
        out = module(x)
    if len(x) > 1:
        assert (out.std(dim=0) > 0.1 * out.std()).any(), (
            "the outputs hardly depend on the inputs: agreement proves nothing"
        )
    return cast(NDArray[np.float32], out.numpy())


def run(model: bytes, x: Tensor) -> NDArray[np.float32]:
    """ONNX Runtime's outputs."""
    (out,) = run_model(model, {INPUT: x.numpy()})
    return cast(NDArray[np.float32], out)


def difference(came: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest absolute difference relative to the expected outputs' scale; shapes must be equal."""
    assert came.shape == expected.shape
    return float(np.abs(came - expected).max() / np.abs(expected).max())


class BasicBlock(nn.Module):
    """ResNet's block of two 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return cast(Tensor, self.relu(out))


class ResNet(nn.Module):
    """A narrow network with the structure of ResNet-18."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(16, 16, 1), BasicBlock(16, 16, 1))
        self.layer2 = nn.Sequential(BasicBlock(16, 24, 2), BasicBlock(24, 24, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.avgpool(self.layer2(self.layer1(x)))
        return cast(Tensor, self.fc(torch.flatten(x, 1)))


class SqueezeExcite(nn.Module):
    """MobileNetV3's squeeze-and-excitation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)
        self.activation, self.scale_activation = nn.ReLU(), nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale = self.activation(self.fc1(self.avgpool(x)))
        return cast(Tensor, self.scale_activation(self.fc2(scale))) * x


class Inverted(nn.Module):
    """MobileNet's block, with squeeze-and-excitation if `gated`."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, gated: bool) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and inputs == outputs
        hidden, act = 3 * inputs, nn.Hardswish if gated else nn.ReLU6
        layers: list[nn.Module] = [
            nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), act()),
            nn.Sequential(
                nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), act()
            ),
        ]
        if gated:
            layers.append(SqueezeExcite(hidden))
        self.block = nn.Sequential(*layers, nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.use_res_connect else cast(Tensor, self.block(x))


def mobilenet(*, gated: bool) -> nn.Module:
    """A network with the structure of MobileNetV2, or V3 if `gated`."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()),
        Inverted(8, 12, 2, gated=gated),
        Inverted(12, 12, 1, gated=gated),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(12, 10),
    )


class Attention(nn.Module):
    """Self-attention of a vision transformer, in matrix products or by torch's fused function."""

    def __init__(self, width: int, heads: int, *, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.view(n, tokens, self.heads, -1).transpose(1, 2) for t in (query, key, value))
        if self.fused:
            y = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q @ k.transpose(-2, -1)) * (width // self.heads) ** -0.5).softmax(dim=-1) @ v
        return cast(Tensor, self.out(y.transpose(1, 2).reshape(n, tokens, width)))


class Encoder(nn.Module):
    """A pre-norm block of a vision transformer."""

    def __init__(self, width: int, *, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, 2, fused=fused)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + cast(Tensor, self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """A vision transformer with learned positions and mean pooling."""

    def __init__(self, *, fused: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, 8)
        self.positions = nn.Parameter(torch.randn(1, 16, 16))
        self.blocks = nn.ModuleList([Encoder(16, fused=fused), Encoder(16, fused=fused)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.head(self.norm(x).mean(dim=1)))
