"""Networks as a CSV table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from nas.api.schemas import Network


def networks_csv(networks: Sequence[Network]) -> str:
    """One row for each network: its metrics in stored units with their errors, and its architecture.

    No cell can be a formula of a spreadsheet: names and keys begin with letters or digits.
    """
    metrics = list(dict.fromkeys(name for network in networks for name in network.figures))
    choices = list(dict.fromkeys(name for network in networks for name in network.architecture))
    out = io.StringIO()
    writer = csv.writer(out)
    header = ["number", "key", *(part for name in metrics for part in (name, f"{name} error"))]
    writer.writerow([*header, "test accuracy", "test accuracy error", "source", "fidelity", "within limits", *choices])
    for network in networks:
        row: list[object] = ["" if network.number is None else network.number, network.key]
        for name in metrics:
            metric = network.figures.get(name)
            row += ["", ""] if metric is None else [metric.value, metric.error]
        test = network.test
        row += ["", ""] if test is None else [test.value, test.error]
        row += [network.source, network.fidelity, "yes" if network.within_limits else "no"]
        writer.writerow([*row, *(network.architecture.get(choice, "") for choice in choices)])
    return out.getvalue()
