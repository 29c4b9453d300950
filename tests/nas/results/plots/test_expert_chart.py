"""The chart of a network's experts: the quality for each number of them, and the tokens routed to each."""

from __future__ import annotations

import numpy as np
import pytest

from nas.results.export.expert_usage import ExpertQuality
from nas.results.plots.expert_chart import expert_chart
from nas.results.plots.matplotlib_charts import figure_of
from nas.search.problem.objectives import Objective

LAYERS = ({"name": "layer0", "usage": [0.5, 0.25, 0.25]}, {"name": "layer1", "usage": [0.1, 0.9]})
QUALITY = ExpertQuality(
    "moe-1",
    "0-1",
    Objective.parse("accuracy", []),
    64,
    ((2, 1), 0.75, 0.02),
    (1, 2, 3),
    (0.6, 0.7, 0.8),
    (0.01, 0.02, 0.03),
    frozenset({2}),
    LAYERS,
)


def test_numbers_in_the_space_and_the_networks_own_are_told_apart() -> None:
    quality, usage, _ = figure_of(expert_chart(QUALITY)).axes
    points = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in quality.get_lines()}
    assert points["in the space"] == [[2.0, 70.0]]
    assert points["not in the space"] == [[1.0, 60.0], [3.0, 80.0]]
    assert points["the network's own numbers (mean)"] == [[1.5, 75.0]]
    cells = np.ma.filled(usage.collections[0].get_array(), np.nan)
    assert cells == pytest.approx(np.array([[50, 25, 25], [10, 90, np.nan]]), nan_ok=True)
    assert [label.get_text() for label in usage.get_yticklabels()] == ["layer0", "layer1"]
