"""Figures are shown in the units people use, with the digits that their errors allow."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from nas.engine.formatting import (
    bound_text,
    duration,
    format_value,
    moment_text,
    option_texts,
    outline,
    prediction_error_text,
    share_text,
    title_of,
    without_ansi,
)
from nas.search.problem.objectives import Goal, Objective
from supernets.space.choice_titles import title_of_name


@pytest.mark.parametrize(
    ("name", "value", "error", "shown"),
    [
        ("accuracy", 0.8895, 0.0031, "88.95 ± 0.31 %"),
        ("accuracy", 0.717, 0.0142, "71.7 ± 1.4 %"),
        ("accuracy", 0.9, None, "90.00 %"),
        ("latency_ms@p", 0.0778, 0.00078, "0.07780 ± 0.00078 ms"),
        ("latency_ms@p", 123.4, 12.0, "123 ± 12 ms"),
        ("macs", 1_234_567.0, 0.0, "1.235 M"),
        ("macs", 300.0, 0.0, "0.00030 M"),
        ("macs", 9_990.0, 0.0, "0.0100 M"),
        ("macs", 0.0, 0.0, "0.000 M"),
        ("latency_ms@p", 0.00123, None, "0.0012 ms"),
        ("parameters", 220_000.0, 0.0, "220.0 k"),
        ("activation_bytes", 2048.0, 0.0, "2.000 KiB"),
    ],
)
def test_figures_show_their_error_to_two_digits(name: str, value: float, error: float | None, shown: str) -> None:
    assert format_value(Objective.parse(name, ["p"]), value, error) == shown


@pytest.mark.parametrize(
    ("metric", "value", "error", "shown"),
    [
        (Objective("energy", "mJ", Goal.MINIMIZE), 0.00012345, None, "0.0001234 mJ"),
        (Objective("energy", "mJ", Goal.MINIMIZE), 12.0, 0.5, "12.00 ± 0.50 mJ"),
        (Objective("accuracy", "", Goal.MAXIMIZE), 93.25, None, "93.25"),
        (Objective("accuracy", "", Goal.MAXIMIZE), 93.25, 0.5, "93.25 ± 0.50"),
    ],
)
def test_metrics_of_others_are_shown_as_they_are_stored(
    metric: Objective, value: float, error: float | None, shown: str
) -> None:
    assert format_value(metric, value, error) == shown
    assert bound_text(metric, value) in (f"{value:.6g} {metric.unit}", f"{value:.6g}")
    assert title_of(metric) in ("energy (mJ)", "accuracy")


def test_titles_carry_the_unit_and_the_profile() -> None:
    assert title_of(Objective.parse("latency_ms", ["cpu-1-thread"])) == "Latency (ms), cpu-1-thread"
    assert title_of(Objective.parse("accuracy", [])) == "Accuracy (%)"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0012, "0.12 %"),
        (0.155, "15.5 %"),
        (4.2, "420 %"),
        (10.0, "1000 %"),
        (10.1, "10.1 times"),
        (2345.6, "2346 times"),
    ],
)
def test_shares_above_1000_per_cent_are_factors(share: float, text: str) -> None:
    assert share_text(share) == text


def test_an_error_of_predictions_has_one_name_for_a_metric() -> None:
    errors = {"rmse": 0.0496, "mape": 0.1768}
    assert prediction_error_text(Objective.parse("accuracy", []), errors) == "RMSE 4.96 points"
    assert prediction_error_text(Objective.parse("latency_ms", ["p"]), errors) == "MAPE 17.7 %"
    assert prediction_error_text(Objective.parse("latency_ms", ["p"]), {"mape": None}) == ""


def test_bounds_keep_no_idle_digits() -> None:
    assert bound_text(Objective.parse("latency_ms", ["p"]), 1.0) == "1 ms"
    assert bound_text(Objective.parse("accuracy", []), 0.905) == "90.5 %"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "1.5 min"), (1500, "25 min"), (7200, "2 h"), (9000, "2.5 h")]
)
def test_durations_are_told_in_the_unit_that_people_use(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def outlined(options: dict[str, int | str]) -> str:
    """The outline of options with titles that follow from their names."""
    return outline(options, {name: title_of_name(name) for name in options})


def test_an_outline_has_depths_and_widths_by_stage_and_ranges_of_blocks() -> None:
    stages = {"resolution": 24, "stem.width": 16}
    stages |= {"stage0.depth": 2, "stage0.width": 16, "stage0.block0.kernel": 3, "stage0.block1.kernel": 7}
    stages |= {"stage1.depth": 1, "stage1.width": 32, "stage1.block0.kernel": 5}
    assert outlined(stages) == "resolution 24, stem · width 16, depth 2-1, width 16-32; kernel 3–7"
    assert outlined({"depth": 2, "width": 384, "layer0.heads": 6, "layer1.heads": 6}) == "depth 2, width 384; heads 6"
    assert outlined({"block1.act": "relu", "block2.act": "swish"}) == "act relu/swish"
    flat = {f"op{i}": "conv" for i in range(20)}
    assert outlined(flat) == "op0 conv, op1 conv, op2 conv, op3 conv, op4 conv, op5 conv, and 14 others"


def test_an_outline_of_many_layers_of_a_model_has_one_part_for_each_quantity() -> None:
    names = [f"features.{i} · depth" for i in range(4)] + [f"features.{i} · conv.0 channels" for i in range(4)]
    titles = {f"choice{i}": title for i, title in enumerate(names)}
    options = dict(zip(titles, (1, 0, 2, 1, 0.25, 1.0, 0.5, 0.25), strict=True))
    assert outline(options, titles) == "depth 1-0-2-1, channels 0.25–1.0"


def test_options_of_one_part_of_the_network_are_together() -> None:
    titles = {
        "a": "stage 0 · depth",
        "b": "stage 0, block 1 · kernel",
        "c": "stage 0, block 1 · expand",
        "d": "precision",
    }
    texts = option_texts({"a": 2, "b": 3, "c": 4, "d": "int8"}, titles)
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts] == [
        "stage 0: depth 2",
        "stage 0, block 1: kernel 3, expand 4",
        "precision int8",
    ]


def test_parts_that_a_layer_skips_are_named() -> None:
    options = {"layer3.heads": 0, "layer3.hidden": 64, "layer4.heads": 2, "layer4.hidden": 0}
    texts = option_texts(options, {name: title_of_name(name) for name in options})
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in texts] == [
        "layer 3: no attention, hidden 64",
        "layer 4: heads 2, no MLP",
    ]


def test_times_have_their_zone() -> None:
    moment = datetime(2026, 12, 1, 16, 7, 59, tzinfo=timezone(timedelta(hours=1)))
    assert moment_text(moment) == "2026-12-01 15:07 UTC"


def test_texts_lose_the_colours_of_terminals() -> None:
    assert (
        without_ansi("\x1b[36mray::score()\x1b[39m (pid=7) \x1b[1;31mfailed\x1b[0m [2]")
        == "ray::score() (pid=7) failed [2]"
    )
