"""The source of a module with networks of a user's, and a place for it from which it can be imported and removed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

NAME, MODEL = "users_networks", "users_networks:build"
SOURCE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
    def forward(self, x):
        return x + self.norm(self.conv(x)).relu()

class Network(nn.Module):
    def __init__(self, width=16, classes=10, channels=1):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, stride=2)
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.last = nn.Conv2d(width, 2 * width, 1)
        self.head = nn.Linear(2 * width, classes)
    def forward(self, x):
        return self.head(self.last(self.blocks(self.stem(x))).relu().mean((2, 3)))

class Colours(Network):
    def __init__(self, classes=10):
        super().__init__(classes=classes, channels=3)

class Branching(Network):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)

class Custom(Network):
    def forward(self, x):
        return super().forward(twice(x))

class Flipping(Network):
    def forward(self, x):
        return self.head(self.last(self.blocks(self.stem(x)).flip(1)).relu().mean((2, 3)))

class Pair(Network):
    def forward(self, x):
        y = super().forward(x)
        return y, y * 2

class OfOneSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(49, 16), nn.Linear(16, 10)
    def forward(self, x):
        return self.last(self.first(x.flatten(1)).relu())

class Entangled(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 16), nn.Linear(64, 16), nn.Linear(16, 10)
    def forward(self, x):
        x = x.flatten(1)
        return self.c(self.a(x).relu()) + self.c(self.b(x).relu())

class Rigid(nn.Module):
    def __init__(self):
        super().__init__()
        self.only = nn.Linear(64, 10)
    def forward(self, x):
        return self.only(x.flatten(1))

@torch.library.custom_op("users::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return x * 2

@twice.register_fake
def _(x):
    return torch.empty_like(x)

def build(**arguments):
    return Network(**arguments)

def half():
    return Network().half()
"""


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the module, which can be imported until it is removed with `forgotten`."""
    path = folder / f"{NAME}.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    return path


def forgotten(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the module, so that importing it fails."""
    path.unlink()
    monkeypatch.delitem(sys.modules, NAME, raising=False)
