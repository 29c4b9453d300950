"""The page is self-contained, and escapes what it shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nas.engine.store.block_costs import BlockCosts, BlockLatencies, NetworkCosts
from nas.results.analysis.finetuned_runs import Finetuning
from nas.results.analysis.network_selection import Limit, parse_limits
from nas.results.analysis.report import RunReport, build_report
from nas.results.plots import charts, html_page
from nas.results.plots.front_chart import FINETUNED_NAME, Networks, front_chart
from nas.results.plots.plotly_charts import figure_of
from nas.results.plots.search_charts import convergence_chart
from supernets.space import Choice, SearchSpace
from tests.nas.results.export.runs import FOUR, PROFILE, example_run, trained_further
from tests.nas.service.pages.chromium import running_chromium


class Outline(HTMLParser):
    """Tags with their attributes, and the texts of table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self._in_cell = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "td":
            self._in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.cells[-1] += data


def page(report: RunReport, *, limits: Sequence[Limit] = (), finetunings: Sequence[Finetuning] = ()) -> str:
    front, curve = front_chart(report, limits, finetunings), convergence_chart(report)
    return html_page.page(report, front, curve, finetunings=finetunings)


def outline(text: str) -> Outline:
    parser = Outline()
    parser.feed(text)
    return parser


@pytest.fixture(scope="module")
def report() -> RunReport:
    return build_report(example_run(), run="example-1")


def test_the_page_fetches_nothing(report: RunReport) -> None:
    found = outline(page(report))
    assert not [tag for tag, attrs in found.tags if tag in ("link", "img", "iframe") or "src" in attrs]
    assert {attrs.get("id") for tag, attrs in found.tags if tag == "div"} >= {"front", "convergence"}


def test_the_table_shows_where_the_time_of_a_network_goes() -> None:
    store = example_run()
    key = build_report(store, run="x").front[0].key
    latencies = {PROFILE: BlockLatencies((0.3, 0.6), 0.1)}
    store.record_block_costs(
        BlockCosts(("stem", "head"), {key: NetworkCosts((88, 30_000), (4608, 2_500_000), latencies)})
    )
    text = page(build_report(store, run="x"))
    assert (
        "Where the time goes: shares of the latency on cpu-1-thread as predicted from the lookup table: 1.0000 ms"
        in text
    )
    assert '<tr style="--share: 60.0%"><th scope="row">head</th><td>60 %</td><td>0.6000</td><td>2,500,000</td>' in text
    assert text.count("<table class") == 1  # the others were not chosen to be measured again


def test_finetuned_networks_are_listed_and_drawn(report: RunReport) -> None:
    done, left = trained_further(report)
    text = page(report, finetunings=[done, left])
    assert f"Network {done.of.key} was fine-tuned by b-1: validation accuracy" in text
    assert f"Network {left.of.key} was fine-tuned by b-2: interrupted after 1 of 3 epochs" in text
    assert "resume the run b-2" in text
    assert text.count(f'"name":"{FINETUNED_NAME}"') == 2  # the line and the ring of one network
    assert f"{FINETUNED_NAME} by b-1" in text


def test_the_table_lists_the_front_with_errors_and_test_accuracy(report: RunReport) -> None:
    text = page(report)
    cells = outline(text[text.index("<h2>Members of the front</h2>") :]).cells
    assert len(cells) == 6 * len(report.front)
    rows = [cells[i : i + 6] for i in range(0, len(cells), 6)]
    assert [row[:2] for row in rows] == [[str(i), str(report.numbers[p.key])] for i, p in enumerate(report.front)]
    assert rows[0][5].startswith("depth 1, width 8-8-8")
    assert rows[0][2:5] == ["71.7 ± 1.4 %", "0.07779 ± 0.00078 ms", "71.7 ± 1.4 %"]
    assert report.front[0].key in rows[0][5]
    assert "depth 1" in rows[0][5]


