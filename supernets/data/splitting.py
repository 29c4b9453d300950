"""Divides labelled examples of any kind into three parts: seeded, stratified, and with no example in two of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from supernets.data.labelled_examples import Examples, Source
from supernets.data.targets import CLASSES
from supernets.errors import DataError

_unsplittable = partial(DataError, code="data.unsplittable")
_duplicate = partial(DataError, code="data.duplicate")


class Split(NamedTuple):
    """The three parts; any stretch of each holds the classes in their shares."""

    train: Examples
    validation: Examples
    test: Examples


def split(source: Source, *, validation: int | float | None, test: int | float | None, seed: int) -> Split:
    """The three parts of a source: its own if it has them, the others taken from its training examples.

    Every part holds every class, in proportion. Copies (equal inputs) stay in one part and count once. The same seed
    and data give the same parts in every process and with every version of numpy.

    Args:
        validation, test: a number of examples, or a share (below 1) of the source's training examples, rounded.

    Raises:
        DataError: a part is requested that the source has itself, or is too small or too large; there are fewer than
            two classes or too few examples of one; the source's parts share an example; copies have different classes.
    """
    if source.targets == CLASSES and len(source.class_names) < 2:
        content = f"{', '.join(source.class_names)}: {len(source.train)} {source.noun}(s)"
        raise _unsplittable(f"{source.where}: holds {len(source.class_names)} class ({content}); expected at least 2")
    firsts = _first_copies(source)
    _check_own_parts(source, firsts)
    pool = np.unique(firsts)  # one of each set of copies
    keys = _random_keys(seed, 2 * len(source.train)).reshape(2, -1)
    examples_by_part: dict[str, Examples] = {}
    counts = _counts(source, validation, test, len(pool))
    _check_total(source, counts, {"test": test, "validation": validation}, len(pool))
    for part, count in counts.items():
        chosen = _take(source, part, pool, count, n_parts=len(counts) + 1 - len(examples_by_part), keys=keys[0])
        examples_by_part[part] = source.train.take(np.flatnonzero(np.isin(firsts, chosen)))
        pool = np.setdiff1d(pool, chosen)
    train = np.flatnonzero(np.isin(firsts, pool))
    return Split(
        _mixed(source.train.take(train), keys[1][train]),
        *(
            _mixed(examples, _random_keys(seed, len(examples)))
            for examples in (
                examples_by_part.get("validation", source.validation),
                examples_by_part.get("test", source.test),
            )
            if examples is not None
        ),
    )


def _counts(source: Source, validation: int | float | None, test: int | float | None, n: int) -> dict[str, int]:
    """The number of examples, of `n` different ones, to take for each part that the source lacks."""
    counts = {}
    for part, amount, examples, default in (
        ("test", test, source.test, source.default_test),
        ("validation", validation, source.validation, source.default_validation),
    ):
        if examples is None and amount is None:
            # The default share of a small folder may be less than one example of each class.
            counts[part] = max(_count(part, default, n, source.noun), source.n_groups)
        elif examples is None and amount is not None:
            counts[part] = _count(part, amount, n, source.noun)
        elif amount is not None:
            own_part = f"it has a {part} part of its own"
            raise _unsplittable(f"{source.where}: {part}={amount} asks for a split, but {own_part}; leave {part} out")
    return counts


def _check_total(
    source: Source, counts: Mapping[str, int], requested: Mapping[str, int | float | None], n: int
) -> None:
    """Raises where `n` different examples are too few for all parts, or the parts leave too few of them to train on."""
    minimum = (1 + len(counts)) * source.n_groups
    if n < minimum:
        got = f"holds {n} different {source.noun}(s)"
        raise _unsplittable(f"{source.where}: {got}; expected at least {minimum} for its parts; add {source.noun}s")
    maximum = n - source.n_groups
    if len(counts) < 2 or sum(counts.values()) <= maximum:
        return
    sizes = " and ".join(
        f"{part} ({count}{' by default' if requested[part] is None else ''})" for part, count in counts.items()
    )
    change = " or ".join(part for part in counts if requested[part] is not None)
    remedy = f"make {change} smaller" if change else f"add {source.noun}s"
    coverage = "each class is in" if source.targets == CLASSES else "enough are left for"
    expected = f"expected at most {maximum}, so that {coverage} the training part"
    took = f"{sizes} together take {sum(counts.values())} of {n} different {source.noun}s"
    raise _unsplittable(f"{source.where}: {took}; {expected}; {remedy}")


def _random_keys(seed: int, n: int) -> NDArray[np.uint64]:
    """Random numbers to sort by; raw ones, since their stream, unlike shuffles, is the same in all versions of numpy."""
    return np.asarray(np.random.PCG64(seed).random_raw(n), dtype=np.uint64)


def _first_copies(source: Source) -> NDArray[np.int64]:
    """The index of the first training example with equal inputs, for each training example, (n,)."""
    examples = source.train
    first_by_digest: dict[bytes, int] = {}
    out = np.empty(len(examples), dtype=np.int64)
    for i, digest in enumerate(examples.digests()):
        first = first_by_digest.setdefault(digest, i)
        if source.targets == CLASSES and examples.labels[first] != examples.labels[i]:
            classes = [source.class_names[examples.labels[j]] for j in (first, i)]
            same = f"{examples.name(first)} and {examples.name(i)} are the same {source.noun}"
            raise _duplicate(f"{source.where}: {same} in two classes ({', '.join(classes)}); remove the wrong one")
        out[i] = first
    return out


def _check_own_parts(source: Source, firsts: NDArray[np.int64]) -> None:
    """Checks that each of the source's parts has every class, with enough left to split, and that no example is in two."""
    examples_by_part = {"train": source.train, "validation": source.validation, "test": source.test}
    missing = [part for part, examples in examples_by_part.items() if examples is None]
    for part, examples in examples_by_part.items():
        if examples is None or source.targets != CLASSES:
            continue
        labels = examples.labels[np.unique(firsts)] if part == "train" else examples.labels
        needed = 1 + len(missing) if part == "train" else 1
        counts = np.bincount(labels, minlength=len(source.class_names))
        if counts.min() < needed:
            rarest = int(counts.argmin())
            why = f" (one each for train, {' and '.join(missing)})" if needed > 1 else ""
            got = (
                f"class {source.class_names[rarest]!r} has {counts[rarest]} different {source.noun}s in the {part} part"
            )
            expected = f"at least {needed}{why}; add {source.noun}s or remove the class"
            raise _unsplittable(f"{source.where}: {got}; expected {expected}")
    place_by_digest: dict[bytes, tuple[str, str]] = {}
    for part, examples in examples_by_part.items():
        if examples is None or len(missing) == 2:
            continue
        for i, digest in enumerate(examples.digests()):
            first_part, first = place_by_digest.setdefault(digest, (part, examples.name(i)))
            if first_part != part:
                same = f"{first} ({first_part}) and {examples.name(i)} ({part}) are the same {source.noun}"
                raise _duplicate(f"{source.where}: {same}, so the {part} part would not be unseen; remove one of them")


