"""Search spaces: choices, architectures with canonical genes, sampling and encoding (no torch)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from math import prod
from typing import TYPE_CHECKING, cast

from supernets.errors import SpaceError
from supernets.space.choice_titles import title_of_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Every command that reads a job file imports this module: numpy is loaded where there are arrays.

_architecture_error = partial(SpaceError, code="architecture.invalid")

Option = int | float | str
_Required = tuple[int, int, tuple[int, ...] | None]
"""The index of the choice that one requires, its least level, and `Choice.most`."""
INACTIVE = -1
"""The gene of a choice that does not apply (for instance, the kernel of a layer that the depth drops)."""


class _Genes(dict[str, int]):
    """Cache from the text of a gene in a key to the gene."""

    def __missing__(self, text: str) -> int:
        # `int` alone would also accept ' 1', '+1', '1_0' and '01', which no key contains.
        if not re.fullmatch(r"0|[1-9][0-9]*", text):
            raise KeyError(text)
        self[text] = int(text)
        return self[text]


_GENES = _Genes(x=INACTIVE)


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision of a search space.

    Args:
        name: unique within the space, e.g. ``stage2.block1.kernel``.
        options: the values, smallest network first; a gene is an index (a *level*) into them.
        requires: ``(other, level)``: the choice is active only while the gene of the choice named ``other`` is active
            and at least ``level``. ``other`` must precede it in the space.
        most: for each level of the required choice, the highest level that this one may have; higher ones count as that. For
            instance, a token can be sent to no more experts than a layer keeps.
        title: what it decides on, for people; "" for one that follows from the name. Spaces that differ in titles are equal.
        members: names of the layers or axes that it changes together, where it has a title.
    """

    name: str
    options: tuple[Option, ...]
    requires: tuple[str, int] | None = None
    most: tuple[int, ...] | None = None
    title: str = field(default="", compare=False)
    members: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.options:
            raise SpaceError(f"choice {self.name!r} has no options; give at least one")
        if len(set(self.options)) != len(self.options):
            raise SpaceError(f"choice {self.name!r} lists an option twice: {list(self.options)}")
        if any(option != option for option in self.options):
            raise SpaceError(f"choice {self.name!r} has NaN as an option: {list(self.options)}")
        if self.most is not None and (self.requires is None or not {*self.most} <= {*range(len(self.options))}):
            raise SpaceError(
                f"choice {self.name!r} has the highest levels {list(self.most)}; expected levels of its own, for each of a "
                "choice that it requires"
            )

    @property
    def kind(self) -> str:
        """The last part of the name, e.g. ``kernel``: what it decides on, anywhere in the network."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network of a search space, as one gene per choice; `SearchSpace.canonical` makes equal networks equal.

    Attributes:
        genes: One level for each choice of the space, in its order: an index into `Choice.options`, or `INACTIVE` (-1) where
            the choice does not apply. The space checks them, not this class.
    """

    genes: tuple[int, ...]
    _hash: int = field(init=False, repr=False, compare=False)
    _key: str | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        # Kept because a tuple is hashed anew each time, and a search looks each architecture up some twenty times.
        object.__setattr__(self, "_hash", hash(self.genes))

    def __hash__(self) -> int:
        return self._hash

    @property
    def key(self) -> str:
        """A text equal for equal networks in every process, e.g. ``2-0-1-x``; `parse` reads it."""
        key = self._key
        if key is None:
            key = "-".join(["x" if gene == INACTIVE else str(gene) for gene in self.genes])
            object.__setattr__(self, "_key", key)
        return key

    @staticmethod
    def parse(key: str) -> Architecture:
        """The architecture with this `key`.

        Args:
            key: Text that `Architecture.key` gives: levels in decimal without sign or leading zeros, ``x`` for an inactive
                choice, joined by ``-``, e.g. ``2-0-1-x``.

        Raises:
            SpaceError: the text is not a key.
        """
        return _parsed(key)


@lru_cache(maxsize=2**15)  # a run's rows name each of its architectures several times
def _parsed(key: str) -> Architecture:
    try:
        architecture = Architecture(tuple([_GENES[part] for part in key.split("-")]))
    except KeyError:
        raise _architecture_error(f"{key!r} is not an architecture key; expected levels as in '2-0-1-x'") from None
    object.__setattr__(architecture, "_key", key)  # genes have one text each, so this is what `key` would join again
    return architecture


