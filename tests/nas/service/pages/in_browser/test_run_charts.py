"""A run's charts: series, architectures, genes, downloads and colours."""

from __future__ import annotations

import csv
import json
import time
from xml.etree import ElementTree

import pytest
from PIL import Image

from nas.engine.formatting import format_value
from nas.engine.store.block_costs import BlockCosts, BlockLatencies, NetworkCosts
from nas.engine.store.opening import open_store
from nas.results.analysis.insight import insight_json
from nas.runs.run import Run
from nas.search.problem.budget import Budget
from nas.search.problem.objectives import Objective
from supernets.space import Choice, SearchSpace
from tests.contracts.run_facts import search_facts
from tests.nas.results.export.runs import BOARD, PROFILE, SPACE, TWO, measure
from tests.nas.service.made_runs import searched
from tests.nas.service.pages import axe
from tests.nas.service.pages.chromium import Chromium, Theme
from tests.nas.service.pages.in_browser.windows import LATENCY, chosen, open_run, open_settled, set_limit
from tests.nas.service.pages.running import Server

pytestmark = pytest.mark.slow


def test_measured_and_predicted_differ_in_shape_and_name(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    names = {e.text: e for e in chromium.all("#legend li")}
    assert {"front, measured (± error)", "measured", "predicted, not measured"} <= set(names)
    shapes = chromium.run(
        "return document.getElementById('front-chart').data.map(t => [t.marker.symbol, t.mode, t.x.length])"
    )
    assert ["diamond-open", "markers", len(made.service.results.report("plain-1").predicted)] in shapes
    assert [mode for symbol, mode, _ in shapes if symbol == "diamond-open"] == ["markers", "lines+markers"]  # the best


def test_the_chosen_network_is_drawn_beside_the_largest(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    set_limit(chromium, 0.5)
    point = next(p for p in made.service.results.report("plain-1").candidates if p.key == chosen(chromium))
    text = chromium.find("#architecture svg").get_attribute("aria-label") or ""
    largest = SPACE.values(SPACE.largest)
    for name, value in point.described.items():
        short = name.rpartition(".")[2]
        of = "" if value == largest[name] or short == "kernel" else f" of {largest[name]}"
        assert f"{short} {value}{of}" in text
    n_left_out = len(largest) - len(point.described)
    assert text.count("left out") == n_left_out
    assert len(chromium.all("#architecture rect.own")) == 1 + 3 + (2 - n_left_out)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_chosen_network_shows_where_its_time_goes(chromium: Chromium, server: Server, theme: Theme) -> None:
    searched(server.runs, name="timed")
    store = open_store(server.runs.get("timed-1"), create=False, driver=True)
    key = server.service.results.report("timed-1").front[0].key
    latencies = {PROFILE: BlockLatencies((0.3, 0.6), 0.1)}
    store.record_block_costs(
        BlockCosts(("stem", "head"), {key: NetworkCosts((88, 30_000), (4608, 2_500_000), latencies)})
    )
    store.close()
    point = next(p for p in server.service.results.report("timed-1").candidates if p.key == key)
    chromium.look(theme=theme, width=375)
    open_settled(chromium, f"{server.url}/runs/timed-1?network={key}")
    chromium.until(lambda: chosen(chromium) == key)
    chromium.click("#blocks summary")
    rows = [[cell.text for cell in row.find_elements("css selector", "th, td")] for row in chromium.all("#blocks tr")]
    assert rows[1:] == [
        ["stem", "30 %", "0.3000", "4,608", "88"],
        ["head", "60 %", "0.6000", "2,500,000", "30,000"],
        ["in no block", "10 %", "0.1000", "–", "–"],
        ["whole network", "100 %", "1.0000", "2,504,608", "30,088"],
    ]
    assert rows[0][2] == f"Predicted latency (ms), {PROFILE}"
    basis, metric = chromium.text("#blocks-basis"), Objective.parse(LATENCY, [PROFILE])
    assert "as predicted from the lookup table: 1.0000 ms, of which 0.1000 ms are in no block" in basis
    assert f"measured: {format_value(metric, point.values[LATENCY], point.errors[LATENCY])}." in basis
    drawn = [text.text for text in chromium.all("#architecture text")]
    assert {"30 %", "88 parameters", "4,608 MACs", "60 %", "30 k parameters", "2.5 M MACs"} <= set(drawn)
    shades = "return [...document.querySelectorAll('#architecture rect.fixed')].map(r => getComputedStyle(r).fill)"
    assert len(set(chromium.run(shades))) == 2
    grave = axe.found(chromium)["grave"]
    assert not grave, json.dumps(grave, indent=1)
    assert chromium.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth") == 0

    chromium.open(f"{server.url}/runs/timed-1?network={point.space.largest.key}")
    chromium.until(lambda: chosen(chromium) == point.space.largest.key)
    assert chromium.run("return document.getElementById('blocks').hidden")
    assert "chosen to be measured again" in chromium.text("#blocks-basis")
    assert not chromium.complaints()


def test_charts_are_downloaded_as_pictures_and_tables(chromium: Chromium, made: Server) -> None:
    open_settled(chromium, f"{made.url}/runs/plain-1")
    report = made.service.results.report("plain-1")
    paths = []
    for button in chromium.all(".downloads button"):
        name, kind = str(button.get_attribute("aria-label")).split()[1::2]
        button.click()
        paths.append(chromium.downloaded(f"{name}.{kind.lower()}"))
        time.sleep(0.15)  # as a user at the fastest: Chromium drops the eleventh download of a second without a word
    assert {path.stem for path in paths} >= {"plain-1-front", "plain-1-convergence", "plain-1-predictors"}
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert len(image.convert("RGB").getcolors(image.width * image.height) or ()) > 20
        elif path.suffix == ".svg":
            texts = "".join(ElementTree.parse(path).getroot().itertext())
            assert "plain-1: " in texts or path.stem.endswith("architecture")
    rows = list(csv.DictReader((chromium.downloads / "plain-1-front.csv").read_text(encoding="utf-8").splitlines()))
    front = [[float(value) for value in list(row.values())[1:]] for row in rows if row["series"].startswith("front")]
    for found, point in zip(front, report.front, strict=True):
        latency, share = point.values[LATENCY], point.values["accuracy"]
        expected = [latency, 100 * share, point.errors[LATENCY], 100 * point.errors["accuracy"]]
        assert found == pytest.approx(expected)
    assert not chromium.complaints()


def deep_costs(space: SearchSpace) -> BlockCosts:
    """Costs of the smallest and the largest network of 5 stages of 9 blocks; the stem has half of the latency."""
    places = ["stem", *(f"stage{s}.block{b}" for s in range(5) for b in range(9)), "head"]
    shares = [0.5, *(0.4 / 45 for _ in range(45)), 0.1]
    latencies = {PROFILE: BlockLatencies(tuple(0.9 * share for share in shares), 0.1)}
    own = NetworkCosts(tuple(range(1, 48)), tuple(range(1000, 1047)), latencies)
    return BlockCosts(tuple(places), {space.smallest.key: own, space.largest.key: own})


@pytest.mark.parametrize("with_costs", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_network_of_45_blocks_is_drawn_within_the_page(
    chromium: Chromium, server: Server, width: int, with_costs: bool
) -> None:
    depths = [Choice(f"stage{s}.depth", tuple(range(2, 10))) for s in range(5)]
    kernels = [
        Choice(f"stage{s}.block{b}.kernel", (3, 5), None if b < 2 else (f"stage{s}.depth", b - 1))
        for s in range(5)
        for b in range(9)
    ]
    space = SearchSpace([*depths, *kernels])
    store = open_store(server.runs.create("deep", "name: deep\n"), create=True, driver=True)
    store.describe(search_facts(space, TWO, profiles=[PROFILE], name="deep"), budget=Budget(2))
    store.record_ask(0, [space.smallest, space.largest])
    for architecture in (space.smallest, space.largest):
        measure(store, architecture, store.search_facts().objectives)
    if with_costs:
        store.record_block_costs(deep_costs(space))
    store.close()
    chromium.look(width=width)
    chromium.open(f"{server.url}/runs/deep-1?network={space.smallest.key}")
    chromium.until(lambda: chosen(chromium) == space.smallest.key)
    n_legend = 5 if with_costs else 0
    assert len(chromium.all("#architecture rect.own")) == 5 * 2 + n_legend
    assert len(chromium.all("#architecture rect.shaded")) == (5 * 2 + 2 + n_legend if with_costs else 0)
    assert len(chromium.all("#architecture rect.ghost")) == 45 - 5 * 2
    assert len(chromium.all("#architecture rect.fixed")) == 2  # stem and head
    right = "const s = document.querySelector('#architecture svg'), r = s.getBoundingClientRect();"
    right += "return [...s.querySelectorAll('rect')].every(e => e.getBoundingClientRect().right <= r.right + 1)"
    assert chromium.run(right)
    assert chromium.run("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("width", [1280, 390])
def test_choices_of_a_models_layers_have_long_names_that_do_not_overlap(
    chromium: Chromium, server: Server, width: int
) -> None:
    names = [f"features.*.block.*.fc{i}.out.144.width" for i in range(5)] + ["features:1.depth"]
    space = SearchSpace(
        [Choice(name, (0.25, 0.5, 1.0), title=f"{name[:-6]} · channels", members=("a.0",)) for name in names]
    )
    store = open_store(server.runs.create("own", "name: own\n"), create=True, driver=True)
    store.describe(search_facts(space, TWO, profiles=[PROFILE], name="own"), budget=Budget(2))
    store.record_ask(0, [space.smallest, space.largest])
    for architecture in (space.smallest, space.largest):
        measure(store, architecture, store.search_facts().objectives)
    blocks = tuple(f"features.{i}.conv.0" for i in range(12))
    costs = NetworkCosts((1,) * 12, (2,) * 12, {})
    store.record_block_costs(BlockCosts(blocks, {space.smallest.key: costs}))
    store.close()
    chromium.look(width=width)
    chromium.open(f"{server.url}/runs/own-1?network={space.smallest.key}")
    chromium.until(lambda: chosen(chromium) == space.smallest.key)
    boxes = "return [...document.querySelectorAll('#architecture text')].map(e => e.getBoundingClientRect().toJSON())"
    texts = chromium.run(boxes)
    assert len(texts) == len(names) + 4 * len(blocks) + 1  # of each block its title and its sizes, and the legend
    shown = chromium.run("return [...document.querySelectorAll('#architecture text')].map(e => e.childNodes[0].data)")
    assert shown[0] == f"{names[0][:-6]} · channels 0.25 of 1"
    assert {text for text in shown if text.startswith("features.0.")} == {blocks[0]}
    for i, one in enumerate(texts):
        assert one["right"] <= width
        for other in texts[:i]:
            apart = one["left"] >= other["right"] or one["top"] >= other["bottom"] - 4
            assert apart, (one, other)
    assert chromium.run("return document.documentElement.scrollWidth <= innerWidth")


def test_genes_are_shown_once_they_are_near(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    importance = insight_json(Run.open(made.runs, "plain-1").report_and_insight()[1])["importance"]
    chromium.run("document.getElementById('genes-part').scrollIntoView()")
    pairs = "t => Object.fromEntries(t.y.map((gene, i) => [gene, t.x[i]]))"
    bars = f"return (document.getElementById('importance').data ?? []).map({pairs})"
    titles = made.service.results.report("plain-1").space.titles
    chromium.until(lambda: chromium.run(bars))
    expected = [
        {titles[g]: 100 * v for g, v in importance[name]["by_gene"].items()}
        for name in TWO
        if not importance[name]["refused"]
    ]
    assert expected
    for found, wanted in zip(chromium.run(bars), expected, strict=True):
        assert found == pytest.approx({gene: wanted.get(gene, 0.0) for gene in found})
        assert {gene for gene, share in wanted.items() if share > 0} <= set(found)
    # One line over the axes for each network of the front, and for the chosen one.
    lines = "return document.getElementById('coordinates').data.map(t => [t.name, t.x.filter(x => x === null).length])"
    chromium.until(lambda: dict(chromium.run(lines)).get("chosen") == 1)
    report = made.service.results.report("plain-1")
    assert dict(chromium.run(lines))["front"] == len(report.front)
    assert dict(chromium.run(lines))["measured"] == len(report.candidates) - len(report.front)
    assert not chromium.complaints()


@pytest.mark.parametrize(("width", "n_shown"), [(1280, 7), (390, 15)])
def test_parallel_coordinates_show_the_genes_that_vary_most_on_the_front(
    chromium: Chromium, server: Server, width: int, n_shown: int
) -> None:
    kinds = [Choice(f"stage0.block{b}.{kind}", (1, 2, 3)) for b in range(10) for kind in ("kernel", "expand")]
    space = SearchSpace(kinds)
    store = open_store(server.runs.create("wide", "name: wide\n"), create=True, driver=True)
    store.describe(search_facts(space, TWO, profiles=[PROFILE], name="wide"), budget=Budget(9))
    varied = {3, 4, 11, 18}
    asked = [space.canonical([n if i in varied else 0 for i in range(20)]) for n in range(3)]
    store.record_ask(0, asked)
    for architecture in asked:
        measure(store, architecture, store.search_facts().objectives)
    store.close()
    chromium.look(width=width)
    open_settled(chromium, f"{server.url}/runs/wide-1")
    chromium.run("document.getElementById('genes-part').scrollIntoView()")
    note = "return document.getElementById('coordinates-note').textContent"
    chromium.until(lambda: chromium.run(note))
    assert chromium.run(note).startswith(f"{n_shown} of 20 genes: those whose options vary most on the front")
    assert f"{20 - n_shown} are left out" in chromium.run(note)
    axis = "document.getElementById('coordinates').layout." + ("yaxis" if width == 390 else "xaxis")
    titles = [title.replace("<br>", " ") for title in chromium.run(f"return {axis}.ticktext")][:-2]
    assert len(titles) == len(set(titles)) == n_shown
    expected = {space.titles[space.choices[i].name].replace(" · ", " ") for i in varied}
    assert expected <= set(titles)
    # Three networks are too few for an importance of genes: no chart, and nothing to download.
    assert chromium.run("return document.getElementById('importance').hidden")
    links = chromium.all("[aria-label^='Download wide-1-importance']")
    assert [link.is_displayed() for link in links] == [False] * 3


def test_axes_of_one_metric_on_several_profiles_name_their_profiles(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "two-1")
    chromium.run("document.getElementById('genes-part').scrollIntoView()")
    titles = "return document.getElementById('coordinates').layout?.xaxis.ticktext.slice(-3)"
    expected = ["Accuracy", f"Latency<br>{PROFILE}", f"Latency<br>{BOARD}"]
    chromium.until(lambda: chromium.run(titles) == expected)


def test_a_change_of_theme_recolours_the_charts(chromium: Chromium, made: Server) -> None:
    open_run(chromium, made, "plain-1")
    colour = "return document.getElementById('front-chart').layout.font.color"
    light = chromium.run(colour)
    chromium.look(theme="dark")
    chromium.until(lambda: chromium.run(colour) != light)