def _count(part: str, amount: int | float, n: int, noun: str) -> int:
    if isinstance(amount, bool) or not (0 < amount < 1 if isinstance(amount, float) else amount >= 1):
        raise _unsplittable(f"{part}={amount!r}: expected a whole number of {noun}s or a share between 0 and 1")
    return round(amount * n) if isinstance(amount, float) else amount


def _take(
    source: Source, part: str, pool: NDArray[np.int64], count: int, *, n_parts: int, keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Indices of a part: `count` of the pool, with every class in it and left for the `n_parts - 1` others."""
    n_classes, kind = source.n_groups, "classes" if source.targets == CLASSES else "groups of labels"
    labels = source.train.groups[pool]
    maximum = len(pool) - (n_parts - 1) * n_classes
    if not n_classes <= count <= maximum:
        got = f"the {part} part would have {count} of {len(pool)} different {source.noun}s"
        why = f", so that each of the {n_classes} {kind} is in every part" if n_classes > 1 else ""
        expected = f"{n_classes} to {maximum}{why}"
        raise _unsplittable(f"{source.where}: {got}; expected {expected}; change {part}")
    counts = np.bincount(labels, minlength=n_classes)
    # One of each class is reserved for each part; the rest is distributed by largest remainder.
    spare = counts - n_parts
    ideal = (count - n_classes) * spare / max(1, int(spare.sum()))
    quota = np.floor(ideal).astype(np.int64)
    by_remainder = np.argsort(-(ideal - quota), kind="stable")
    quota[by_remainder[: count - n_classes - int(quota.sum())]] += 1
    chosen = []
    for label in range(n_classes):
        members = pool[labels == label]
        chosen.append(members[np.argsort(keys[members], kind="stable")][: quota[label] + 1])
    return np.concatenate(chosen)


def _mixed(examples: Examples, keys: NDArray[np.uint64]) -> Examples:
    """The examples, shuffled with each class spread evenly: any prefix holds every class in its share."""
    groups = examples.groups
    order = np.lexsort((keys, groups))
    counts = np.maximum(1, np.bincount(groups))
    starts = np.cumsum(np.bincount(groups)) - np.bincount(groups)
    sorted_labels = groups[order]
    place = (np.arange(len(order)) - starts[sorted_labels] + 0.5) / counts[sorted_labels]
    return examples.take(order[np.lexsort((keys[order], place))])
