"""Gene columns of a table as a search space: sorted options, and the condition of each inactive gene."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from nas.runs.bench.errors import TableError
from supernets.space import INACTIVE, Architecture, Choice, Option, SearchSpace

_WHOLE_NUMBER = re.compile(r"[-+]?[0-9]{1,18}\Z")


def space_of(columns: Mapping[str, Sequence[str]], *, source: str) -> tuple[SearchSpace, list[Architecture]]:
    """The space that gene columns span, and each row's architecture in it.

    A choice's options are the different values of its column, sorted: whole numbers if all are, else numbers, else
    texts. An empty cell is an inactive gene, whose condition must be one earlier gene and level (see `Choice.requires`).

    Args:
        columns: cells by gene name, in the space's order, equally many of each.
        source: the table's name in errors.

    Raises:
        TableError: a gene without values (``table.invalid``), or empty cells without a single explanation
            (``table.unexplained-gene``).
    """
    names = list(columns)
    choices: list[Choice] = []
    levels: list[list[int]] = []
    for name, cells in columns.items():
        options = _options(set(cells) - {""})
        if not options:
            raise TableError(f"{source}: the gene column {name!r} is empty; remove it from 'genes'")
        level_of = {value: level for level, value in enumerate(dict.fromkeys(options.values()))}
        gene_levels = [INACTIVE if cell == "" else level_of[options[cell]] for cell in cells]
        requires = _explanation(name, gene_levels, names, levels, choices, source) if INACTIVE in gene_levels else None
        choices.append(Choice(name, tuple(level_of), requires))
        levels.append(gene_levels)
    return SearchSpace(choices), [Architecture(genes) for genes in zip(*levels, strict=True)]


def _options(cells: set[str]) -> dict[str, Option]:
    """Option by cell, in the options' order; different texts of one number share an option."""
    if all(_WHOLE_NUMBER.match(cell) for cell in cells):
        return dict(sorted(((cell, int(cell)) for cell in cells), key=lambda pair: pair[1]))
    numbers = {cell: number for cell in cells if (number := _number(cell)) is not None}
    if len(numbers) == len(cells):
        return dict(sorted(numbers.items(), key=lambda pair: pair[1]))
    return {cell: cell for cell in sorted(cells)}


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _explanation(
    name: str, gene_levels: list[int], names: list[str], levels: list[list[int]], choices: list[Choice], source: str
) -> tuple[str, int]:
    """The one (earlier gene, level) such that this gene is active exactly if that gene is at least at that level."""
    conditions: dict[tuple[str, int], None] = {}
    for earlier, earlier_levels in enumerate(levels):
        active = [level for level, gene in zip(earlier_levels, gene_levels, strict=True) if gene != INACTIVE]
        inactive = [level for level, gene in zip(earlier_levels, gene_levels, strict=True) if gene == INACTIVE]
        level = min(active)
        if max(inactive) < level:
            choice = choices[earlier]
            # That a gene is active at all is equivalent to its own condition.
            same = choice.requires if level == 0 and choice.requires is not None else (choice.name, level)
            conditions[same] = None
    if not conditions:
        row = gene_levels.index(INACTIVE) + 2  # the header is line 1
        raise TableError(
            f"{source}: row {row}: the gene {name!r} is empty, but no earlier gene explains in which rows "
            f"(among {', '.join(names[: len(levels)]) or 'none'}); its condition must be 'an earlier gene is at "
            "least at some option', with that gene before it in 'genes'",
            code="table.unexplained-gene",
        )
    if len(conditions) > 1:
        shown = " or ".join(f"{gene} >= {_option(choices, gene, level)!r}" for gene, level in conditions)
        raise TableError(
            f"{source}: the condition of the gene {name!r} is ambiguous: {shown}; add rows that distinguish these",
            code="table.unexplained-gene",
        )
    return next(iter(conditions))


def _option(choices: list[Choice], name: str, level: int) -> Option:
    return next(choice.options[level] for choice in choices if choice.name == name)
