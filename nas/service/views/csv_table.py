"""Networks as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from nas.api.schemas import Network


def networks_csv(networks: Sequence[Network]) -> str:
    """One row a network: its figures in the units they are stored in with their errors, and its architecture.

    Text that a spreadsheet would take for a formula is none: names and keys begin with letters or digits.
    """
    figures = list(dict.fromkeys(name for network in networks for name in network.figures))
    choices = list(dict.fromkeys(name for network in networks for name in network.architecture))
    out = io.StringIO()
    writer = csv.writer(out)
    header = ["number", "key", *(part for name in figures for part in (name, f"{name} error"))]
    writer.writerow([*header, "test accuracy", "test accuracy error", "source", "fidelity", "within limits", *choices])
    for network in networks:
        row: list[object] = ["" if network.number is None else network.number, network.key]
        for name in figures:
            figure = network.figures.get(name)
            row += ["", ""] if figure is None else [figure.value, figure.error]
        test = network.test
        row += ["", ""] if test is None else [test.value, test.error]
        row += [network.source, network.fidelity, "yes" if network.within_limits else "no"]
        writer.writerow([*row, *(network.architecture.get(choice, "") for choice in choices)])
    return out.getvalue()
