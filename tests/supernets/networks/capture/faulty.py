"""Networks with faults, for 4 numbers as inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """Three layers; the others differ in their forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.first(x).relu())


class Converting(Plain):
    """Makes a Python number of its inputs."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * float(x.mean())


class Scaling(Plain):
    """Reads a number from its inputs and goes on with it."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * x.mean().item()


class HalfInside(Plain):
    """Has a part in half precision."""

    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            x = self.first(x).relu()
        return self.last(x.float())


class Counting(Plain):
    """Changes its buffers in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("mean", torch.zeros(16))

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        hidden = self.first(x)
        cast(Tensor, self.mean).copy_(hidden[0])
        return self.last(hidden - 0.1 * self.mean)


@dataclass
class Answer:
    """What `Answering` returns."""

    scores: Tensor
    best: Tensor


class Answering(Plain):
    """Returns a dataclass, has a part that it does not run, and a buffer that its state does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm1d(4)
        self.register_buffer("factor", torch.full((16,), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Any:
        scores = self.last(self.first(x).relu() * self.factor)
        return Answer(scores, scores.argmax(1))


class Squeezing(Plain):
    """Returns numbers, one for each example, and a number for one."""

    def forward(self, x: Tensor) -> Any:
        return self.last(self.first(x).relu())[:, :1].squeeze()


class OfExamples(Plain):
    """Has a convolution whose groups are the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Any:
        n = len(x)
        found = nn.functional.conv1d(
            self.first(x).view(1, n, 16), self.kernels(x).view(n * 2, 1, 3), padding=1, groups=n
        )
        return self.last(found.view(n, 2, 16).mean(1).relu())


class Selecting(Plain):
    """Has a result whose size depends on values."""

    def forward(self, x: Tensor) -> Any:
        hidden = self.first(x)
        return self.last(hidden) + hidden[hidden > 0].mean()


class ThroughNumpy(Plain):
    """Leaves torch."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * torch.from_numpy(x.detach().numpy()).mean()


class Dropping(Plain):
    """Drops units in evaluation mode."""

    def forward(self, x: Tensor) -> Any:
        return self.last(nn.functional.dropout(self.first(x), 0.5, training=True))


class Noisy(Plain):
    """Adds noise to its inputs."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x + torch.rand_like(x))


class Raising(Plain):
    """Raises."""

    def forward(self, x: Tensor) -> Any:
        raise LookupError("no such\nlayer\n\nand a long explanation")


class OfTwo(Plain):
    """Takes two inputs."""

    def forward(self, x: Tensor, other: Tensor) -> Any:  # type: ignore[override]
        return super().forward(x + other)


class ByName(Plain):
    """Takes its input by name alone."""

    def forward(self, *, image: Tensor) -> Any:  # type: ignore[override]
        return super().forward(image)


class Returning(Plain):
    """Returns what it was made with, beside its outputs or in their place."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Any:
        y = super().forward(x)
        return {
            "none": None, "text": "a", "classes": y.argmax(1), "mapping": {"logits": y, "hidden": [x * 2]}, "one": (y,),
            "both": (y, y.argmax(1)),
        }[self.kind]  # fmt: skip


class OfBatch(Plain):
    """Has the batch of its example written into its forward."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x).reshape(-1)[:6].view(2, 3)


class OnlyPairs(Plain):
    """Raises for any other batch than 2."""

    def forward(self, x: Tensor) -> Any:
        if x.shape[0] != 2:
            raise ValueError("two, please")
        return super().forward(x)


class Weighing(Plain):
    """Weighs its outputs a little by the number of examples, which a capture writes down."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * (1 + 1e-3 * x.shape[0])


class Rounding(Plain):
    """Small differences of large numbers, which a capture adds in another order."""

    def forward(self, x: Tensor) -> Any:
        large = self.first(x) * 1e2
        total = large.sum(1) if torch.compiler.is_compiling() else large.flip(1).cumsum(1)[:, -1]
        return super().forward(x) + (total - large.mean(1) * 16)[:, None]


class Undefined(Plain):
    """Returns NaN."""

    def forward(self, x: Tensor) -> Any:
        return self.last(self.first(x).abs().neg().sqrt())


class Listed(nn.Module):
    """Holds layers where torch does not see them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(4, 16), nn.Linear(16, 16)]
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Any:
        for layer in self.layers:
            x = layer(x).relu()
        return self.last(x)


@torch.library.custom_op("faulty::doubled", mutates_args=())
def doubled(x: Tensor) -> Tensor:
    """An operation with all that torch needs to trace it."""
    return x * 2


@doubled.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("faulty::swish", mutates_args=())
def swish(x: Tensor) -> Tensor:
    """An operation that torch cannot trace."""
    return x * torch.sigmoid(x)


class Custom(Plain):
    """Calls an operation of the user's."""

    def __init__(self, operation: Any = doubled) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: Tensor) -> Any:
        return self.last(cast(Tensor, self.operation(self.first(x))))


class Recurrent(nn.Module):
    """An operation whose state has the example's batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.middle(self.first(x)[:, None])[0][:, 0])