class SearchSpace:
    """An ordered set of choices; all methods are pure, and randomness is passed in.

    Args:
        choices: At least one, with distinct names. A choice comes after the one that it requires.

    Raises:
        SpaceError: there are no choices, two share a name, or one requires a choice or level that does not precede it.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self.choices: tuple[Choice, ...] = tuple(choices)
        self._index = {choice.name: i for i, choice in enumerate(self.choices)}
        self._n_levels = [len(choice.options) for choice in self.choices]
        if len(self._index) != len(self.choices):
            (twice, _), *_ = Counter(choice.name for choice in self.choices).most_common(1)
            raise SpaceError(f"two choices of the space have the name {twice!r}; give each its own")
        if not self.choices:
            raise SpaceError("the space has no choices; give at least one")
        self._requires = [self._required(i, choice) for i, choice in enumerate(self.choices)]

    def _required(self, i: int, choice: Choice) -> _Required | None:
        """The choice that the i-th one requires."""
        if choice.requires is None:
            return None
        parent_name, level = choice.requires
        parent = self._index.get(parent_name, i)
        if parent >= i:
            raise SpaceError(f"choice {choice.name!r} requires {parent_name!r}, which does not precede it")
        if not 0 <= level < self._n_levels[parent]:
            last = self._n_levels[parent] - 1
            raise SpaceError(f"choice {choice.name!r} requires level {level} of {parent_name!r}; expected 0 to {last}")
        if choice.most is not None and len(choice.most) != self._n_levels[parent]:
            n = self._n_levels[parent]
            raise SpaceError(
                f"choice {choice.name!r} has {len(choice.most)} highest levels for the {n} of {parent_name!r}"
            )
        return parent, level, choice.most

    def __len__(self) -> int:
        return len(self.choices)

    def __eq__(self, space: object) -> bool:
        return isinstance(space, SearchSpace) and self.choices == space.choices

    def __hash__(self) -> int:
        return hash(self.choices)

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """Number of options of each choice, (n_choices,)."""
        import numpy as np

        return np.array(self._n_levels, dtype=np.int64)

    @cached_property
    def titles(self) -> dict[str, str]:
        """The subject of each choice, for people, by its name: ``stage 0, block 1 · kernel``."""
        return {choice.name: choice.title or title_of_name(choice.name) for choice in self.choices}

    @cached_property
    def kinds(self) -> dict[str, list[int]]:
        """The choices' indices by kind, in the space's order."""
        indices_by_kind: dict[str, list[int]] = {}
        for i, choice in enumerate(self.choices):
            indices_by_kind.setdefault(choice.kind, []).append(i)
        return indices_by_kind

    @cached_property
    def like_choices(self) -> list[list[int]]:
        """The indices of choices with equal options, two or more of them, in the space's order."""
        indices_by_options: dict[tuple[Option, ...], list[int]] = {}
        for i, choice in enumerate(self.choices):
            indices_by_options.setdefault(choice.options, []).append(i)
        return [members for members in indices_by_options.values() if len(members) > 1]

    def option_numbers(self) -> list[int]:
        """The numbers of the one-hot columns of `encode`: options that `like_choices` share have one number; -1 for other
        choices."""
        numbers, n = [[-1] * n_levels for n_levels in self._n_levels], 0
        for members in self.like_choices:
            choice_numbers = list(range(n, n + self._n_levels[members[0]]))
            for i in members:
                numbers[i] = choice_numbers
            n += len(choice_numbers)
        return [number for choice_numbers in numbers for number in choice_numbers]

    @cached_property
    def size(self) -> int:
        """Exact number of different architectures (those that differ only in inactive genes count once)."""
        children: list[list[tuple[int, int]]] = [[] for _ in self.choices]  # (required level, child)
        for i, required in enumerate(self._requires):
            if required is not None:
                children[required[0]].append((required[1], i))
        counts: list[list[int]] = [[] for _ in self.choices]  # by level

        def below(child: int, level: int) -> int:
            """The number of ways to set a choice and those that require it, under a level of the one that it requires."""
            highest = self.choices[child].most
            return sum(counts[child] if highest is None else counts[child][: highest[level] + 1])

        for i in reversed(range(len(self.choices))):  # a choice precedes those that require it
            for level in range(self._n_levels[i]):
                counts[i].append(
                    prod(below(child, level) for required_level, child in children[i] if level >= required_level)
                )
        return prod(
            sum(level_counts) for level_counts, required in zip(counts, self._requires, strict=True) if required is None
        )

    def canonical(self, genes: Sequence[int] | NDArray[np.int64]) -> Architecture:
        """The architecture with these levels.

        The genes of inactive choices are set to `INACTIVE`, and levels above what `Choice.most` admits to that.

        Args:
            genes: A level of each choice, (n_choices,); those of inactive choices are ignored and may be any number.

        Raises:
            SpaceError: wrong length, or a level out of range in an active choice.
        """
        if len(genes) != len(self.choices):
            raise _architecture_error(f"got {len(genes)} genes; an architecture of this space has {len(self.choices)}")
        out: list[int] = []
        # Called several times per candidate; Python's own integers are several times faster here than numpy's.
        plain = genes if isinstance(genes, Sequence) else genes.tolist()
        for gene, required, n_levels in zip(plain, self._requires, self._n_levels, strict=True):
            if required is not None and out[required[0]] < required[1]:  # INACTIVE is below every level
                out.append(INACTIVE)
                continue
            level = int(gene)
            if not 0 <= level < n_levels:
                name = self.choices[len(out)].name
                raise _architecture_error(f"gene {len(out)} ({name}) is {level}; expected 0 to {n_levels - 1}")
            if required is not None and required[2] is not None:
                level = min(level, required[2][out[required[0]]])
            out.append(level)
        return Architecture(tuple(out))

    def repair(self, genes: Sequence[int] | NDArray[np.int64], rng: np.random.Generator) -> Architecture:
        """The architecture of genes that were changed one by one, as by a mutation or a crossover.

        A choice that the change made active, but whose gene is `INACTIVE`, gets a random level; the rest is as in `canonical`.

        Args:
            genes: A level of each choice, or `INACTIVE`, (n_choices,).
            rng: Generator of the random levels; the same genes and state give the same architecture.

        Raises:
            SpaceError: wrong length, or a level out of range in an active choice.
        """
        drawn = rng.integers(0, self.levels).tolist()
        levels = [level if gene == INACTIVE else gene for gene, level in zip(genes, drawn, strict=False)]
        return self.canonical([*levels, *genes[len(drawn) :]])

    def check(self, architecture: Architecture) -> None:
        """Raises `SpaceError` unless the architecture is a canonical one of this space.

        Args:
            architecture: Architecture with one gene for each choice.
        """
        filled = [0 if gene == INACTIVE else gene for gene in architecture.genes]
        if self.canonical(filled) != architecture:
            raise _architecture_error(f"architecture {architecture.key} is not canonical in this space")

    def sample(self, rng: np.random.Generator) -> Architecture:
        """A random architecture: every gene is uniform over its levels, then inactive genes are blanked.

        Args:
            rng: Generator of the levels; one call draws an integer for each choice, also for inactive ones.
        """
        return self.canonical(rng.integers(0, self.levels))

    def values(self, architecture: Architecture) -> dict[str, Option]:
        """Option values by choice name; inactive choices are absent.

        Args:
            architecture: A canonical architecture of this space.
        """
        return {
            choice.name: choice.options[gene]
            for choice, gene in zip(self.choices, architecture.genes, strict=True)
            if gene != INACTIVE
        }

    @property
    def smallest(self) -> Architecture:
        """Level 0 everywhere."""
        return self.canonical([0] * len(self.choices))

    @property
    def largest(self) -> Architecture:
        """The last level everywhere."""
        return self.canonical(self.levels - 1)

    def encode(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """One-hot columns of every choice, then one ordinal column per choice scaled to [0, 1]; inactive genes all zero.

        Args:
            architectures: The n architectures to encode, one row each. They need not be canonical.

        Returns:
            (n, d) with d = `sum(levels) + n_choices`; (0, d) for no architectures.

        Raises:
            SpaceError: an architecture has another number of genes, or a level that its choice lacks.
        """
        import numpy as np

        n_choices, offsets = len(self.choices), np.concatenate([[0], np.cumsum(self.levels)])
        out = np.zeros((len(architectures), int(offsets[-1]) + n_choices))
        if not architectures:
            return out
        foreign = next((a for a in architectures if len(a.genes) != n_choices), None)
        if foreign is not None:
            raise _architecture_error(f"got {len(foreign.genes)} genes; an architecture of this space has {n_choices}")
        genes = np.array([a.genes for a in architectures], dtype=np.int64)
        outside = ((genes < INACTIVE) | (genes >= self.levels)).any(axis=1)
        if outside.any():
            raise _architecture_error(
                f"architecture {tuple(genes[outside][0].tolist())} has a level that its choice lacks"
            )
        rows, columns = np.nonzero(genes != INACTIVE)
        active = genes[rows, columns]
        out[rows, offsets[columns] + active] = 1.0
        # +1 distinguishes the lowest level from an inactive gene.
        out[rows, int(offsets[-1]) + columns] = (active + 1) / self.levels[columns]
        return out

    def enumerate(self) -> list[Architecture]:
        """Every architecture, in lexicographic order; for small spaces only (memory grows with `size`)."""
        partial: list[list[int]] = [[]]
        for i, required in enumerate(self._requires):
            grown: list[list[int]] = []
            for genes in partial:
                active = required is None or genes[required[0]] >= required[1]
                n = self._n_levels[i]
                if active and required is not None and required[2] is not None:
                    n = required[2][genes[required[0]]] + 1
                grown.extend([*genes, level] for level in (range(n) if active else (INACTIVE,)))
            partial = grown
        return [Architecture(tuple(genes)) for genes in partial]

    def to_json(self, *, has_titles: bool = False) -> list[dict[str, object]]:
        """Plain data that `from_json` reads, for checkpoints and manifests.

        Args:
            has_titles: True to add titles and members of choices, by which data of equal spaces may differ.
        """
        return [
            {"name": c.name, "options": list(c.options), "requires": list(c.requires) if c.requires else None}
            | ({} if c.most is None else {"most": list(c.most)})
            | ({"title": c.title, "members": list(c.members)} if has_titles and c.title else {})
            for c in self.choices
        ]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, object]]) -> SearchSpace:
        """The space that `to_json` wrote.

        Args:
            data: One mapping for each choice, in the space's order, with the keys ``name``, ``options`` (a list), ``requires``
                (``[name, level]`` or None) and, where they are set, ``most`` (a list of levels), ``title`` and ``members``.

        Raises:
            SpaceError: the data is malformed.
        """
        try:
            choices = [_choice_from_json(item) for item in data]
        except (KeyError, TypeError, ValueError) as error:
            problem = f"a choice lacks {error}" if isinstance(error, KeyError) else error
            raise SpaceError(f"the description of a search space is malformed: {problem}") from None
        return cls(choices)