def test_the_steps_are_folded_with_their_models(report: RunReport) -> None:
    text = page(report)
    part = text[text.index("<details><summary>Steps of the search (5)") : text.index("<h2>Members of the front</h2>")]
    cells = outline(part).cells
    rows = [cells[i : i + 7] for i in range(0, len(cells), 7)]
    assert rows[0] == ["0", "–", "–", "–", "2", "2", "–"]
    assert rows[-1][:6] == ["4", "15", "1,204", "900", "8", "8"]
    assert "accuracy τ 0.80: 60 % ridge, 40 % LightGBM" in rows[-1][6]


def test_hover_texts_have_values_errors_and_source(report: RunReport) -> None:
    text = page(report)
    assert "number 3 on the front" in text
    assert "accuracy on the test part" in text
    assert "depth\\u00a01" in text
    assert "stage 0: width\\u00a08" in text
    assert "predicted, not measured" in text


def test_fronts_are_staircases_and_their_errors_are_muted(report: RunReport) -> None:
    chart = front_chart(report)
    assert chart is not None
    traces = figure_of(chart).traces
    for trace in traces:
        assert trace["line"]["shape"] == ("hv" if "lines" in trace["mode"] else "linear")
    [front] = [trace for trace in traces if "error_y" in trace]
    assert front["error_y"]["color"] == front["error_x"]["color"] == f"{front['line']['color']}66"


@pytest.mark.slow
def test_a_click_selects_a_network_in_the_chart_and_in_the_table(report: RunReport, tmp_path: Path) -> None:
    (tmp_path / "front.html").write_text(page(report))
    with running_chromium(tmp_path) as chromium:
        chromium.open(f"file://{tmp_path / 'front.html'}")
        rings = "return document.getElementById('front').layout.shapes.map(s => [s.xanchor, s.yanchor])"
        selected = "return [...document.querySelectorAll('tr.selected')].map(r => r.dataset.key)"
        for point in (report.front[2], report.front[-1]):
            place = [point.values[report.objectives[1].name], pytest.approx(100 * point.values["accuracy"])]
            chromium.click(f"tr[data-key='{point.key}'] td")
            assert place in chromium.run(rings)
            assert chromium.run(selected) == [point.key]
            assert chromium.text("#selected").startswith(f"number {report.front.index(point)} on the front")
        x, y = chromium.run(
            "const p = document.querySelector('#front .points path'); p.scrollIntoView();"
            "const b = p.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]"
        )
        chromium.click_at(x, y)
        chromium.until(lambda: chromium.run(selected) != [report.front[-1].key])
        assert not chromium.complaints()


def test_limits_and_the_reference_point_are_shown(report: RunReport) -> None:
    text = page(report, limits=parse_limits(report, "latency_ms<=1.0"))
    assert re.search(r"(\\u2264|≤) 1 ms", text)
    assert "reference point: accuracy 69.96 %" in text
    assert "99 % after" in text


def test_names_are_escaped(report: RunReport) -> None:
    evil = "</script><script>alert(1)</script>"
    evils = [tuple(f"{evil}{option}" for option in choice.options) for choice in report.space.choices]
    hostile = SearchSpace([Choice(f"stage<b>{i}", options) for i, options in enumerate(evils)])
    points = tuple(replace(p, space=hostile) for p in report.front)
    text = page(replace(report, name=evil, front=points, reference=report.reference))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_page_of_four_objectives_has_six_panels() -> None:
    text = page(build_report(example_run(FOUR), run="x"))
    assert '"xaxis6"' in text
    assert '"xaxis7"' not in text


def test_many_points_off_the_front_have_short_hover_texts(report: RunReport, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = page(report)
    monkeypatch.setattr(charts, "MANY_POINTS", 5)
    text = page(report)
    assert '"type":"scattergl"' not in whole
    assert '"type":"scattergl"' in text
    assert len(text) < len(whole)
    for point in Networks.from_report(report, report.evaluated).within:
        assert f'"{point.key}"' in text
    assert "number 3 on the front" in text


def test_a_run_without_reference_has_no_convergence(report: RunReport) -> None:
    found = outline(page(replace(report, hypervolume=(), reference={})))
    assert "convergence" not in {attrs.get("id") for _, attrs in found.tags}


def test_the_same_report_gives_the_same_page(report: RunReport) -> None:
    assert page(report) == page(report)
