"""Tables as search spaces and evaluators, and what is wrong with a bad one."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest

from nas.engine.evaluation.base import Evaluator
from nas.errors import NasError
from nas.runs.bench.table import Table, TableEvaluator
from nas.search.problem.objectives import Fidelity, Request, Status
from supernets.space import Architecture, Choice, SearchSpace
from tests.contracts.evaluator import EvaluatorContract
from tests.errors import raises

HEADER = ["width", "depth", "op", "kernel_2", "expand_2", "accuracy", "latency_ms"]
GENES = HEADER[:5]
SPACE = SearchSpace(
    [
        Choice("width", (8, 16, 128)),  # as text, 128 would come first
        Choice("depth", (1, 2, 3)),
        Choice("op", ("conv", "pool")),
        Choice("kernel_2", (3, 5), ("depth", 1)),
        Choice("expand_2", (1.5, 4.0), ("depth", 1)),
    ]
)


def accuracy(architecture: Architecture) -> float:
    """A different value for every architecture."""
    return 50.0 + sum((gene + 1) * 3.0**i for i, gene in enumerate(architecture.genes)) / 10


def rows(space: SearchSpace = SPACE) -> list[list[str]]:
    """Every architecture of the space, largest first, as cells."""
    out = []
    for architecture in reversed(space.enumerate()):
        values = space.values(architecture)
        genes = [str(values.get(choice.name, "")) for choice in space.choices]
        out.append([*genes, repr(accuracy(architecture)), repr(accuracy(architecture) / 7)])
    return out


def write(
    folder: Path, cells: Sequence[Sequence[str]], *, header: Sequence[str] = HEADER, yaml: str | None = None
) -> Path:
    """The path of a table's YAML file."""
    text = io.StringIO()
    csv.writer(text).writerows([header, *cells])
    (folder / "tiny.csv.gz").write_bytes(gzip.compress(text.getvalue().encode()))
    path = folder / "tiny.yaml"
    path.write_text(yaml or f"table: tiny.csv.gz\ngenes: [{', '.join(GENES)}]\nexhaustive: false\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Table:
    yaml = f"table: tiny.csv.gz\ngenes: [{', '.join(GENES)}]\nexhaustive: true\n"
    return Table.load(write(tmp_path, rows(), yaml=yaml))


class TestLoad:
    def test_columns_become_the_space(self, table: Table) -> None:
        assert table.space == SPACE
        assert table.exhaustive
        assert set(table.architectures) == set(SPACE.enumerate())
        assert table.architectures[0] == SPACE.largest

    def test_values_belong_to_their_architecture(self, table: Table) -> None:
        for architecture in SPACE.enumerate():
            SPACE.check(architecture)
            assert table.value(architecture, "accuracy") == accuracy(architecture)
            assert table.value(architecture, "latency_ms") == accuracy(architecture) / 7

    def test_a_plain_csv_file_does_too(self, tmp_path: Path, table: Table) -> None:
        plain = gzip.decompress((tmp_path / "tiny.csv.gz").read_bytes())
        (tmp_path / "tiny.csv").write_bytes(plain + b"\r\n")  # a last empty line is no row
        (tmp_path / "tiny.yaml").write_text(f"table: tiny.csv\ngenes: [{', '.join(GENES)}]\n", encoding="utf-8")
        again = Table.load(str(tmp_path / "tiny.yaml"))
        assert again.values == table.values
        assert not again.exhaustive

    def test_an_empty_cell_is_none(self, tmp_path: Path) -> None:
        cells = rows()
        cells[0][5] = ""
        table = Table.load(write(tmp_path, cells))
        assert table.value(SPACE.largest, "accuracy") is None
        assert math.isnan(table.values["accuracy"][0])

    def test_rows_that_repeat_alike_count_once(self, tmp_path: Path) -> None:
        cells = rows()
        table = Table.load(write(tmp_path, [cells[0], cells[0], *cells]))
        assert table.architectures == tuple(reversed(SPACE.enumerate()))
        assert table.value(SPACE.smallest, "accuracy") == accuracy(SPACE.smallest)

    def test_numbers_are_one_option_however_written(self, tmp_path: Path) -> None:
        cells = [["1", "2"], ["1.0", "2"], ["0.5", "3"]]
        table = Table.load(write(tmp_path, cells, header=["a", "f"], yaml="table: tiny.csv.gz\ngenes: [a]\n"))
        assert table.space.choices == (Choice("a", (0.5, 1.0)),)
        assert len(table.architectures) == 2

    def test_a_chain_of_conditions_is_found(self, tmp_path: Path) -> None:
        space = SearchSpace([Choice("a", (0, 1)), Choice("b", (0, 1), ("a", 1)), Choice("c", (0, 1), ("b", 1))])
        yaml = "table: tiny.csv.gz\ngenes: [a, b, c]\nexhaustive: true\n"
        table = Table.load(write(tmp_path, rows(space), header=["a", "b", "c", "f", "g"], yaml=yaml))
        assert table.space == space

    def test_a_table_of_15625_rows_is_read_whole(self, tmp_path: Path) -> None:
        space = SearchSpace([Choice(f"edge_{i}", ("a", "b", "c", "d", "e")) for i in range(6)])
        cells = [[*genes, str(n)] for n, genes in enumerate(product("abcde", repeat=6))]
        header = [choice.name for choice in space.choices]
        yaml = f"table: tiny.csv.gz\ngenes: [{', '.join(header)}]\nexhaustive: true\n"
        table = Table.load(write(tmp_path, cells, header=[*header, "f"], yaml=yaml))
        assert len(table.architectures) == space.size == 15_625
        assert table.value(space.largest, "f") == 15_624


class TestBadTable:
    def test_no_such_description(self, tmp_path: Path) -> None:
        with pytest.raises(NasError, match=r"none\.yaml"):
            Table.load(tmp_path / "none.yaml")

    @pytest.mark.parametrize(
        ("yaml", "code", "values"),
        [
            ("table: tiny.csv.gz\ngenes: [width, dept]\n", "gene-column.unknown", ("'dept'", "'depth'")),
            ("table: other.csv\ngenes: [width]\n", "table.unreadable", ("other.csv", "No such file")),
            ("tables: tiny.csv.gz\ngenes: [width]\n", "key.unknown", ("'tables'", "'table'")),
            ("genes: [width]\n", "table.invalid", ("'table' is None",)),
            ("table: tiny.csv.gz\ngenes: width\n", "table.invalid", ("'genes' is 'width'",)),
            ("table: tiny.csv.gz\ngenes: []\n", "table.invalid", ("'genes' is []",)),
            ("table: tiny.csv.gz\ngenes: [width, width]\n", "table.invalid", ("twice",)),
            ("table: tiny.csv.gz\ngenes: [width]\nexhaustive: 1\n", "table.invalid", ("'exhaustive' is 1", "true")),
            (f"table: tiny.csv.gz\ngenes: [{', '.join(HEADER)}]\n", "table.invalid", ("gene columns only",)),
        ],
    )
    def test_a_bad_description(self, tmp_path: Path, yaml: str, code: str, values: tuple[str, ...]) -> None:
        with raises(code, *values):
            Table.load(write(tmp_path, rows(), yaml=yaml))

    def test_rows_of_one_architecture_are_averaged_and_their_scatter_is_the_error(self, tmp_path: Path) -> None:
        cells = rows()
        other = [*cells[2][:5], "12.5", cells[2][6]]
        table = Table.load(write(tmp_path, [*cells, other, [*other[:5], "", other[6]]]))
        accuracy = float(cells[2][5])
        assert len(table.architectures) == len(cells)
        assert table.values["accuracy"][2] == pytest.approx((accuracy + 12.5) / 2)
        assert table.errors["accuracy"][2] == pytest.approx(abs(accuracy - 12.5) / 2)
        assert table.errors["latency_ms"][2] == pytest.approx(0, abs=1e-12)
        assert set(table.errors["accuracy"][:2]) == {0.0}
        (found,) = TableEvaluator(table, {"accuracy": "accuracy"}, scales={"accuracy": 0.01}).evaluate(
            [Request(table.architectures[2], "accuracy")]
        )
        assert (found.value, found.error) == pytest.approx(((accuracy + 12.5) / 200, abs(accuracy - 12.5) / 200))

    def test_rows_of_averages_that_repeat_are_learnt_from_but_not_replayed(self, tmp_path: Path) -> None:
        cells = rows()
        other = [*cells[2][:5], "12.5", cells[2][6]]
        yaml = f"table: tiny.csv.gz\ngenes: [{', '.join(GENES)}]\nnumeric: true\n"
        table = Table.load(write(tmp_path, [*cells, other], yaml=yaml))
        assert table.numeric
        assert table.architectures[-1] == table.architectures[2]
        assert (table.values["accuracy"][2], table.values["accuracy"][-1]) == (float(cells[2][5]), 12.5)
        with raises("table.disagreement", str(len(cells) + 1), str(len(cells))):
            TableEvaluator(table, {"accuracy": "accuracy"})

    def test_numeric_rows_that_differ_are_replayed(self, tmp_path: Path) -> None:
        yaml = f"table: tiny.csv.gz\ngenes: [{', '.join(GENES)}]\nnumeric: true\n"
        assert TableEvaluator(Table.load(write(tmp_path, rows(), yaml=yaml)), {"accuracy": "accuracy"}) is not None

    def test_an_exhaustive_table_with_a_row_missing(self, tmp_path: Path) -> None:
        yaml = f"table: tiny.csv.gz\ngenes: [{', '.join(GENES)}]\nexhaustive: true\n"
        with raises("table.incomplete", f"{SPACE.size - 1} of the {SPACE.size}"):
            Table.load(write(tmp_path, rows()[1:], yaml=yaml))

    @pytest.mark.parametrize("cell", ["fast", "inf"])
    def test_a_value_that_is_no_finite_number(self, tmp_path: Path, cell: str) -> None:
        cells = rows()
        cells[3][6] = cell
        with raises("table.invalid", f"column 'latency_ms', row 5: {cell!r}"):
            Table.load(write(tmp_path, cells))

    def test_an_inactive_gene_that_nothing_explains(self, tmp_path: Path) -> None:
        cells = rows()
        cells[0][3] = ""  # the deepest network
        with raises("table.unexplained-gene", "row 2", "'kernel_2'"):
            Table.load(write(tmp_path, cells))

    def test_an_inactive_gene_before_what_explains_it(self, tmp_path: Path) -> None:
        yaml = "table: tiny.csv.gz\ngenes: [kernel_2, depth, width, op, expand_2]\n"
        with raises("table.unexplained-gene", "'kernel_2'", "among none"):
            Table.load(write(tmp_path, rows(), yaml=yaml))

    def test_an_inactive_gene_that_two_things_explain(self, tmp_path: Path) -> None:
        cells = [["0", "4", "", "1"], ["1", "5", "x", "2"], ["1", "5", "y", "3"]]
        yaml = "table: tiny.csv.gz\ngenes: [a, b, c]\n"
        with raises("table.unexplained-gene", "'c'", "a >= 1 or b >= 5"):
            Table.load(write(tmp_path, cells, header=["a", "b", "c", "f"], yaml=yaml))

    def test_a_gene_column_without_values(self, tmp_path: Path) -> None:
        yaml = "table: tiny.csv.gz\ngenes: [a, b]\n"
        with raises("table.invalid", "'b' is empty"):
            Table.load(write(tmp_path, [["1", "", "2"]], header=["a", "b", "f"], yaml=yaml))

    @pytest.mark.parametrize(
        ("content", "kind", "value"),
        [
            (gzip.compress(b"", mtime=0), "invalid", "is empty"),
            (gzip.compress(b"width,accuracy\n", mtime=0), "invalid", "no rows"),
            (gzip.compress(b"width,width\n1,2\n", mtime=0), "invalid", "'width'"),
            (gzip.compress(b"width,accuracy\n1,2\n3\n", mtime=0), "invalid", "row 3 has 1 cells; expected 2"),
            (gzip.compress(b"width,accuracy\n\xff,1\n", mtime=0), "unreadable", "damaged"),
            (gzip.compress(b"width,accuracy\n" + b"1,2\n" * 500, mtime=0)[:-20], "unreadable", "damaged"),
            (b"width,accuracy\n1,2\n", "unreadable", "Not a gzipped file"),
        ],
    )
    def test_a_bad_csv_file(self, tmp_path: Path, content: bytes, kind: str, value: str) -> None:
        path = write(tmp_path, rows(), yaml="table: tiny.csv.gz\ngenes: [width]\n")
        (tmp_path / "tiny.csv.gz").write_bytes(content)
        with raises(f"table.{kind}", "tiny.csv.gz", value):
            Table.load(path)


COLUMNS = {"accuracy": "accuracy", "latency_ms@phone": "latency_ms"}


class TestTableEvaluator(EvaluatorContract):
    @pytest.fixture
    def evaluator(self, table: Table) -> Evaluator:
        return TableEvaluator(table, COLUMNS)

    @pytest.fixture
    def requests(self) -> list[Request]:
        known = [Request(SPACE.smallest, "accuracy"), Request(SPACE.largest, "latency_ms", "phone")]
        return [*known, Request(Architecture((9, 9, 9, 9, 9)), "accuracy")]

    def test_values_are_the_columns_scaled(self, table: Table) -> None:
        evaluator = TableEvaluator(table, COLUMNS, scales={"accuracy": 0.01})
        asked = [
            Request(SPACE.largest, "latency_ms", "phone", Fidelity.FINAL),
            Request(SPACE.largest, "accuracy", None, Fidelity.TEST),
        ]
        latency, share = evaluator.evaluate(asked)
        assert [latency.request, share.request] == asked
        assert (latency.value, latency.error) == (accuracy(SPACE.largest) / 7, 0.0)
        assert share.value == accuracy(SPACE.largest) * 0.01
        assert share.environment == {"table": "tiny.csv.gz", "column": "accuracy"}

    def test_a_value_that_the_table_lacks_has_failed(self, table: Table) -> None:
        unknown = Request(Architecture((0, 0)), "accuracy")
        found, known = TableEvaluator(table, COLUMNS).evaluate([unknown, Request(SPACE.smallest, "accuracy")])
        assert (found.status, found.message) == (Status.FAILED, "tiny.csv.gz has no accuracy of architecture 0-0")
        assert known.status is Status.OK

    def test_each_answer_takes_its_delay(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        slept: list[float] = []
        monkeypatch.setattr("nas.runs.bench.table.time.sleep", slept.append)
        answers = TableEvaluator(table, COLUMNS, delay_s=0.25).evaluate(
            [Request(SPACE.smallest, "accuracy"), Request(SPACE.largest, "accuracy")]
        )
        next(answers)
        assert slept == [0.25]
        next(answers)
        assert slept == [0.25, 0.25]

    def test_an_unknown_column_is_named(self, table: Table) -> None:
        with raises("column.unknown", "tiny.csv.gz", "'latency'", "'latency_ms'"):
            TableEvaluator(table, {"latency_ms": "latency"})
        with raises("column.unknown", "'width'"):
            table.value(SPACE.smallest, "width")

    def test_a_scale_without_its_objective_is_named(self, table: Table) -> None:
        with raises("objective.unknown", "'accurac'", "'accuracy'"):
            TableEvaluator(table, COLUMNS, scales={"accurac": 0.01})

    def test_an_objective_without_column_is_named_before_any_answer(self, table: Table) -> None:
        asked = [Request(SPACE.smallest, "accuracy"), Request(SPACE.smallest, "latency_ms", "tablet")]
        with raises("objective.unknown", "'latency_ms@tablet'"):
            next(TableEvaluator(table, COLUMNS).evaluate(asked))
