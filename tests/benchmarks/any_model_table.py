"""Tables of the any-model benchmark: counts by collection, times, and failures by cause."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from tests.benchmarks.json_lines import Row, read_rows
from tests.benchmarks.markdown import table_head, table_row

_CAUSES = (
    ("OutOfTimeError", "no result within the CPU time"),
    ("signal (9|24)", "no result within the CPU time"),
    ("allocate memory|MemoryError|SIGKILL", "more memory than the limit"),
    ("indices beyond the size", "a group names units that a layer does not have"),
    ("differ in size|no multiple of", "units of a group differ in size"),
    ("rejected the network|no ONNX model", "no ONNX model"),
)


def read(results: Path) -> list[Row]:
    """The rows so far, the last of each model."""
    return list({row["model"]: row for row in read_rows(results)}.values())


def pruning_verdict(row: Row) -> tuple[str, str, str]:
    """Why Torch-Pruning does not convert a model, why the pruned network does not run, why outputs change; "" otherwise."""
    lacking = str(row.get("error", "no result within the CPU time"))
    converted = str(row.get("converted", lacking))
    pruned = converted or str(row.get("pruned", lacking))
    permuted = row.get("permuted", lacking)
    if not isinstance(permuted, str):
        bound = max(1e-6 if row["casts"] else 1e-10, 10 * row["response"])
        permuted = "" if permuted <= bound else "a permutation changes outputs"
        permuted = permuted or ("" if row["exchanged"] else "no units can change places")
    return converted, pruned, converted or permuted


def _parts(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of each collection, and all."""
    for collection in dict.fromkeys(row["model"].partition(":")[0] for row in rows):
        yield collection, [row for row in rows if row["model"].startswith(f"{collection}:")]
    yield "all", list(rows)


def _median(rows: Sequence[Row], *names: str) -> str:
    times = [sum(row[name] for name in names) for row in rows if all(name in row for name in names)]
    return f"{median(times):.2f}" if times else ""


def _cause(why: str) -> str:
    """What failed, without names and numbers of the model."""
    known = next((cause for pattern, cause in _CAUSES if re.search(pattern, why)), "")
    why = re.sub(r"\s*\((at )?[^()]*\.py:.*", "", why)
    return known or re.sub(r"\d+(\.\d+)?", "n", why)[:90]


def _causes(whys: Sequence[str]) -> list[str]:
    return [f"- {n} × {why}" for why, n in Counter(_cause(why) for why in whys if why).most_common()]


def as_table(rows: Sequence[Row]) -> str:
    """Counts by collection, times, and failures by cause."""
    lines = [table_head("collection", "models", "count", "conversion, median s", "tracing, median s")]
    for collection, own in _parts(rows):
        count = sum(not row["why"] for row in own)
        times = [_median(own, name) for name in ("convert_s", "trace_s")]
        lines.append(table_row(collection, len(own), count, *times))
    return "\n".join([*lines, "", *_causes([row["why"] for row in rows])])


def comparison(rows: Sequence[Row], pruning: Sequence[Row]) -> str:
    """Both tools on the models that both files have."""
    theirs = {row["model"]: row for row in pruning}
    rows = [row for row in rows if row["model"] in theirs]
    judged = ("Torch-Pruning converts", "pruned network runs", "keeps outputs", "both", "seconds")
    lines = [table_head("collection", "models", "count", "seconds", *judged)]
    for collection, own in _parts(rows):
        other = [theirs[row["model"]] for row in own]
        verdicts = [pruning_verdict(row) for row in other]
        cells: list[object] = [collection, len(own), sum(not row["why"] for row in own)]
        cells += [_median(own, "trace_s", "convert_s"), *(sum(not one[i] for one in verdicts) for i in range(3))]
        cells += [sum(not any(one) for one in verdicts), _median(other, "convert_s")]
        lines.append(table_row(*cells))
    stages = ("not converted", "pruned, does not run", "outputs not kept")
    found = [dict(zip(stages, pruning_verdict(theirs[row["model"]]), strict=True)) for row in rows]
    whys = [next((f"{stage}: {_cause(why)}" for stage, why in one.items() if why), "") for one in found]
    ours = _causes([row["why"] for row in rows])
    return "\n".join(
        [*lines, "", "Models that do not count:", *ours, "", "Torch-Pruning, the first cause:", *_causes(whys)]
    )
