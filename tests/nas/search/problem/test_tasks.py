from nas.search.problem.objectives import Goal, Objective
from nas.search.problem.tasks import CLASSIFICATION, SHIPPED, TaskMetrics, task_of


def test_the_scored_metric_is_the_first_of_the_job_that_is_the_tasks() -> None:
    mae, r2 = SHIPPED["regression"].metrics
    macs = Objective.parse("macs", ())
    assert SHIPPED["regression"].scored([macs, r2, mae]) == r2
    assert SHIPPED["regression"].scored([macs]) == mae


def test_a_task_survives_the_trip_through_facts() -> None:
    task = TaskMetrics("pkg.mod:Marks", (Objective("overlap", "share", Goal.MAXIMIZE),))
    assert TaskMetrics.from_json(task.to_json()) == task


def test_the_task_that_has_a_metric() -> None:
    assert (task_of("r2"), task_of("accuracy"), task_of("macs")) == ("regression", CLASSIFICATION.name, None)
