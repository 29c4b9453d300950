"""Networks solved for random limits on two costs: what was predicted, what was measured, and the noise floor.

    python -m tests.benchmarks.solved_limits RUN [--runs runs] [--limits 10] [--costs latency_ms,parameters]

Limits are drawn evenly between the costs of the run's smallest and largest network, again where no network keeps them, and
where the run has measured the solution before, which then predicts itself. Each is solved, and its network measured, as by
`nas export RUN --select LIMITS --solve`; the run keeps it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import nas
from nas.errors import SelectionError
from nas.search.problem.objectives import Objective
from tests.benchmarks.markdown import table_head, table_row

_MAX_REPEATED = 40
MAX_DIFFERENCE = 0.03
"""The largest relative difference between predicted and measured costs that the table counts as met."""


def main(
    run: Annotated[str, typer.Argument(help="a finished search of this project")],
    runs: Annotated[Path, typer.Option(help="the runs folder")] = Path("runs"),
    limits: Annotated[int, typer.Option(help="number of pairs of limits")] = 10,
    costs: Annotated[str, typer.Option(help="the two costs, the first a timed one")] = "latency_ms,parameters",
    seed: int = 0,
) -> None:
    """Prints a row for each pair of limits, then how many met the bars."""
    opened, rng = nas.open_run(run, runs), np.random.default_rng(seed)
    timed, computed = (Objective.parse(name, opened.report.profiles).name for name in costs.split(","))
    ranges = _ranges(opened, timed, computed)
    print(
        table_head(
            "limits", timed, "predicted", "measured", "noise floor", "difference", computed, "accuracy", "measured now"
        )
    )
    solved_limits, n_repeated = list[dict[str, Any]](), 0
    while len(solved_limits) < limits:
        shares = rng.uniform(0.15, 0.95, 2)
        bounds = [low + share * (high - low) for share, (low, high) in zip(shares, ranges, strict=True)]
        try:
            solved = opened.solve(f"{timed}<={bounds[0]:.6g}, {computed}<={bounds[1]:.0f}")
        except SelectionError:
            continue
        if not solved["n_measured"]:  # a network that the run has measured before predicts itself
            n_repeated += 1
            if n_repeated > _MAX_REPEATED:
                print(f"stopped: {n_repeated} solutions were measured before")
                break
            continue
        solved_limits.append(solved | {"bound": bounds[0]})
        predicted, measured = solved["predicted"], solved["measured"]
        cells = [f"{share:.0%}" for share in shares]
        accuracy = next(name for name in measured if name not in (timed, computed))
        print(
            table_row(
                " / ".join(cells),
                f"{bounds[0]:.4g}",
                f"{predicted[timed]:.4g}",
                f"{measured[timed]:.4g}",
                f"{solved['errors'][timed]:.2g}",
                f"{measured[timed] / predicted[timed] - 1:+.1%}",
                f"{measured[computed]:,.0f} of {bounds[1]:,.0f}",
                f"{predicted[accuracy]:.4f} → {measured[accuracy]:.4f}",
                solved["n_measured"],
            ),
            flush=True,
        )
    differences = [abs(s["measured"][timed] / s["predicted"][timed] - 1) for s in solved_limits]
    above = [s["measured"][timed] - s["bound"] > s["errors"][timed] for s in solved_limits]
    in_noise = [abs(s["measured"][timed] - s["predicted"][timed]) <= s["errors"][timed] for s in solved_limits]
    n_met = sum(difference <= MAX_DIFFERENCE for difference in differences)
    print(
        f"{n_met} of {len(differences)} within {MAX_DIFFERENCE:.0%} of the prediction (median {np.median(differences):.1%});"
    )
    print(f"{sum(in_noise)} of {len(in_noise)} within the noise floor of the measurement;")
    print(f"{sum(above)} of {len(above)} above the limit by more than the noise floor")


def _ranges(run: nas.Run, timed: str, computed: str) -> list[tuple[float, float]]:
    """The costs of the smallest and the largest network."""
    anchors = run.report.anchors
    checkpoint = run.solve(f"{computed}<=1e30")  # measures nothing new: the largest network is measured
    largest = checkpoint["measured"][computed]
    latencies = anchors["smallest"].values[timed], anchors["largest"].values[timed]
    return [latencies, (0.0, largest)]


if __name__ == "__main__":
    typer.run(main)
