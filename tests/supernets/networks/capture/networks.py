"""Small networks of the kinds that users bring, written as users write them: functional calls, views, in-place operations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.networks.capture.captured_model import CapturedModel
from supernets.networks.capture.model_proof import Proof, prove_model
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import Captured, capture
from supernets.networks.capture.user_model import UserModel


def opened_module(name: str, arguments: Mapping[str, object] | None = None, **options: Any) -> UserModel:
    """The model of a name that is no captured file, see `open_model`."""
    model = open_model(name, arguments, **options)
    assert isinstance(model, UserModel)
    return model


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution with batch norm and an in-place ReLU."""
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two convolutions and a shortcut, added in place."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs, stride=stride), conv(outputs, outputs)[:2])
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)[:2]

    def forward(self, x: Tensor) -> Tensor:
        out = self.body(x)
        out += self.shortcut(x)
        return F.relu(out)


class ResNet(nn.Module):
    """A stem, two stages and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16)
        self.layer1 = nn.Sequential(Residual(16, 16), Residual(16, 16))
        self.layer2 = nn.Sequential(Residual(16, 32, 2), Residual(32, 32))
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


class Squeeze(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, 8, 1), nn.Conv2d(8, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.expand(F.silu(self.reduce(F.adaptive_avg_pool2d(x, 1)))))


class Mobile(nn.Module):
    """Inverted bottlenecks with depthwise convolutions and squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, stride=2)
        blocks = (
            nn.Sequential(conv(16, 32, 1), conv(32, 32, groups=32), Squeeze(32), conv(32, 16, 1)[:2]) for _ in range(2)
        )
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * 36, 24), nn.Hardswish(), nn.Dropout(0.1), nn.Linear(24, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Dense(nn.Module):
    """Concatenations, grouped convolutions, and a shuffle of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(3, 16), conv(16, 16, groups=4)
        self.third = conv(32, 24)
        self.norm = nn.GroupNorm(4, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        x = torch.cat([a, self.second(a)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        left, right = self.third(x).chunk(2, dim=1)
        x = self.norm(torch.cat([F.max_pool2d(right, 2), F.avg_pool2d(left, 2)], 1))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Attention(nn.Module):
    """Fused queries, keys and values; attention as torch's function."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)
        return self.out(x)


class Transformer(nn.Module):
    """A patch embedding, a class token, positions, layer scale, and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 32, 4, 4)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 32)), nn.Parameter(torch.randn(1, 10, 32))
        self.scale = nn.Parameter(torch.full((32,), 0.5))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(5))
        self.attention = nn.ModuleList(Attention(32, 4) for _ in range(2))
        self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(2))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        for i in range(2):
            x = x + self.scale * self.attention[i](self.norms[2 * i](x))
            x = x + self.mlp[i](self.norms[2 * i + 1](x))
        return self.head(self.norms[4](x)[:, 0])


class Windowed(nn.Module):
    """Shifted windows with relative position biases and a mask that the forward fills in place."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 3, padding=1)
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.bias = nn.Parameter(torch.randn(9, 2))
        self.register_buffer("position", torch.arange(81).view(9, 9) % 9)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        y = torch.roll(self.norm(x), shifts=(-1, -1), dims=(1, 2))
        y = y.view(n, h // 3, 3, w // 3, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 9, c)
        q, k, v = self.qkv(y).reshape(-1, 9, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        mask = x.new_zeros((h, w))
        mask[-1:, :] = 1
        mask = mask.view(h // 3, 3, w // 3, 3).permute(0, 2, 1, 3).reshape(-1, 9)
        mask = (mask.unsqueeze(1) - mask.unsqueeze(2)) * -100.0
        scores = (q * (c // 2) ** -0.5) @ k.transpose(-2, -1) + self.bias[self.position.view(-1)].view(9, 9, 2).permute(
            2, 0, 1
        )
        scores = scores.view(n, -1, 2, 9, 9) + mask.unsqueeze(1).unsqueeze(0)
        y = scores.view(-1, 2, 9, 9).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, 9, c))
        y = y.view(n, h // 3, w // 3, 3, 3, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
        return self.head((x + torch.roll(y, shifts=(1, 1), dims=(1, 2))).mean((1, 2)))


class Tokens(nn.Module):
    """Embeddings with tied output weights would be fixed; here a classifier of sentences, with RMS norm and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 24)
        self.norm = nn.RMSNorm(24)
        self.gate, self.up, self.down = nn.Linear(24, 40, bias=False), nn.Linear(24, 40, bias=False), nn.Linear(40, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        y = self.norm(x)
        return self.head((x + self.down(F.silu(self.gate(y)) * self.up(y))).mean(1))


class Parts(nn.Module):
    """Parts changed in place, windows and a grid of another size, and a resized image."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.out = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 5)

    def attend(self, x: Tensor, size: tuple[int, int], order: tuple[int, ...]) -> Tensor:
        n, c, h, w = x.shape
        bias = self.qkv.bias.clone()
        bias[c : 2 * c].zero_()
        y = x.view(n, c, h // size[0], size[0], w // size[0], size[0]).permute(order)
        rest = y.shape[:-2]
        q, k, v = F.linear(y.reshape(-1, size[1] ** 2, c), self.qkv.weight, bias).chunk(3, -1)
        y = F.scaled_dot_product_attention(q, k, v).reshape(*rest, -1, c)
        y = self.out(y).reshape(n, *y.shape[1:3], *(y.shape[3:4]), -1, c)
        return x + y.reshape(n, -1, c).transpose(1, 2).reshape(n, c, h, w)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(self.stem(x), (15, 15), mode="bicubic")
        x = x + F.interpolate(x[:, :, 3:12, 2:14], (15, 15), mode="bilinear", antialias=True)
        x = self.attend(x, (3, 3), (0, 2, 4, 3, 5, 1))
        x = self.attend(x, (5, 5), (0, 2, 4, 3, 5, 1))
        x[:, 2:10, :, 1:5].mul_(0.5)
        x[:, :, 0] = 0.25
        padded = x.new_zeros(x.shape[0], 16, 17, 15)
        padded[:, :, 1:16] = x
        return self.head(padded.amax((2, 3)) + padded.mean((2, 3)))


class Outlook(nn.Module):
    """Windows that are unfolded, mixed and folded back; windows of rows; a normalised kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(16, 3, 3, 3))
        self.weights, self.value, self.head = nn.Linear(16, 4 * 81), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        kernel = F.batch_norm(self.kernel.reshape(1, 16, -1), None, None, training=True).reshape_as(self.kernel)
        x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel).permute(0, 2, 3, 1)
        n, h, w, c = x.shape
        v = F.unfold(self.value(x).permute(0, 3, 1, 2), 3, padding=1, stride=2)
        v = v.reshape(n, 4, c // 4, 9, -1).permute(0, 1, 4, 3, 2)
        pooled = F.avg_pool2d(x.permute(0, 3, 1, 2), 2, 2, ceil_mode=True).permute(0, 2, 3, 1)
        a = self.weights(pooled).reshape(n, -1, 4, 9, 9).permute(0, 2, 1, 3, 4).softmax(-1)
        y = (a @ v).permute(0, 1, 4, 3, 2).reshape(n, c * 9, -1)
        x = x + F.fold(y, (h, w), 3, padding=1, stride=2).permute(0, 2, 3, 1)
        rows = x.unfold(1, 4, 2).mean(-1)
        return self.head(torch.addcmul(x.mean((1, 2)), rows.std((1, 2)), rows.amax((1, 2)).clamp(max=x.new_ones(()))))


class Recurrent(nn.Module):
    """An LSTM over the rows in both directions, and a GRU over the result, on a batch of windows."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(36, 16)
        self.lstm = nn.LSTM(16, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.gru, self.head = nn.GRU(16, 12), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        x = self.embed(x.permute(0, 2, 1, 3).reshape(n * 2, 6, 36))
        x, (_, memory) = self.lstm(x)
        y, last = self.gru(x.reshape(n, 12, 16).transpose(0, 1))
        return self.head(torch.cat([y.mean(0) + last[0], memory.view(4, n, 2, 8).mean((0, 2))], 1))


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet": ResNet, "mobile": Mobile, "dense": Dense, "transformer": Transformer, "windowed": Windowed, "tokens": Tokens,
    "parts": Parts, "outlook": Outlook, "recurrent": Recurrent,
}  # fmt: skip


def network(name: str) -> nn.Module:
    """A network with random weights, statistics and norms, in evaluation mode."""
    torch.manual_seed(0)
    module = NETWORKS[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1:
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(noise - 0.5 if key.endswith(("bias", "mean")) else noise + 0.5)
    return module.eval()


def example(name: str, n: int, seed: int = 2) -> Tensor:
    """Inputs for a network."""
    generator = torch.Generator().manual_seed(seed)
    if name == "tokens":
        return torch.randint(0, 50, (n, 7), generator=generator)
    return torch.randn(n, 3, 12, 12, generator=generator)


def prove(captured: Captured, example: Tensor | None = None) -> Proof:
    """The proof of all axes of a captured network; see `prove_model`."""
    return prove_model(CapturedModel("", captured.program, captured.tensors), SpaceOptions(), example=example)


def captured(name: str) -> Captured:
    """A network, captured once in this process; its tensors are the caller's."""
    found = _captured(name)
    return Captured(found.program, copy.deepcopy(dict(found.tensors)))


@cache
def _captured(name: str) -> Captured:
    return capture(network(name), [example(name, 2)])