def joint_levels(n_levels: Sequence[int]) -> list[tuple[int, ...]]:
    """All distinct levels ``round(t * (n - 1))`` of choices with n levels each, for t from 0 to 1, in the order of t."""
    cuts = {0.0, 1.0} | {(k + 0.5) / (n - 1) for n in set(n_levels) if n > 1 for k in range(n - 1)}
    ordered = sorted(cuts)
    points = [t for low, high in zip(ordered, [*ordered[1:], 1.0], strict=True) for t in (low, (low + high) / 2)]
    return list(dict.fromkeys(tuple(round(t * (n - 1)) for n in n_levels) for t in points))


def _choice_from_json(item: Mapping[str, object]) -> Choice:
    name, options, requires = item["name"], item["options"], item["requires"]
    if not isinstance(name, str):
        raise TypeError(f"a choice has the name {name!r}; expected a text")
    if not isinstance(options, list) or not all(isinstance(option, Option) for option in options):
        raise TypeError(f"choice {name!r} has the options {options!r}; expected a list of numbers or texts")
    title, members = str(item.get("title", "")), tuple(map(str, cast(list[str], item.get("members", ()))))
    match requires, item.get("most"):
        case None, None:
            return Choice(name, tuple(options), title=title, members=members)
        case [str(other), int(level)], None:
            return Choice(name, tuple(options), (other, level), title=title, members=members)
        case [str(other), int(level)], [*most] if all(isinstance(n, int) for n in most):
            levels = tuple(cast(list[int], most))
            return Choice(name, tuple(options), (other, level), levels, title=title, members=members)
        case _:
            raise TypeError(f"choice {name!r} requires {requires!r}; expected [name, level] or null")
