"""Predicts for the rows of numbers (1.5,2,0; after -- if the first is negative) and CSV files on its command line.

Needs onnxruntime and numpy. The preprocessing is the one that the network beside it was trained with.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.results.export.scripts.prediction import Network, arguments, network_beside, predict
from supernets.data.preprocessing import standardised


def preprocessor(network: Network) -> Callable[[str], NDArray[np.float32]]:
    """A function from a row of numbers with commas between them to the network's input, a batch of 1."""
    how = network.how

    def preprocess(row: str) -> NDArray[np.float32]:
        numbers = [float(number) for number in row.split(",")]
        if len(numbers) != len(how["columns"]):
            names = ", ".join(how["columns"])
            raise ValueError(f"is {len(numbers)} numbers; expected {len(how['columns'])}: {names}")
        return standardised([numbers], how["mean"], how["std"])

    return preprocess


def rows(examples: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    """The examples, with the rows of a CSV file in place of its name; its other columns are left out."""
    for example in examples:
        if not example.endswith(".csv"):
            yield example
            continue
        try:
            with open(example, newline="", encoding="utf-8-sig") as file:
                file_rows = [",".join(row[name] for name in columns) for row in csv.DictReader(file)]
        except (OSError, KeyError, TypeError, ValueError) as error:
            sys.exit(f"{example}: cannot be read: {error!r}; expected the columns {', '.join(columns)}")
        yield from file_rows


if __name__ == "__main__":
    examples = arguments(__doc__, "ROW_OR_FILE")
    beside = network_beside(Path(__file__))
    predict(beside, rows(examples, beside.how["columns"]), preprocessor(beside))
