"""`nas.jobs.run.preparation`: a job that cannot be done is rejected before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas.jobs.build.search_objects import exact_values
from nas.jobs.run.preparation import check_searchable
from tests.errors import raises
from tests.nas.jobs.build.jobs import prepared


@pytest.mark.parametrize(
    ("metric", "bound", "key", "value"), [("macs", "max", 10, "10"), ("parameters", "min", "1.0e+9", "1e+09")]
)
def test_a_bound_outside_of_the_space_s_range_is_rejected_with_the_range(
    tmp_path: Path, metric: str, bound: str, key: object, value: str
) -> None:
    job = prepared(tmp_path, f"constraints: {{{metric}: {{{bound}: {key}}}}}\n")
    ends = exact_values(job.untrained(), job.job.variants, metric, [job.space.smallest, job.space.largest])
    mentions = [f"job.yaml: constraints.{metric}.{bound}", value, *(f"{end:g}" for end in ends)]
    with raises("job.constraint-unsatisfiable", *mentions):
        check_searchable(job)


def test_the_range_includes_the_precisions(tmp_path: Path) -> None:
    """Activations in int8 take a quarter of the bytes: a limit that only they keep is one that can be kept."""
    job = prepared(tmp_path, "precisions: [int8, fp32]\n")
    least = job.untrained().cost(job.family.space.smallest).activation_bytes
    limit = f"constraints: {{activation_bytes: {{max: {0.5 * least}}}}}\n"
    check_searchable(prepared(tmp_path, "precisions: [int8, fp32]\n" + limit))
    with raises("job.constraint-unsatisfiable", "constraints.activation_bytes.max"):
        check_searchable(prepared(tmp_path, limit))


@pytest.mark.parametrize("metric", ["macs", "parameters", "activation_bytes"])
def test_no_network_costs_less_than_the_smallest_or_more_than_the_largest(tmp_path: Path, metric: str) -> None:
    """What the range rests on, over the whole space."""
    job = prepared(tmp_path, "")
    table = job.untrained().costs(job.space.enumerate())
    costs = getattr(table, metric).sum(axis=1)
    ends = job.untrained().costs([job.space.smallest, job.space.largest])
    assert (costs.min(), costs.max()) == tuple(getattr(ends, metric).sum(axis=1))
    assert len(np.unique(costs)) > 10
