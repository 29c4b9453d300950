"""Plans against runs: the time and the peak memory that `nas plan` states, and what `nas search` takes.

    python -m tests.benchmarks.forecasts [--only digits] [--folder work]

Method. Eight jobs: digits, a table of numbers, sentences and a decoder from a folder of the transformers library, each in one
process and with Ray; shortened recipes, with data that are made here. Each is planned and then searched, at once, at the
machine's present load, which changes both. The memory is that of all processes of the command, sampled. A forecast is right
within a factor of 1.5. A second call with the same folder continues with the jobs that are missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml

from nas.jobs.recipes import read_recipe
from supernets.data.tokenizing import train_byte_pairs
from supernets.networks.formats.pretrained import TOKENIZER
from tests.benchmarks.markdown import table_head, table_row
from tests.supernets.data.test_documents import document
from tests.supernets.families.decoder.test_decoder_pretrained import saved

FACTOR = 1.5
_SEARCH = {"evaluations": 24, "batch": 8}
_FILLERS = ["the", "a", "box", "of", "light", "in", "this", "room"]
_WORDS = {"good": "fine bright clear", "bad": "dull dark broken"}


def _digits(folder: Path) -> dict[str, Any]:
    return _shortened("digits-cnn", training={"epochs": 10})


def _numbers(folder: Path) -> dict[str, Any]:
    rows = np.random.default_rng(0).normal(size=(600, 8))
    lines = [",".join(f"{value:.4f}" for value in [*row, row[:3].sum() + row[3] * row[4]]) for row in rows]
    (folder / "numbers.csv").write_text("\n".join([",".join([*(f"x{i}" for i in range(8)), "target"]), *lines]))
    return _shortened("own-numbers", training={"epochs": 30}, objectives=["mae", "latency_ms"])


def _sentences(folder: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    lines = ["text,label"]
    for label in rng.choice(list(_WORDS), 1000):
        words = [*rng.choice(_WORDS[label].split(), 3), *rng.choice(_FILLERS, 9)]
        lines.append(f"{' '.join(rng.permutation(words))},{label}")
    (folder / "sentences.csv").write_text("\n".join(lines))
    return _shortened("own-sentences", training={"epochs": 3}, data={"max_tokens": 24})


def _decoder(folder: Path) -> dict[str, Any]:
    documents = [document(i) for i in range(200)]
    tokenizer = train_byte_pairs(documents, vocabulary=300, special="<|endoftext|>")
    saved(
        "llama", folder / "llama", hidden_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        intermediate_size=384, num_hidden_layers=6, max_position_embeddings=128, vocab_size=tokenizer.get_vocab_size(),
        bos_token_id=0, eos_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    tokenizer.save(str(folder / "llama" / TOKENIZER))
    (folder / "texts.txt").write_text("\n\n".join(documents), encoding="utf-8")
    space = {"head_size": 32, "depth": [5, 6], "kept": "importance", "width": [128], "heads": [2], "queries": [2]}
    return _shortened(
        "smollm2-domain",
        data={"path": "texts.txt", "max_tokens": 64},
        supernet={"pretrained": "llama", "space": {**space, "hidden": [192, 256, 320, 384]}},
        training={"threads": 1},
    )


_JOBS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    "digits": _digits, "numbers": _numbers, "sentences": _sentences, "decoder": _decoder,
}  # fmt: skip


def _shortened(recipe: str, **changes: Any) -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(read_recipe(recipe))
    for section, change in {"search": _SEARCH, **changes}.items():
        job[section] = {**job[section], **change} if isinstance(change, dict) else change
    return job


def _nas(folder: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "nas.cli", *arguments, "--json"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(answer.stderr)
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def measured(folder: Path, name: str, *, inline: bool) -> dict[str, Any]:
    """The plan and the facts of a job, as `nas search --json` has them.

    Args:
        folder: Folder of the job and its data, which is made.
        name: One of `_JOBS`.
        inline: True for a search in one process.
    """
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(yaml.safe_dump(_JOBS[name](folder)), encoding="utf-8")
    way = ["--inline"] if inline else []
    _nas(folder, "plan", "job.yaml", *way)
    usage: dict[str, Any] = _nas(folder, "search", "job.yaml", *way)["usage"]
    return usage | {"load_1m": os.getloadavg()[0]}


def _row(name: str, usage: Mapping[str, Any]) -> tuple[str, float, float]:
    planned, taken = usage["planned"], sum(usage["time"].values())
    total, memory = planned["time"]["total"]["seconds"], planned["memory"]["mib"]
    ratios = taken / total, usage["peak_mib"] / memory
    cells = [f"{total:.0f}", f"{taken:.0f}", f"{ratios[0]:.2f}"]
    cells += [f"{memory:.0f}", f"{usage['peak_mib']:.0f}", f"{ratios[1]:.2f}", f"{usage['load_1m']:.1f}"]
    return table_row(name, *cells), *ratios


def main(
    only: Annotated[list[str] | None, typer.Option(help="Jobs: digits, numbers, sentences, decoder.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder of the jobs and their results; a temporary one.")] = None,
) -> None:
    """Plans and searches the jobs, and prints the table."""
    root = (folder or Path(tempfile.mkdtemp())).absolute()
    root.mkdir(parents=True, exist_ok=True)
    print(table_head("job", "planned s", "taken s", "ratio", "planned MiB", "peak MiB", "ratio", "load"))
    right = n = 0
    for name in only or _JOBS:
        for inline in (True, False):
            title = f"{name}, {'one process' if inline else 'Ray'}"
            result = root / f"{name}-{'inline' if inline else 'ray'}.json"
            if not result.exists():
                usage = measured(Path(tempfile.mkdtemp(dir=root)) / "job", name, inline=inline)
                result.write_text(json.dumps(usage))
            line, *ratios = _row(title, json.loads(result.read_text()))
            print(line, flush=True)
            right += sum(1 / FACTOR <= ratio <= FACTOR for ratio in ratios)
            n += len(ratios)
    print(f"\n{right} of {n} within a factor of {FACTOR}")


if __name__ == "__main__":
    typer.run(main)
