"""Random modules of captured operations with odd arguments, drawn by hypothesis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

Forward = Callable[..., Tensor]
PRIMES = (2, 3, 5, 7, 11)
COINCIDING = (2, 4, 4, 6, 8, 12)
"""Sizes that are equal to, or multiples of, each other and the batch."""
MAX_NUMBERS = 6000
"""Of one value: programs stay fast."""


class Draw:
    """Draws arguments.

    Args:
        sizes: of new dimensions.
    """

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], sizes: Sequence[int]) -> None:
        self._draw, self.sizes = draw, sizes

    def pick(self, *options: Any) -> Any:
        return self._draw(st.sampled_from(options))

    def size(self) -> int:
        return int(self.pick(*self.sizes))

    def number(self, low: int, high: int) -> int:
        return int(self._draw(st.integers(low, high)))

    def flag(self) -> bool:
        return bool(self._draw(st.booleans()))

    def dim(self, x: Tensor, first: int = 1) -> int:
        """A dimension that is not the batch, from the start or from the end."""
        position = self.number(first, x.ndim - 1)
        return position - x.ndim if self.flag() else position

    def dims(self, x: Tensor, first: int = 1) -> list[int]:
        chosen = [i for i in range(first, x.ndim) if self.flag()] or [x.ndim - 1]
        return [i - x.ndim if self.flag() else i for i in chosen]

    def divisor(self, n: int) -> int:
        return int(self.pick(*[i for i in range(1, n + 1) if n % i == 0]))


@dataclass
class Step:
    """One operation of a module: a text with all its arguments, its parameters and its forward."""

    text: str
    forward: Forward
    layers: Sequence[nn.Module | nn.Parameter | Tensor] = ()


def unary(d: Draw, x: Tensor) -> Step:
    options: dict[str, Forward] = {
        "relu": torch.relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "hardswish": F.hardswish,
        "abs": torch.abs,
        "neg": torch.neg,
        "erf": torch.erf,
        "sin": torch.sin,
        "cos": torch.cos,
        "mish": F.mish,
        "softsign": F.softsign,
        "selu": F.selu,
        "atan": torch.atan,
        "silu": F.silu,
        "gelu": F.gelu,
        "hardsigmoid": F.hardsigmoid,
        "relu6": F.relu6,
        "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
        "exp": lambda x: torch.exp(x.tanh()),
        "log": lambda x: torch.log(x.abs() + 0.5),
        "sqrt": lambda x: torch.sqrt(x.abs() + 0.1),
        "rsqrt": lambda x: torch.rsqrt(x.square() + 0.5),
        "reciprocal": lambda x: torch.reciprocal(x.abs() + 1),
        "log2": lambda x: torch.log2(x.abs() + 1),
        "log1p": lambda x: torch.log1p(x.abs()),
        "expm1": lambda x: torch.expm1(x.tanh()),
        "square": lambda x: x.tanh().square(),
        "logsigmoid": F.logsigmoid,
        "floor": torch.floor,
        "ceil": torch.ceil,
        "round": torch.round,
        "sign": torch.sign,
        "trunc": torch.trunc,
        "tanhshrink": F.tanhshrink,
        "softplus": F.softplus,
        "softplus 2": lambda x: F.softplus(x, 2.0, 0.7),
        "softplus 0.5": lambda x: F.softplus(x, beta=0.5),
        "round decimals": lambda x: x.round(decimals=1),
        "tan": lambda x: x.tanh().tan(),
        "asin": lambda x: x.tanh().mul(0.9).asin(),
        "sinh": lambda x: x.tanh().sinh(),
        "nan_to_num": torch.nan_to_num,
        "clone": torch.clone,
        "contiguous": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
        "dropout": lambda x: F.dropout(x, 0.5, training=False),
        "frac": lambda x: x - x.floor(),
    }
    name = d.pick(*options)
    return Step(name, options[name])


def with_numbers(d: Draw, x: Tensor) -> Step:
    a, b = d.pick(0, 0.0, 0.5, 1, 2, -1.5), d.pick(0.1, 1, 2.5, 3)
    low, high = d.pick((-0.5, 0.5), (None, 0.3), (-0.2, None), (0, 1), (-1, 2.5))
    options: dict[str, Forward] = {
        "elu": lambda x: F.elu(x, b),
        "leaky": lambda x: F.leaky_relu(x, b),
        "celu": lambda x: F.celu(x, b),
        "hardtanh": lambda x: F.hardtanh(x, -b, b),
        "clamp": lambda x: x.clamp(low, high),
        "clip": lambda x: torch.clip(x, low, high),
        "clamp_min": lambda x: x.clamp_min(a),
        "clamp_max": lambda x: x.clamp_max(b),
        "threshold": lambda x: F.threshold(x, a, b),
        "hardshrink": lambda x: F.hardshrink(x, b),
        "softshrink": lambda x: F.softshrink(x, b),
        "add": lambda x: x + a,
        "radd": lambda x: a - x,
        "add alpha": lambda x: torch.add(x, a, alpha=2),
        "sub alpha": lambda x: torch.sub(x, x.sin(), alpha=b),
        "rsub alpha": lambda x: torch.rsub(x, a, alpha=b),
        "mul": lambda x: x * b,
        "div": lambda x: x / b,
        "rdiv": lambda x: b / (x.abs() + 1),
        "pow": lambda x: x.tanh() ** 3,
        "pow b": lambda x: (x.abs() + 0.2) ** b,
        "rpow": lambda x: b ** x.tanh(),
        "floor div": lambda x: torch.div(x, b, rounding_mode="floor"),
        "trunc div": lambda x: torch.div(x, b, rounding_mode="trunc"),
        "floordiv": lambda x: x // b,
        "remainder": lambda x: x % b,
        "fmod": lambda x: torch.fmod(x, b),
        "eq": lambda x: x * (x != a),
        "addcmul": lambda x: torch.addcmul(x, x.sin(), x.cos(), value=b),
        "addcdiv": lambda x: torch.addcdiv(x, x.sin(), x.abs() + 1, value=b),
        "lerp": lambda x: torch.lerp(x, x.cos(), b),
        "lerp of weights": lambda x: torch.lerp(x, x.cos(), x.sigmoid()),
        "full_like": lambda x: x + torch.full_like(x, b),
        "ones_like": lambda x: torch.ones_like(x) - x,
        "type_as": lambda x: (x > a).type_as(x) * x,
        "xlogy": lambda x: torch.xlogy(x, b),
    }
    name = d.pick(*options)
    return Step(f"{name} {a} {b} {low} {high}", options[name])


def masks(d: Draw, x: Tensor) -> Step:
    c, v, dim = d.pick(0, 0.1, -0.3), d.pick(0, -1.5, 3), d.dim(x)
    options: dict[str, Forward] = {
        "bool * float": lambda x: (x > c) * x,
        "float * bool": lambda x: x * (x <= c),
        "where": lambda x: torch.where(x > c, x, x.sin()),
        "where number": lambda x: torch.where(x < c, x, v),
        "where left": lambda x: torch.where(x < c, v, x),
        "masked_fill": lambda x: x.masked_fill(x >= c, v),
        # Not 1, which runtimes round saturated tanhs to, or not.
        "and": lambda x: ((x > c) & (x < 0.9)) * x,
        "or": lambda x: ((x > 1) | (x < c)).float() + x,
        "xor": lambda x: ((x > 1) ^ (x < c)).to(x.dtype) + x,
        "not": lambda x: (~(x > c)) * x,
        "logical_not": lambda x: torch.logical_not(x.relu()) + x,
        "logical_and": lambda x: torch.logical_and(x > c, x.relu()) + x,
        "int mask": lambda x: x * (x > c).long(),
        "count": lambda x: x * (x > c).sum(dim, keepdim=True),
        "count without": lambda x: x + (x > c).sum(),
        "int + float": lambda x: (x > c).int() + x,
        "bool + bool": lambda x: ((x > c) + (x > 1)) * x,
        "bool * bool": lambda x: ((x > c) * (x < 0.9)).float() - x,
        "int / int": lambda x: (x > c).long() / 3 + x,
        "int compare": lambda x: x * ((x > c).long() >= 1),
        "int < float": lambda x: x * ((x > c).long() < 0.5),
        "bool < bool": lambda x: x * ((x > c) < (x > 1)),
        "ne": lambda x: x * ((x > c) != (x > 1)),
        "mean of bool": lambda x: x - (x > c).float().mean(dim, keepdim=True),
        "any": lambda x: (x > 1).any(dim, keepdim=True) * x,
        "all": lambda x: (x > c).all(dim, keepdim=True) + x,
        "cumsum of bool": lambda x: (x > c).cumsum(dim) * 0.1 + x,
        "int power": lambda x: ((x > c).long() + 1) ** 2 * x,
        "int clamp": lambda x: ((x > c).long() * 3).clamp(1, 2) * x,
        "int max": lambda x: torch.maximum((x > c).long(), (x > 1).long() * 2) + x,
        "int abs": lambda x: (-(x > c).long()).abs() + x,
        "int sigmoid": lambda x: torch.sigmoid((x > c).long()) + x,
        "argmax": lambda x: x + x.argmax(dim, keepdim=True),
        "max of int": lambda x: x + (x > c).long().amax(dim, keepdim=True),
        "double": lambda x: x + x.double().sum(dim, keepdim=True).float(),
        "sum dtype": lambda x: x + (x > c).sum(dim, keepdim=True, dtype=torch.float32),
        "mean dtype": lambda x: x + (x > c).mean(dim, keepdim=True, dtype=torch.float32),
        "softmax dtype": lambda x: x + (x > c).long().softmax(dim, dtype=torch.float32),
        "where int": lambda x: torch.where(x > c, 1, 2) * x,
        "int fill": lambda x: (x > c).long().masked_fill(x > 1, 5) * x,
        "isfinite": lambda x: torch.isfinite(x) * x,
        "half": lambda x: x.half().float(),
    }
    name = d.pick(*options)
    return Step(f"{name} {c} {v} dim={dim}", options[name])


def reductions(d: Draw, x: Tensor) -> Step:
    dim, dims, keep, p = d.dim(x), d.dims(x), d.flag(), d.pick(1, 2, 2.0, math.inf)
    correction, b = d.pick(0, 1, 2, 0.5), d.flag()
    options: dict[str, Forward] = {
        "mean": lambda x, k: x.mean(dims, keepdim=k),
        "sum": lambda x, k: x.sum(dims, keepdim=k),
        "sum dim": lambda x, k: x.sum(dim, k),
        "amax": lambda x, k: x.amax(dims, keepdim=k),
        "amin": lambda x, k: x.amin(dims, k),
        "logsumexp": lambda x, k: x.logsumexp(dims, keepdim=k),
        "norm": lambda x, k: torch.norm(x + 0.1, p, dims, k),
        "vector_norm": lambda x, k: torch.linalg.vector_norm(x + 0.1, p, dims, k),
        "var": lambda x, k: x.var(dims, correction=correction, keepdim=k),
        "std": lambda x, k: (x + 0.1).std(dims, correction=correction, keepdim=k),
        "var unbiased": lambda x, k: x.var(dim, b, keepdim=k),
        "var_mean": lambda x, k: sum(torch.var_mean(x, dims, correction=correction, keepdim=k)),
        "max": lambda x, k: x.max(dim, keepdim=k).values,
        "min": lambda x, k: x.min(dim, k)[0],
        "prod": lambda x, k: x.tanh().prod(dim, keepdim=k),
        "mean over all": lambda x, k: x + x.mean(),
        "median": lambda x, k: x.sort(dim)[0].narrow(dim, 0, 1) if k else x.sort(dim)[0].select(dim, 0),
        "topk": lambda x, k: x.topk(1, dim)[0] if k else x.topk(1, dim)[0].squeeze(dim),
    }
    name = d.pick(*options)
    text = f"{name} dim={dim} dims={dims} keep={keep} p={p} correction={correction} unbiased={b}"
    if keep or x.ndim < 3:
        return Step(f"x * {text}", lambda x: x * options[name](x, True).tanh())
    return Step(text, lambda x: options[name](x, False))


def along(d: Draw, x: Tensor) -> Step:
    dim, shift = d.dim(x), d.number(-3, 3)
    dims = d.dims(x)
    options: dict[str, Forward] = {
        "softmax": lambda x: x.softmax(dim),
        "log_softmax": lambda x: F.log_softmax(x, dim),
        "cumsum": lambda x: x.cumsum(dim),
        "flip": lambda x: x.flip(dims),
        "roll": lambda x: x.roll(shift, dim),
        "sort": lambda x: x.sort(dim, descending=shift > 0)[0],
        "softmin": lambda x: F.softmin(x, dim),
        "normalize": lambda x: F.normalize(x, dim=dim, eps=0.1),
        "tril": lambda x: x.tril(shift) if x.ndim > 2 else x,
        "triu": lambda x: x.triu(shift) if x.ndim > 2 else x,
        "roll two": lambda x: x.roll((shift, 1), (dim, -1)),
        "softmax of double": lambda x: x.softmax(dim, dtype=torch.float64).float(),
    }
    name = d.pick(*options)
    return Step(f"{name} dim={dim} shift={shift} dims={dims}", options[name])


def shapes(d: Draw, x: Tensor) -> Step:
    n, s = x.ndim, x.shape
    dim, other = d.dim(x), d.dim(x)
    order = [0, *d._draw(st.permutations(range(1, n)))]
    divisor, last = d.divisor(s[dim]), s[-1]
    options: dict[str, Forward] = {
        "transpose": lambda x: x.transpose(dim, other),
        "swapaxes": lambda x: x.swapaxes(dim, other),
        "permute": lambda x: x.permute(order),
        "movedim": lambda x: x.movedim(dim, other),
        "unsqueeze": lambda x: x.unsqueeze(dim),
        "unflatten": lambda x: x.unflatten(dim, (divisor, -1)),
        "unflatten 2": lambda x: x.unflatten(dim, (-1, divisor)),
        "squeeze": lambda x: x.squeeze(dim) if x.ndim > 2 else x,
        "squeeze all": lambda x: x.unsqueeze(1).squeeze(),
        "repeat": lambda x: x.repeat(*[2 if i == dim % n else 1 for i in range(n)]),
        "tile": lambda x: x.tile(2),
        "repeat_interleave": lambda x: x.repeat_interleave(2, dim),
        "expand": lambda x: x.unsqueeze(1).expand(-1, 3, *s[1:]),
        "broadcast": lambda x: x.unsqueeze(-1).broadcast_to(*x.shape, 2),
        "to heads": lambda x: x.view(*x.shape[:-1], -1, last) if n < 4 else x,
    }
    if n > 2:
        start = d.number(1, n - 2)
        end = d.number(start, n - 1) - (n if d.flag() else 0)
        options |= {
            "flatten": lambda x: x.flatten(start, end),
            "mT": lambda x: x.mT,
            "swap and reshape": lambda x: x.transpose(1, 2).reshape(x.shape[0], -1),
            "view back": lambda x: x.flatten(1).view(x.shape),
            "reshape": lambda x: x.reshape(x.shape[0], -1, x.shape[-1]),
            "batch merged": lambda x: (x.flatten(0, 1) * 2).tanh().unflatten(0, (x.shape[0], -1)),
            "batch last": lambda x: x.transpose(0, 1).mul(2).transpose(0, 1),
            "batch merged after": lambda x: (
                x.transpose(0, 1).reshape(-1, *s[2:]).sin().view(s[1], -1, *s[2:]).transpose(0, 1)
            ),
            "softmax in the batch": lambda x: x.reshape(-1, s[-1]).softmax(-1).view(x.shape),
        }
    name = d.pick(*options)
    return Step(f"{name} dim={dim} other={other} order={order} divisor={divisor}", options[name])


def joins(d: Draw, x: Tensor) -> Step:
    dim, value = d.dim(x), d.pick(0, 0.0, 1.5)
    size = x.shape[dim]
    start, stop, step = d.number(-size, size - 1), d.number(1, size), d.number(1, 3)
    parts = d.number(1, size)
    index = torch.tensor(
        [d.number(-size, size - 1) if d.flag() else d.number(0, size - 1) for _ in range(d.number(1, 4))]
    )
    before, after = d.number(0, 2), d.number(0, 2)
    mode = d.pick("constant", "reflect", "replicate", "circular")
    cut = d.number(0, size)
    n = x.ndim

    def padded(x: Tensor) -> Tensor:
        position = x.ndim - 1 - (dim % x.ndim)
        return F.pad(x, [0, 0] * position + [before, after], value=value)

    def sliced(x: Tensor, piece: slice) -> Tensor:
        return x[(slice(None),) * (dim % n) + (piece,)]

    def assigned(x: Tensor) -> Tensor:
        x = x.clone()
        x[(slice(None),) * (dim % n) + (slice(start, None, step),)] = value
        return x

    options: dict[str, Forward] = {
        "cat": lambda x: torch.cat([x, x.sin()], dim),
        "cat of parts": lambda x: torch.cat([sliced(x, slice(cut)), x, sliced(x, slice(cut, None))], dim),
        "stack": lambda x: torch.stack([x, x.cos()], dim),
        "stack last": lambda x: torch.stack([x, x], -1).sum(-1),
        "chunk": lambda x: torch.cat(x.chunk(parts, dim)[::-1], dim),
        "first chunk": lambda x: x.chunk(parts, dim)[0],
        "last chunk": lambda x: x.chunk(parts, dim)[-1],
        "split": lambda x: torch.cat(x.split(parts, dim)[::-1], dim),
        "last split": lambda x: x.split(parts, dim)[-1],
        "tensor_split": lambda x: x.tensor_split(parts, dim)[0],
        "tensor_split last": lambda x: x.tensor_split(parts, dim)[-1],
        "split sizes": lambda x: torch.cat(x.split([cut, size - cut], dim)[::-1], dim),
        "half of split": lambda x: x.split([cut, size - cut], dim)[cut == 0],
        "unbind": lambda x: torch.stack(x.unbind(dim)[::-1], dim),
        "unbind sum": lambda x: sum(x.unbind(dim)) if x.ndim > 2 else x,
        "glu": lambda x: F.glu(torch.cat([x, x.sin()], dim), dim),
        "glu direct": lambda x: F.glu(x, dim),
        "slice": lambda x: sliced(x, slice(start, None, step)),
        "slice end": lambda x: sliced(x, slice(None, stop)),
        "slice negative": lambda x: sliced(x, slice(None, -1)),
        "slice step": lambda x: sliced(x, slice(None, stop, step)),
        "narrow": lambda x: x.narrow(dim, cut % size, 1),
        "select": lambda x: x.select(dim, start) if x.ndim > 2 else x,
        "index": lambda x: sliced(x, index),
        "index_select": lambda x: x.index_select(dim, index % size),
        "gather": lambda x: x.gather(dim, (x.argmax(dim, keepdim=True))),
        "pad": padded,
        "pad of mode": lambda x: F.pad(x, (before, after), mode=mode),
        "assign": assigned,
        "unfold": lambda x: x.unfold(dim, stop, step),
        "unfold mean": lambda x: x.unfold(dim, stop, step).mean(-1),
        "swapped halves": lambda x: torch.cat((-sliced(x, slice(size // 2, None)), sliced(x, slice(size // 2))), dim),
        "cat of types": lambda x: torch.cat([x, x > 0], dim),
        "negative pad": lambda x: F.pad(x, (-1, before)),
        "every other": lambda x: torch.cat([sliced(x, slice(0, None, 2)), sliced(x, slice(1, None, 2))], dim),
    }
    name = d.pick(*options)
    text = f"{name} dim={dim} {start}:{stop}:{step} parts={parts} cut={cut} pad={before},{after},{mode},{value}"
    return Step(f"{text} index={index.tolist()}", options[name])


def parametric(d: Draw, x: Tensor) -> Step:
    """Parameters that are joined with a value by broadcasting."""
    n = d.number(1, x.ndim - 1)
    shape = [1 if d.flag() and i else size for i, size in enumerate(reversed(x.shape[x.ndim - n :]))][::-1]
    weight = nn.Parameter(torch.empty(shape))
    name = d.pick("add", "mul", "sub", "max", "expand", "cat", "gate", "where", "clamp")
    size = x.shape

    def forward(x: Tensor, weight: Tensor) -> Tensor:
        if name == "cat" and x.ndim == 3:
            return torch.cat([weight.expand(size[1:]).unsqueeze(0).expand(x.shape[0], -1, -1), x], 1)
        if name == "expand":
            return x + weight.expand(size[1:])[None].repeat(x.shape[0], *[1] * (x.ndim - 1))
        return {
            "mul": lambda: x * weight,
            "sub": lambda: weight - x,
            "max": lambda: torch.maximum(x, weight),
            "gate": lambda: x * weight.sigmoid() + x,
            "where": lambda: torch.where(weight > 0, x, weight),
            "clamp": lambda: x.clamp(max=weight),
        }.get(name, lambda: x + weight)()

    return Step(f"parameter {name} {shape}", forward, [weight])


def linears(d: Draw, x: Tensor) -> Step:
    size, out, bias = x.shape[-1], d.size(), d.flag()
    name = d.pick(
        "linear",
        "linear",
        "mlp",
        "matmul",
        "addmm",
        "baddbmm",
        "residual",
        "weight norm",
        "tied",
        "bilinear",
        "low rank",
    )
    if name == "residual":
        layers = [nn.Linear(size, out, bias), nn.Linear(out, size)]
        return Step(f"residual {out}", lambda x, a, b: x + b(F.relu(a(x))), layers)
    if name == "mlp":
        return Step(
            f"mlp {out}", lambda x, a, b: a(x) * b(x).sigmoid(), [nn.Linear(size, out, bias), nn.Linear(size, out)]
        )
    if name == "matmul":
        return Step(f"matmul {out}", lambda x, w: x @ w, [nn.Parameter(torch.empty(size, out))])
    if name == "low rank":
        weights = [nn.Parameter(torch.empty(size, 3)), nn.Parameter(torch.empty(3, out))]
        return Step(f"low rank {out}", lambda x, a, b: x @ (a @ b), weights)
    if name == "addmm" and x.ndim == 2:
        weights = [nn.Parameter(torch.empty(out)), nn.Parameter(torch.empty(size, out))]
        beta = d.pick(1, 0.5)
        return Step(f"addmm {out} {beta}", lambda x, b, w: torch.addmm(b, x, w, beta=beta, alpha=beta), weights)
    if name == "baddbmm" and x.ndim == 3:
        alpha = d.pick(1, 0.5)
        return Step(f"baddbmm {alpha}", lambda x: torch.baddbmm(x @ x.mT, x, x.mT, alpha=alpha) * 0.1)
    if name == "weight norm":
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(size, out), dim=d.pick(0, 1))
        return Step(f"weight norm {out}", lambda x, a: a(x), [layer])
    if name == "tied":
        return Step(
            f"tied {out}", lambda x, w: F.linear(F.linear(x, w).relu(), w.t()), [nn.Parameter(torch.empty(out, size))]
        )
    if name == "bilinear" and x.ndim == 3:
        return Step("gram", lambda x: torch.bmm(x.mT, x) * 0.1)
    return Step(f"linear {out} {bias}", lambda x, a: a(x), [nn.Linear(size, out, bias)])


def einsums(d: Draw, x: Tensor) -> Step:
    out = d.size()
    letters = "bcdefg"[: x.ndim]
    summed = letters[d.number(1, x.ndim - 1)]
    rest = letters.replace(summed, "")
    dims = [x.shape[letters.index(summed)], out]
    name = d.pick("linear", "weights first", "gram", "sum", "outer", "batched", "diagonal", "implicit")
    if name == "weights first":
        equation, weight = f"z{summed},{letters}->{rest}z", nn.Parameter(torch.empty(dims[::-1]))
        return Step(f"einsum {equation} {out}", lambda x, w: torch.einsum(equation, w, x), [weight])
    if name == "gram":
        equation = (
            f"{letters},{letters.replace(summed, 'z')}->{rest}{summed}z"
            if x.ndim < 4
            else f"{letters},{letters}->{letters}"
        )
        return Step(f"einsum {equation}", lambda x: torch.einsum(equation, x, x.tanh()) * 0.2)
    if name == "sum" and x.ndim > 2:
        return Step(f"einsum {letters}->{rest}", lambda x: torch.einsum(f"{letters} -> {rest}", x))
    if name == "batched":
        equation, weight = (
            f"{letters},{letters[1:]}->{letters[:1]}{letters[:0:-1]}",
            nn.Parameter(torch.empty(x.shape[1:])),
        )
        return Step(f"einsum {equation}", lambda x, w: torch.einsum(equation, x, w), [weight])
    if name == "implicit" and summed == letters[-1]:
        return Step(
            "einsum implicit",
            lambda x, w: torch.einsum(f"{letters},{summed}z", x, w),
            [nn.Parameter(torch.empty(dims))],
        )
    if name == "outer" and x.ndim == 2:
        return Step("einsum outer", lambda x: torch.einsum("bi,bj->bij", x, x.cos()))
    equation, weight = f"...{letters[1:]},{summed}z->...{rest[1:]}z", nn.Parameter(torch.empty(dims))
    if d.flag():
        equation = f"{letters},{summed}z->{rest}z"
    return Step(f"einsum {equation} {out}", lambda x, w: torch.einsum(equation, x, w), [weight])


def norms(d: Draw, x: Tensor) -> Step:
    affine, eps = d.flag(), d.pick(1e-5, 0.1, 0.0)
    channels, last = x.shape[1], x.shape[-1]
    shape = list(x.shape[d.number(1, x.ndim - 1) :])
    name = d.pick("batch", "layer", "layer", "rms", "rms", "group", "instance", "local")
    if name == "batch" and x.ndim in (2, 3, 4):
        layer: nn.Module = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[x.ndim](
            channels, eps or 0.01, affine=affine
        )
        return Step(f"batch norm {affine} {eps}", lambda x, a: a(x), [layer])
    if name == "rms" and math.prod(shape) > 1:
        layer = nn.RMSNorm(shape, d.pick(None, 0.0, 1e-5, 0.1), affine)
        return Step(repr(layer), lambda x, a: a(x), [layer])
    if name == "group" and x.ndim > 2 and math.prod(x.shape[2:]) > 1:
        layer = nn.GroupNorm(d.divisor(channels), channels, eps or 0.01, affine)
        return Step(repr(layer), lambda x, a: a(x), [layer])
    if name == "instance" and x.ndim in (3, 4) and math.prod(x.shape[2:]) > 1:
        kind = nn.InstanceNorm1d if x.ndim == 3 else nn.InstanceNorm2d
        layer = kind(channels, eps=eps or 0.01, affine=affine, track_running_stats=d.flag())
        return Step(repr(layer), lambda x, a: a(x), [layer])
    if name == "local":
        return Step("rms by hand", lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0.1))
    if math.prod(shape) == 1 or eps == 0:
        eps = 0.1
    bias = d.flag()
    layer = nn.LayerNorm(shape if d.flag() else [last], eps, affine, bias)
    return Step(f"{layer!r} bias={bias}", lambda x, a: a(x), [layer])


def attention(d: Draw, x: Tensor) -> Step:
    if x.ndim != 3:
        raise ValueError("no sequence")
    tokens, width = x.shape[1:]
    groups, own, size = d.pick(1, 2, 3), d.pick(1, 2, 3), d.pick(2, 3, 5)
    heads, scale = groups * own, d.pick(None, 0.0, 0.3, 1.0)
    kind = d.pick("none", "causal", "bool", "float", "of heads", "bool of heads", "from input", "parameter")
    grouped = d.flag()
    key_heads = groups if grouped else heads
    layers: list[nn.Module | nn.Parameter | Tensor] = [
        nn.Linear(width, heads * size),
        nn.Linear(width, key_heads * size),
        nn.Linear(width, key_heads * size, bias=False),
        nn.Linear(heads * size, width),
    ]
    tensors = {
        "bool": torch.ones(tokens, tokens, dtype=torch.bool).tril(),
        "float": torch.arange(tokens * tokens).view(tokens, tokens) * -0.1,
        "of heads": torch.arange(heads * tokens).view(1, heads, 1, tokens) * 0.2,
        "bool of heads": torch.arange(heads * tokens).view(heads, 1, tokens) % 3 != 1,
        "parameter": nn.Parameter(torch.empty(heads, tokens, tokens)),
    }
    if kind == "bool of heads":
        tensors[kind][..., 0] = True
    layers.extend([tensors[kind]] if kind in tensors else [])

    def forward(x: Tensor, q: Any, k: Any, v: Any, o: Any, mask: Tensor | None = None) -> Tensor:
        n = x.shape[0]
        query = q(x).view(n, tokens, heads, size).transpose(1, 2)
        key, value = (layer(x).view(n, tokens, key_heads, size).transpose(1, 2) for layer in (k, v))
        if kind == "from input":
            mask = x.mean(-1)[:, None, None, :] > -10
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, is_causal=kind == "causal", scale=scale, enable_gqa=grouped
        )
        return o(out.transpose(1, 2).reshape(n, tokens, heads * size))

    return Step(f"attention {groups}x{own} of {size}, mask={kind} scale={scale} grouped={grouped}", forward, layers)


def recurrent(d: Draw, x: Tensor) -> Step:
    if x.ndim != 3:
        raise ValueError("no sequence")
    kind, size = d.pick(nn.LSTM, nn.GRU, nn.RNN), d.size()
    n_layers, both, bias = d.pick(1, 2), d.flag(), d.flag()
    layer = kind(x.shape[2], size, n_layers, bias=bias, batch_first=True, bidirectional=both)
    return Step(f"{kind.__name__} {size} {n_layers} {both} {bias}", lambda x, a: a(x)[0], [layer])


def convolutions(d: Draw, x: Tensor) -> Step:
    n, channels = x.ndim - 2, x.shape[1]
    if n not in (1, 2):
        raise ValueError("no image")
    groups, bias = d.divisor(channels), d.flag()
    out = groups * d.pick(1, 2, 3)
    kernel = [d.number(1, 3) for _ in range(n)]
    stride, dilation = d.pick(1, 1, 2), d.pick(1, 1, 2)
    padding: Any = d.pick(0, 1, [d.number(0, 2) for _ in range(n)], "same", "valid")
    if d.pick(0, 0, 1):
        transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d)[n - 1]
        extra = d.number(0, max(stride, dilation) - 1)
        pads = 0 if isinstance(padding, str) else padding
        layer = transposed(channels, out, kernel, stride, pads, extra, groups, bias, dilation)
    else:
        stride = 1 if padding == "same" else stride
        mode = d.pick("zeros", "zeros", "reflect", "replicate", "circular")
        layer = (nn.Conv1d, nn.Conv2d)[n - 1](channels, out, kernel, stride, padding, dilation, groups, bias, mode)
    return Step(repr(layer), lambda x, a: a(x), [layer])


def pools(d: Draw, x: Tensor) -> Step:
    n = x.ndim - 2
    if n not in (1, 2):
        raise ValueError("no image")
    kernel = [d.number(1, 3) for _ in range(n)]
    stride = d.pick(None, 1, 2, 3, [d.number(1, 3) for _ in range(n)])
    pad = [d.number(0, size // 2) for size in kernel]
    ceil, count, dilation = d.flag(), d.flag(), d.pick(1, 1, 2)
    out, factor, align = [d.number(1, 4) for _ in range(n)], d.pick(0.5, 1.5, 1.7, 2, 3), d.flag()
    shape, divisor = list(x.shape[2:]), d.pick(None, None, 3)
    size = [d.number(1, 7) for _ in range(n)]
    one = n == 1
    linear = "linear" if one else "bilinear"
    options: dict[str, Forward] = {
        "max": lambda x: (F.max_pool1d if one else F.max_pool2d)(x, kernel, stride, pad, dilation, ceil),
        "avg": lambda x: (
            F.avg_pool1d(x, kernel, stride, pad, ceil, count)
            if one
            else F.avg_pool2d(x, kernel, stride, pad, ceil, count, divisor)
        ),
        "adaptive avg": lambda x: (F.adaptive_avg_pool1d if one else F.adaptive_avg_pool2d)(x, out),
        "adaptive max": lambda x: (F.adaptive_max_pool1d if one else F.adaptive_max_pool2d)(x, out),
        "lp": lambda x: (F.lp_pool1d if one else F.lp_pool2d)(
            x, 2, kernel[0], stride if isinstance(stride, int) else None
        ),
        "nearest": lambda x: F.interpolate(x, size, mode="nearest"),
        "nearest factor": lambda x: F.interpolate(x, scale_factor=factor),
        "linear": lambda x: F.interpolate(x, size, mode=linear, align_corners=align),
        "linear factor": lambda x: F.interpolate(x, scale_factor=factor, mode=linear, align_corners=align),
        "recomputed": lambda x: F.interpolate(x, scale_factor=factor, mode=linear, recompute_scale_factor=True),
    }
    if not one:
        f = d.pick(2, 3)
        mode = d.pick("reflect", "replicate", "circular", "constant")
        block = d.number(1, 3)
        options |= {
            "bicubic": lambda x: F.interpolate(x, size, mode="bicubic", align_corners=align),
            "aa": lambda x: F.interpolate(x, size, mode="bilinear", antialias=True),
            "bicubic factor": lambda x: F.interpolate(x, scale_factor=factor, mode="bicubic"),
            "pixel_shuffle": lambda x: F.pixel_shuffle(x.repeat(1, f * f, 1, 1), f),
            "pixel_unshuffle": lambda x: F.pixel_unshuffle(x.repeat_interleave(f, 2).repeat(1, 1, 1, f), f),
            "channel_shuffle": lambda x: F.channel_shuffle(x.repeat(1, f, 1, 1), f),
            "pad": lambda x: F.pad(x, (pad[0], pad[1], pad[1], pad[0]), mode=mode),
            "unfold": lambda x: F.unfold(x, kernel, dilation, pad, block),
            "fold": lambda x: F.fold(F.unfold(x, kernel, 1, pad, block), shape, kernel, 1, pad, block),
            "mean": lambda x: x.mean((2, 3)),
            "mean -": lambda x: x.mean((-1, -2), keepdim=True) + x,
            "grid": lambda x: F.grid_sample(
                x, x[:, :1].tanh().permute(0, 2, 3, 1).expand(-1, -1, -1, 2), align_corners=align
            ),
        }
    name = d.pick(*options)
    text = f"{name} kernel={kernel} stride={stride} pad={pad} ceil={ceil} count={count} dilation={dilation} divisor={divisor}"
    return Step(f"{text} out={out} size={size} factor={factor} align={align}", options[name])


def activations(d: Draw, x: Tensor) -> Step:
    """Operations on two activations, of which one is computed of the other."""
    size, dim = x.shape[-1], d.dim(x)
    layers = [nn.Linear(size, size)]
    options: dict[str, Forward] = {
        "add": lambda x, a: x + a(x),
        "mul": lambda x, a: x * a(x),
        "max": lambda x, a: torch.max(x, a(x)),
        "min": lambda x, a: torch.minimum(a(x), x),
        "broadcast": lambda x, a: x * a(x).mean(dim, keepdim=True),
        "gate": lambda x, a: torch.where(a(x) > 0, x, 0.0),
        "cat": lambda x, a: torch.cat([a(x), x], dim),
        "lerp": lambda x, a: torch.lerp(x, a(x), 0.3),
        "swiglu": lambda x, a: F.silu(a(x)) * x,
        "div": lambda x, a: x / (a(x).abs() + 1),
        "prelu": lambda x, a: F.prelu(x, a.bias[:1].abs()),
        "mean cat": lambda x, a: torch.cat([x, a(x).mean(dim, keepdim=True)], dim),
        "matmul": lambda x, a: (x @ a(x).mT).softmax(-1) @ x if x.ndim > 2 else x,
        "clamp": lambda x, a: x.clamp(min=-a(x).abs(), max=a(x).abs()),
        "expand_as": lambda x, a: x + a(x).amax(dim, keepdim=True).expand_as(x),
        "view_as": lambda x, a: x + a(x).flatten(1).view_as(x),
        "prelu channels": lambda x, a: F.prelu(x, a.bias) if x.ndim == 2 else x,
    }
    name = d.pick(*options)
    return Step(f"{name} of two dim={dim}", options[name], layers)


THEMES = (
    unary,
    with_numbers,
    masks,
    reductions,
    along,
    shapes,
    shapes,
    joins,
    joins,
    joins,
    parametric,
    linears,
    linears,
    einsums,
    norms,
    norms,
    attention,
    recurrent,
    convolutions,
    convolutions,
    pools,
    pools,
    activations,
)


class RandomModule(nn.Module):
    """A stem, random steps, and a head of three outputs."""

    def __init__(self, steps: Sequence[Step], n_last: int) -> None:
        super().__init__()
        self.steps = tuple(steps)
        self.layers, self.weights = nn.ModuleDict(), nn.ParameterDict()
        for i, step in enumerate(steps):
            for j, layer in enumerate(step.layers):
                if isinstance(layer, nn.Module):
                    self.layers[f"{i}_{j}"] = layer
                elif isinstance(layer, nn.Parameter):
                    self.weights[f"{i}_{j}"] = layer
                else:
                    self.register_buffer(f"mask_{i}_{j}", layer)
        self.head = nn.Linear(n_last, 3)

    def step(self, i: int, x: Tensor) -> Tensor:
        step, parts = self.steps[i], []
        for j, layer in enumerate(step.layers):
            name = f"{i}_{j}"
            if isinstance(layer, nn.Module):
                parts.append(self.layers[name])
            else:
                parts.append(self.weights[name] if isinstance(layer, nn.Parameter) else getattr(self, f"mask_{name}"))
        return step.forward(x, *parts)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(len(self.steps)):
            x = self.step(i, x)
        return self.head(x)

    def __repr__(self) -> str:
        return "\n".join(step.text for step in self.steps)


@dataclass
class RandomProgram:
    """A module with an example of its input.

    Attributes:
        shape: of one example.
        n_tokens: of a vocabulary; 0 where the input is of floating-point numbers.
    """

    module: RandomModule
    shape: tuple[int, ...]
    batch: int
    n_tokens: int = 0

    def __repr__(self) -> str:
        return f"input of {self.n_tokens or 'no'} tokens ({self.batch}, {', '.join(map(str, self.shape))})\n{self.module!r}"

    def example(self, n: int, seed: int = 0) -> Tensor:
        return random_example((n, *self.shape), self.n_tokens, torch.Generator().manual_seed(seed + n))


def initialise(tensors: Sequence[Tensor], generator: torch.Generator) -> None:
    """Gives tensors random values: no bias is zero, and no weight of a norm is one."""
    for tensor in tensors:
        if tensor.is_floating_point():
            scale = 1.5 * tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.4
            tensor.data.copy_(torch.randn(tensor.shape, generator=generator) * scale + (tensor.ndim == 1) * 0.5)


def random_example(shape: tuple[int, ...], n_tokens: int, generator: torch.Generator) -> Tensor:
    """Normally distributed numbers, or tokens of a vocabulary."""
    if n_tokens:
        return torch.randint(n_tokens, shape, generator=generator)
    return torch.randn(shape, generator=generator)


@st.composite
def random_programs(draw: Callable[[st.SearchStrategy[Any]], Any], max_steps: int = 6) -> RandomProgram:
    """Modules of one to `max_steps` steps after a stem."""
    coinciding = draw(st.booleans())
    d = Draw(draw, COINCIDING if coinciding else PRIMES)
    batch = d.pick(2, 4) if coinciding else d.pick(2, 5)
    shape = tuple(d.size() for _ in range(d.pick(1, 2, 2, 3, 3)))
    width = d.size() * d.pick(1, 2)
    n_tokens = 0
    if len(shape) == 3:
        stem: nn.Module = nn.Conv2d(shape[0], width, 1)
    elif len(shape) == 1 and d.flag():
        n_tokens, stem = 11, nn.Embedding(11, width, padding_idx=d.pick(None, 0))
    else:
        stem = nn.Linear(shape[-1], width)
    steps = [Step(f"stem {width}", lambda x, a: a(x), [stem])]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31 - 1)))
    x = steps[0].forward(random_example((batch, *shape), n_tokens, generator), stem)
    for _ in range(d.number(1, max_steps)):
        theme = d.pick(*THEMES)
        try:
            step = theme(d, x)
            with torch.no_grad():
                initialise(
                    [
                        p
                        for layer in step.layers
                        for p in (layer.parameters() if isinstance(layer, nn.Module) else [layer])
                        if isinstance(p, nn.Parameter)
                    ],
                    generator,
                )
                for layer in step.layers:
                    if isinstance(layer, nn.Module):
                        layer.eval()
                y = step.forward(x, *step.layers)
        except (ValueError, RuntimeError, IndexError, TypeError):  # these arguments do not fit this shape
            continue
        if y.ndim < 2 or y.ndim > 5 or len(y) != batch or not 0 < y.numel() <= MAX_NUMBERS or y.dtype != torch.float32:
            continue
        if not y.isfinite().all() or y.abs().max() > 1e3:
            continue
        steps.append(step)
        x = y
    module = RandomModule(steps, x.shape[-1]).eval()
    initialise(list(module.parameters()), generator)
    for name, buffer in module.named_buffers():
        if name.endswith("running_var"):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
        elif name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.3)
    return RandomProgram(module, shape, batch, n_tokens)
