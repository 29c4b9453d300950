"""Scoring over a Ray cluster that changes: real nodes on this machine come and go, and actors die, while tasks are scored."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from ray.cluster_utils import Cluster

from nas.engine.evaluation import actors
from nas.engine.evaluation.base import Outcome
from nas.jobs.evaluation.ray_pool import RayPool
from nas.jobs.evaluation.scoring import InlineScoring, Scored, ScoringTask
from nas.search.problem.objectives import Variant
from supernets.data import DataSet, Part, head
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN
from supernets.sharing.base import Supernet
from supernets.sharing.spec import SharingSpec
from supernets.tasks import Regression
from supernets.training import recalibration
from supernets.training.checkpoint import make_supernet
from tests.conftest import digits_family, with_ink
from tests.errors import raises
from tests.ray_cluster import actors_of, add_node, kill, kill_node, running_cluster

pytestmark = [pytest.mark.slow, pytest.mark.ray]

Outcomes = Iterator[Outcome[ScoringTask, Scored]]
Parts = tuple[Part, Part]
"""Calibration images, images and labels."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Its head offers no CPU; tests add the nodes that do."""
    with running_cluster(head_cpus=0) as made:
        yield made


@pytest.fixture(scope="module")
def supernet(digits: DataSet) -> Supernet:
    torch.manual_seed(0)
    return make_supernet(digits_family(digits))


@pytest.fixture(scope="module")
def parts(digits: DataSet) -> Parts:
    return head(digits.train, 200), digits.validation


@pytest.fixture
def pool(cluster: Cluster, supernet: Supernet, parts: Parts) -> Iterator[RayPool]:
    made = RayPool(InlineScoring(supernet, *parts), workers=None)
    yield made
    made.close()


@pytest.fixture(scope="module")
def tasks(supernet: Supernet) -> list[ScoringTask]:
    rng = np.random.default_rng(0)
    return [ScoringTask(supernet.space.sample(rng), Variant(), metrics=("accuracy",), model=False) for _ in range(8)]


@pytest.fixture(scope="module")
def expected(supernet: Supernet, parts: Parts, tasks: list[ScoringTask]) -> dict[ScoringTask, bytes | None]:
    """What scoring in this process gives."""
    return bits(InlineScoring(supernet, *parts).run(tasks))


def bits(results: Outcomes) -> dict[ScoringTask, bytes | None]:
    """The scores of each task's images by its first metric; each came once."""
    found: dict[ScoringTask, bytes | None] = {}
    for outcome in results:
        scored = outcome.result
        assert scored is not None
        assert not outcome.failure
        assert not scored.failure
        assert scored.task not in found
        found[scored.task] = scored.scores[scored.task.metrics[0]].samples
    return found


def after_first(results: Outcomes, act: Callable[[], None]) -> Outcomes:
    """The results; something happens once the first one is there."""
    yield next(results)
    act()
    yield from results


def test_when_a_node_dies_the_others_do_its_tasks(
    cluster: Cluster, pool: RayPool, tasks: list[ScoringTask], expected: dict[ScoringTask, bytes | None]
) -> None:
    first, second = add_node(cluster), add_node(cluster)
    assert bits(pool.run(tasks)) == expected
    assert [len(actors_of(node)) for node in (first, second)] == [1, 1]
    results = pool.run(tasks)
    assert bits(after_first(results, lambda: kill_node(cluster, second))) == expected
    for _ in range(2):  # in the first one the death may come out only after the living actor has done all
        assert bits(pool.run(tasks)) == expected
    assert len(actors_of(first)) == 1
    third = add_node(cluster)  # is taken into use
    assert bits(pool.run(tasks)) == expected
    assert len(actors_of(third)) == 1


def test_actors_killed_on_a_living_node_are_replaced(
    cluster: Cluster, pool: RayPool, tasks: list[ScoringTask], expected: dict[ScoringTask, bytes | None]
) -> None:
    node = add_node(cluster)
    assert bits(after_first(pool.run(tasks), lambda: kill(actors_of(node)))) == expected
    kill(actors_of(node))  # between two calls
    assert bits(pool.run(tasks)) == expected
    assert len(actors_of(node)) == 1


def test_without_any_cpu_what_to_do_is_told_and_what_came_is_kept(
    cluster: Cluster, pool: RayPool, tasks: list[ScoringTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors, "_PATIENCE_S", 3.0)
    node = add_node(cluster)
    results = pool.run(tasks)
    first = next(results).result
    assert first is not None
    assert first.scores["accuracy"].samples
    kill_node(cluster, node)
    with raises("cluster.no-cpu", "ray start --address=HEAD", "resume"):
        list(results)
    add_node(cluster)
    assert len(bits(pool.run(tasks))) == len(tasks)


def test_what_subnets_are_corrected_by_is_computed_once(
    cluster: Cluster, parts: Parts, supernet: Supernet, tasks: list[ScoringTask], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        add_node(cluster)
    corrected = make_supernet(supernet.family, SharingSpec(correction="least-squares"))
    expected = bits(InlineScoring(corrected, *parts).run(tasks))
    scoring = InlineScoring(corrected, *parts)
    pool = RayPool(scoring, workers=2)
    try:
        assert bits(pool.run(tasks)) == expected
    finally:
        pool.close()
    monkeypatch.setattr(recalibration, "LayerCorrection", None)  # of which this process needs no more either
    assert bits(scoring.run(tasks[:2])) == {task: expected[task] for task in tasks[:2]}


def test_another_task_is_scored_as_in_this_process(cluster: Cluster, digits: DataSet) -> None:
    add_node(cluster)
    data = with_ink(digits)
    task = Regression().for_data(data)
    torch.manual_seed(0)
    made = make_supernet(MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=1))
    chosen = (made.space.smallest, made.space.largest)
    tasks = [ScoringTask(architecture, Variant(), metrics=("mae", "r2"), model=False) for architecture in chosen]
    given = (head(data.train, 200), data.validation)
    pool = RayPool(InlineScoring(made, *given, task), workers=1)
    try:
        answers = {outcome.task: outcome.result for outcome in pool.run(tasks)}
    finally:
        pool.close()
    for outcome in InlineScoring(made, *given, task).run(tasks):
        expected, answer = outcome.result, answers[outcome.task]
        assert expected is not None
        assert answer is not None
        assert not expected.failure
        assert answer.scores == expected.scores
