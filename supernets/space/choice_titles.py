"""Titles of choices: what a choice decides on, in the words in which commands, reports, pictures and pages name it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from math import prod

SEPARATOR = " · "
"""Between the part of the network and what changes in it."""
_NUMBERED = re.compile(r"(stage|block|layer)(\d+)")
_POSITION = re.compile(r"(.*?)(\d+)")
_MAX_PARTS = 2
"""Lists of layers beside each other."""
_MAX_LISTED = 3
"""Positions with gaps that are listed; of more, the first and the last are."""


@dataclass(frozen=True, slots=True)
class Group:
    """Layers or axes of a captured network that one choice changes together.

    Attributes:
        paths: Paths of their modules in the network, at least one.
        quantity: What changes, e.g. ``channels``, ``width`` or ``depth``.
        size: Its size in the largest network; 0 for none.
    """

    paths: tuple[str, ...]
    quantity: str
    size: int = 0


def title_of_name(name: str) -> str:
    """The title of a choice that has a name alone: ``stage 0, block 1 · kernel`` for ``stage0.block1.kernel``."""
    place, _, kind = name.rpartition(".")
    return f"{title_of_place(place)}{SEPARATOR}{kind}" if place else kind


def title_of_place(place: str) -> str:
    """The title of a part of the network: ``stage 0, block 1`` for ``stage0.block1``; paths of modules stay as they are."""
    parts = place.split(".")
    if not any(map(_NUMBERED.fullmatch, parts)) or any(part[:1].isdigit() for part in parts):
        return place
    return ", ".join(_NUMBERED.sub(r"\1 \2", part) for part in parts)


def titles_of_groups(groups: Mapping[str, Group]) -> dict[str, str]:
    """The titles of choices over a captured network: ``features.3–5 · channels``.

    A title names the layers in containers, and the module within them where another choice of the same quantity changes one
    of these layers, too: ``features.4 · conv.2 channels``. Titles that were still equal have the size: ``… channels of 128``.

    Args:
        groups: What each choice changes, by its name.

    Returns:
        Titles by the names of the choices, distinct.
    """
    parts = {name: _divided(group.paths) for name, group in groups.items()}
    n_groups = Counter(
        (group.quantity, layer) for name, group in groups.items() for layer in {layer for layer, _ in parts[name]}
    )
    titles = {}
    for name, group in groups.items():
        is_shared = any(n_groups[group.quantity, layer] > 1 for layer, _ in parts[name])
        inner = _joined([inner for _, inner in parts[name]]) if is_shared else ""
        titles[name] = f"{_joined([layer for layer, _ in parts[name]])}{SEPARATOR}{f'{inner} {group.quantity}'.strip()}"
    n_titles = Counter(titles.values())
    for name, title in titles.items():
        if n_titles[title] > 1:
            titles[name] = f"{title} of {groups[name].size}" if groups[name].size else f"{title} ({name})"
    n_titles = Counter(titles.values())
    return {name: title if n_titles[title] == 1 else f"{title} ({name})" for name, title in titles.items()}


def _divided(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Each path as the layer in its containers and the module within it: ``layer1.0`` and ``conv1``.

    The layer ends with the last position in which the paths differ, or else with the first one, and with those right after it.
    """
    split = [path.split(".") for path in paths]
    length = min(map(len, split))
    varying = [i for i in range(length) if len({tokens[i] for tokens in split}) > 1]
    numeric = [i for i in varying if all(tokens[i].isdigit() for tokens in split)]
    positions = [i for i, token in enumerate(split[0]) if _POSITION.fullmatch(token)] or [length - 1]
    end = (numeric[-1] if numeric else varying[0] if varying else positions[0]) + 1
    while end < length and all(tokens[end].isdigit() for tokens in split):
        end += 1
    return [(".".join(tokens[:end]), ".".join(tokens[end:])) for tokens in split]


def _joined(paths: Sequence[str]) -> str:
    """Paths as one text: ``features.3–5``, ``layer1.0, layer3.0–5``, or what many different ones begin with: ``blocks.*``."""
    split = [path.split(".") for path in dict.fromkeys(paths)]
    beginning = [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*split, strict=False))]
    if len({len(tokens) for tokens in split}) > 1:
        return ", ".join(map(".".join, split)) if len(split) <= _MAX_PARTS else ".".join([*beginning, "*"])
    tokens_by_place = [list(dict.fromkeys(tokens)) for tokens in zip(*split, strict=True)]
    if prod(map(len, tokens_by_place)) == len(split):
        return ".".join(map(_token, tokens_by_place))
    place = len(beginning)
    parts = [[tokens for tokens in split if tokens[place] == first] for first in tokens_by_place[place]]
    if len(parts) <= _MAX_PARTS:
        return ", ".join(_joined([".".join(tokens) for tokens in part]) for part in parts)
    return ".".join([*beginning, _token(tokens_by_place[place]), "*"])


def _token(tokens: Sequence[str]) -> str:
    """The tokens at one place of some paths as one: ``conv1–3``."""
    if len(tokens) == 1:
        return tokens[0]
    matches = [_POSITION.fullmatch(token) for token in tokens]
    stems = {match and match[1] for match in matches}
    if len(stems) > 1 or None in stems:
        return "*"
    positions = sorted(int(match[2]) for match in matches if match)
    if positions[-1] - positions[0] == len(positions) - 1:
        text = f"{positions[0]}–{positions[-1]}"
    elif len(positions) <= _MAX_LISTED:
        text = ",".join(map(str, positions))
    else:
        text = f"{positions[0]}…{positions[-1]}"
    return f"{stems.pop()}{text}"
