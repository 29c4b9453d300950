"""What is printed of metrics of tasks other than classification."""

from nas.engine.formatting import (
    change_text,
    format_value,
    prediction_error_text,
    score_text,
    title_of,
    title_on_test,
)
from nas.results.analysis.fronts import cost_objective, primary_objective
from nas.search.problem.objectives import ACCURACY, Goal, Objective
from nas.search.problem.tasks import SHIPPED

MAE, R2 = SHIPPED["regression"].metrics
(PRECISION,) = SHIPPED["multi-label"].metrics
OVERLAP = Objective("overlap", "share", Goal.MAXIMIZE, scored=True)
LATENCY = Objective.parse("latency_ms", ["cpu"])


def test_titles_name_the_metric_and_its_unit() -> None:
    titles = [title_of(metric) for metric in (ACCURACY, MAE, R2, PRECISION, OVERLAP)]
    assert titles == ["Accuracy (%)", "Mean absolute error", "R²", "Average precision (%)", "overlap (%)"]
    titles = [title_on_test(metric) for metric in (ACCURACY, MAE, R2, PRECISION)]
    assert titles == ["Test accuracy (%)", "Test mean absolute error", "Test R²", "Test average precision (%)"]


def test_values_have_their_error_and_unit() -> None:
    assert format_value(MAE, 3.4412, 0.213) == "3.44 ± 0.21"
    assert format_value(OVERLAP, 0.8, 0.01) == "80.0 ± 1.0 %"
    assert score_text(R2, {"r2": -0.25, "error": 0.0}) == "-0.25"
    assert score_text(MAE, None) == "–"
    assert change_text(ACCURACY, 0.8895, 0.901) == "88.95% → 90.10%"
    assert change_text(MAE, 3.44119, 3.2) == "3.441 → 3.2"


def test_errors_of_predictions_are_in_the_metrics_scale() -> None:
    errors = {"rmse": 0.012, "mape": 0.05}
    texts = [prediction_error_text(metric, errors) for metric in (ACCURACY, MAE, LATENCY)]
    assert texts == ["RMSE 1.2 points", "RMSE 0.012", "MAPE 5.0 %"]


def test_quality_is_the_tasks_metric_though_it_is_minimised() -> None:
    throughput = Objective.parse("throughput", ["cpu"])
    assert primary_objective([LATENCY, MAE]) == MAE
    assert cost_objective([MAE, LATENCY]) == LATENCY
    assert cost_objective([MAE, throughput]) != ACCURACY
