"""Symbolic dimensions: a union-find structure whose classes are single sizes, products or concatenations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

BATCH_REASON = "the batch"
"""Why the dimension of the examples is fixed."""


class MismatchError(Exception):
    """Two dimensions cannot be the same: a rule does not fit the operation."""


@dataclass(eq=False, slots=True)
class Dimension:
    """One dimension of a value; use `find` before you read it.

    Attributes:
        kind: a single size; a product of factors, outermost first; a concatenation of pieces; or derived from one part, as
            ``(part + offset) // stride + 1``, an extent after a convolution.
        fixed: why it cannot be elastic; "" while it may be.
        label: Tensor and position that a single size comes from.
        dynamic: the name of a size that only the inputs decide, e.g. ``batch``; "" for others.
        centred: True if smaller networks have the middle of it, as of kernels.
    """

    size: int
    kind: Literal["single", "product", "concatenation", "derived"] = "single"
    parts: tuple[Dimension, ...] = ()
    fixed: str = ""
    label: str = ""
    parent: Dimension | None = None
    offset: int = 0
    stride: int = 1
    dynamic: str = ""
    centred: bool = False


def derived(part: Dimension, offset: int, stride: int) -> Dimension:
    """The dimension of size ``(part + offset) // stride + 1``."""
    if (offset, stride) == (-1, 1):
        return part
    return Dimension((find(part).size + offset) // stride + 1, "derived", (part,), offset=offset, stride=stride)


def find(dimension: Dimension) -> Dimension:
    """The representative of a dimension's class."""
    while dimension.parent is not None:
        if dimension.parent.parent is not None:
            dimension.parent = dimension.parent.parent
        dimension = dimension.parent
    return dimension


def fixed(size: int, reason: str) -> Dimension:
    """A dimension that is never elastic."""
    return Dimension(size, fixed=reason)


def singles(dimension: Dimension) -> Iterator[Dimension]:
    """The single sizes that a dimension consists of."""
    root = find(dimension)
    if root.kind == "single":
        yield root
    for part in root.parts:
        yield from singles(part)


def fix(dimension: Dimension, reason: str) -> None:
    """Fixes every size that a dimension consists of; the first reason stays."""
    for single in singles(dimension):
        single.fixed = single.fixed or reason


def factors(dimension: Dimension) -> list[Dimension]:
    """The factors of a dimension, outermost first, without those of size 1 (one of size 1 if there is no other).

    Neighbours that are both fixed are one factor: an image may be divided into windows first, and into a grid later.
    """
    root = find(dimension)
    if root.kind != "product":
        return [root]
    flat = [find(factor) for part in root.parts for factor in factors(part) if find(factor).size != 1]
    return _merge_plain(flat) or [find(root.parts[0])]


def _merge_plain(flat: Sequence[Dimension]) -> list[Dimension]:
    merged: list[Dimension] = []
    for factor in flat:
        if merged and is_plain(merged[-1]) and is_plain(factor):
            merged[-1] = fixed(merged[-1].size * factor.size, find(factor).fixed or next(singles(factor)).fixed)
        else:
            merged.append(factor)
    return merged


def is_plain(dimension: Dimension) -> bool:
    """Returns whether a dimension consists of fixed sizes that no input decides."""
    return all(single.fixed and not single.dynamic for single in singles(dimension))


def product(parts: Sequence[Dimension]) -> Dimension:
    """The dimension that merges others, outermost first."""
    flat = _merge_plain([find(factor) for part in parts for factor in factors(part) if find(factor).size != 1])
    if not flat:
        return fixed(1, "a size of 1")
    return flat[0] if len(flat) == 1 else Dimension(prod(find(factor).size for factor in flat), "product", tuple(flat))


def concatenation(parts: Sequence[Dimension]) -> Dimension:
    """The dimension that joins others end to end."""
    flat = [piece for part in parts for piece in _pieces(part) if find(piece).size > 0]
    if len(flat) == 1:
        return flat[0]
    return Dimension(sum(find(piece).size for piece in flat), "concatenation", tuple(flat))


def _pieces(dimension: Dimension) -> list[Dimension]:
    root = find(dimension)
    return [piece for part in root.parts for piece in _pieces(part)] if root.kind == "concatenation" else [root]


def unify(a: Dimension, b: Dimension) -> Dimension:
    """Makes two dimensions the same, refining the coarser one.

    Raises:
        MismatchError: their sizes differ, or one cannot be divided as the other is.
    """
    a, b = find(a), find(b)
    if a is b:
        return a
    if a.size != b.size:
        raise MismatchError(f"{a.size} and {b.size}")
    if a.kind == b.kind == "derived":
        # Equal in the largest network; whoever chooses the sizes checks that strides divide them.
        a.parent = b
        return b
    if a.kind != "single" and b.kind == "single":
        a, b = b, a
    if a.kind == "single":
        if any(single is a for single in singles(b)) and b.kind != "single":
            raise MismatchError(f"a dimension of {a.size} contains itself")
        if a.fixed:
            fix(b, a.fixed)
            if a.dynamic and b.kind == "single":
                if b.dynamic not in ("", a.dynamic):
                    raise MismatchError(f"the dynamic sizes {a.dynamic} and {b.dynamic}")
                b.dynamic, b.fixed = a.dynamic, a.fixed
        elif b.kind == "single" and not b.label:
            b.label = a.label
        b.centred = b.centred or a.centred
        a.parent = b
        return b
    if a.kind == b.kind == "product":
        _unify_factors(factors(a), factors(b))
    elif b.kind == "concatenation":
        _unify_pieces(split(a, [find(piece).size for piece in _pieces(b)]), _pieces(b))
    else:
        _unify_pieces(split(b, [find(piece).size for piece in _pieces(a)]), _pieces(a))
    a, b = find(a), find(b)
    if a is not b:
        a.parent = b
    return find(b)


def _unify_factors(left: list[Dimension], right: list[Dimension]) -> None:
    left, right = list(map(find, left)), list(map(find, right))
    while left and right:
        a, b = find(left.pop(0)), find(right.pop(0))
        if a.size == b.size:
            unify(a, b)
            continue
        large, small, larger_side = (a, b, left) if a.size > b.size else (b, a, right)
        if large.size % small.size:
            raise MismatchError(f"{large.size} is no multiple of {small.size}")
        outer, inner = divide(large, [small.size, large.size // small.size])
        unify(outer, small)
        larger_side.insert(0, inner)
    if any(find(factor).size != 1 for factor in [*left, *right]):
        raise MismatchError("products of different sizes")


def _unify_pieces(left: Sequence[Dimension], right: Sequence[Dimension]) -> None:
    for a, b in zip(left, right, strict=True):
        unify(a, b)


def divide(dimension: Dimension, sizes: Sequence[int]) -> list[Dimension]:
    """The factors of these sizes, outermost first, that a dimension is refined into; their product is its size.

    Raises:
        MismatchError: it is already divided otherwise.
    """
    root = find(dimension)
    if root.size != prod(sizes):
        raise MismatchError(f"{root.size} and {'×'.join(map(str, sizes))}")
    if is_plain(root):
        reason = next(singles(root)).fixed
        return [fixed(size, reason if size != 1 else "a size of 1") for size in sizes]
    parts = [Dimension(size, fixed="a size of 1" if size == 1 else "", label=root.label) for size in sizes]
    if sum(size != 1 for size in sizes) == 1:
        return [root if size != 1 else part for size, part in zip(sizes, parts, strict=True)]
    refined = Dimension(root.size, "product", tuple(part for part in parts if part.size != 1))
    unify(root, refined)
    return parts


def split(dimension: Dimension, sizes: Sequence[int]) -> list[Dimension]:
    """The pieces of these sizes, in order, that a dimension is refined into; their sum is its size.

    Raises:
        MismatchError: it is a product, and a boundary lies inside one of its outermost units.
    """
    root = find(dimension)
    if root.size != sum(sizes):
        raise MismatchError(f"{root.size} and {'+'.join(map(str, sizes))}")
    if len(sizes) == 1:
        return [root]
    if root.kind == "single":
        size_1_reason = "a size of 1"
        pieces = [Dimension(n, fixed=root.fixed or (size_1_reason if n == 1 else ""), label=root.label) for n in sizes]
        root.kind, root.parts = "concatenation", tuple(piece for piece in pieces if piece.size)
        return pieces
    if root.kind == "product":
        outer, *inner = factors(root)
        unit = root.size // find(outer).size
        if any(size % unit for size in sizes):
            raise MismatchError(f"units of {unit} cannot be divided into {'+'.join(map(str, sizes))}")
        return [product([piece, *inner]) for piece in split(outer, [size // unit for size in sizes])]
    return _regroup(_pieces(root), sizes)


def _regroup(pieces: list[Dimension], sizes: Sequence[int]) -> list[Dimension]:
    """Pieces joined and split so that they have these sizes."""
    remaining, regrouped = list(pieces), []
    for size in sizes:
        group: list[Dimension] = []
        missing = size
        while missing:
            piece = find(remaining.pop(0))
            if piece.size > missing:
                first, second = split(piece, [missing, piece.size - missing])
                piece = find(first)
                remaining.insert(0, second)
            group.append(piece)
            missing -= piece.size
        regrouped.append(concatenation(group) if group else Dimension(0, fixed="empty"))
    return regrouped
