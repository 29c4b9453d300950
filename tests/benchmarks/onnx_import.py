"""How many ONNX files of several exporters become supernets, with the checks that make a file count.

    python -m tests.benchmarks.onnx_import FOLDER [--tensorflow PYTHON] [--optimum PYTHON] [--only 'keras-*'] [--table]

Writes the files that the folder lacks, checks each in a process of its own with limits of CPU time and memory, and prints the
table; a second run continues the first. The files of Keras and of optimum are written by interpreters of other environments:

    python -m venv tensorflow && tensorflow/bin/pip install tensorflow-cpu tf2onnx
    python -m venv optimum && optimum/bin/pip install 'optimum[onnx]'

Method. Weights are random; batch norms have the statistics of random inputs. A file counts if the network that is read equals
it in ONNX Runtime (1e-5 of the outputs' scale, or ten times the error of single precision), if the permutation proof holds, if
at least 70 % of its multiply-accumulates are elastic, and if its smallest and a random subnet agree with their own exported
files in ONNX Runtime, and with these files read again (1e-4).
"""

from __future__ import annotations

import fnmatch
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from hardware_profiles.runtime import run_calls
from supernets.families.captured import inspect_model
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.captured_model import captured_for
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.execution import outputs_of
from supernets.networks.capture.opening import open_model
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.user_model import UserModel
from supernets.networks.module_to_onnx import INPUT, onnx_model
from supernets.networks.onnx_models.equality import OnnxOriginal
from supernets.training.checkpoint import make_supernet
from tests.benchmarks.any_model import in_process, tamed
from tests.benchmarks.any_model_zoo import Entry
from tests.benchmarks.json_lines import Row, append_row, read_rows
from tests.benchmarks.markdown import table_head, table_row
from tests.benchmarks.onnx_models import exported_by_torch

TORCH: tuple[tuple[str, str, bool, int], ...] = (
    ("classification", "resnet18", False, 13),
    ("classification", "mobilenet_v2", False, 11),
    ("classification", "mobilenet_v3_small", True, 18),
    ("classification", "efficientnet_b0", False, 17),
    ("classification", "shufflenet_v2_x0_5", False, 16),
    ("classification", "squeezenet1_1", False, 12),
    ("classification", "regnet_y_400mf", True, 20),
    ("classification", "densenet121", False, 15),
    ("classification", "mnasnet0_5", True, 18),
    ("classification", "convnext_tiny", False, 14),
    ("classification", "swin_t", False, 17),
    ("classification", "googlenet", False, 18),
    ("timm", "convnext_atto", True, 20),
    ("timm", "vit_tiny_patch16_224", False, 14),
    ("timm", "ghostnet_100", False, 17),
    ("timm", "mobilevit_xxs", True, 18),
    ("timm", "resmlp_12_224", False, 16),
    ("timm", "efficientvit_b0", True, 21),
    ("transformers", "bert", False, 14),
    ("transformers", "distilbert", True, 18),
)
"""Collection, name, whether the newer exporter wrote the file, and its opset."""
OWN = (
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "regnet_y_400mf",
    "mnasnet0_5",
    "efficientnet_b0",
)
"""Models whose subnets this project writes as files."""
_SCRIPTS = Path(__file__).parent
_EQUAL = 1e-4


def write_missing(folder: Path, tensorflow: str | None, optimum: str | None) -> None:
    """Writes the files that a folder lacks."""
    for collection, name, dynamo, opset in TORCH:
        path = folder / f"torch-{name}-{'dynamo' if dynamo else 'script'}-{opset}.onnx"
        if not path.exists():
            model, inputs = tamed(Entry(collection, name))
            path.write_bytes(exported_by_torch(model, inputs(2), dynamo=dynamo, opset=opset))
    for name in OWN:
        if not (path := folder / f"own-{name}.onnx").exists():
            captured = captured_for(UserModel(name, tamed(Entry("classification", name))[0]), (3, 64, 64))
            supernet = make_supernet(CapturedFamily(captured.program, SpaceOptions(), tensors=captured.tensors)).eval()
            architecture = supernet.space.sample(np.random.default_rng(1))
            path.write_bytes(onnx_model(supernet.extract(architecture).eval(), torch.randn(2, 3, 64, 64)))
    for python, script in ((tensorflow, "onnx_import_keras.py"), (optimum, "onnx_import_optimum.py")):
        if python is not None:
            subprocess.run([python, str(_SCRIPTS / script), str(folder)], check=True)


def check(path: Path) -> Row:
    """The measurements of one file."""
    model = open_model(str(path))
    assert isinstance(model, UserModel)
    assert isinstance(model.original, OnnxOriginal)
    shape = model.input_shape or (None if model.tokens else (3, 64, 64))
    x = model.example(shape, batch_size=3)
    row: Row = {"equal": model.original.difference(model.module, x, model.mask(x))}  # type: ignore[arg-type]
    captured = captured_for(model, shape)
    inspection = inspect_model(captured, SpaceOptions(), proof=True)
    row |= {"share": inspection.share, "holds": bool(inspection.proof and inspection.proof.holds)}
    row |= {"choices": len(inspection.choices), "networks": inspection.size, "unknown": inspection.unknown}
    supernet = make_supernet(CapturedFamily(captured.program, SpaceOptions(), tensors=captured.tensors)).eval()
    rng, row["smaller"], row["again"] = np.random.default_rng(0), 0.0, 0.0
    for architecture in (supernet.space.smallest, supernet.space.sample(rng)):
        module = supernet.extract(architecture).eval()
        content = onnx_model(module, x)
        with torch.no_grad():
            expected: Tensor = module(x)
        ((out, *_),) = run_calls(content, [{INPUT: x.numpy()}])
        row["smaller"] = max(row["smaller"], relative_difference([torch.from_numpy(out)], [expected]))
        smaller = path.with_name(f".{path.stem}-smaller.onnx")
        smaller.write_bytes(content)
        try:
            again = captured_for(open_model(str(smaller)), tuple(x.shape[1:]))
        finally:
            smaller.unlink()
        outputs = list(outputs_of(infer_axes(again.program), again.tensors.__getitem__, [x]))
        row["again"] = max(row["again"], relative_difference(outputs, [expected]))
    return row


def fault(row: Row) -> str:
    """Why a file does not count; "" if it does."""
    if error := row.get("error"):
        return str(error)
    tests = [
        (row["holds"], "the proof does not hold"),
        (row["share"] >= 0.7, "less than 70 % elastic"),
        (row["smaller"] <= _EQUAL, "a smaller network differs in ONNX Runtime"),
        (row["again"] <= _EQUAL, "a smaller network differs after the second import"),
    ]
    return next((text for passed, text in tests if not passed), "")


def table(rows: list[Row]) -> Iterator[str]:
    """The rows in Markdown, and how many count."""
    yield table_head(
        "file", "difference from the file", "elastic share", "networks", "smaller in ONNX Runtime", "read again"
    )
    for row in sorted(rows, key=lambda row: str(row["file"])):
        if row.get("error"):
            yield table_row(row["file"], row["error"], "", "", "", "")
        else:
            share, n = f"{row['share']:.1%}", f"{row['networks']:.2g}"
            yield table_row(
                row["file"], f"{row['equal']:.1e}", share, n, f"{row['smaller']:.1e}", f"{row['again']:.1e}"
            )
    equal = sum(not row.get("error") for row in rows)
    elastic = sum(not row.get("error") and row["share"] >= 0.7 for row in rows)
    yield f"\n{len(rows)} files: {equal} equal, {elastic} at least 70 % elastic, {sum(not fault(row) for row in rows)} count"


def main(
    folder: Path,
    tensorflow: Annotated[str | None, typer.Option(help="an interpreter that has tf2onnx")] = None,
    optimum: Annotated[str | None, typer.Option(help="an interpreter that has optimum")] = None,
    only: Annotated[str, typer.Option(help="pattern of files to check")] = "*",
    retry: Annotated[bool, typer.Option(help="checks files again that do not count")] = False,
    only_table: Annotated[bool, typer.Option("--table", help="only print the table")] = False,
    cpu_seconds: int = 300,
    memory: Annotated[float, typer.Option(help="GiB of address space")] = 8,
) -> None:
    """Checks every file that the results lack."""
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    latest = {row["file"]: row for row in read_rows(results)}
    if not only_table:
        torch.set_num_threads(1)
        write_missing(folder, tensorflow, optimum)
        for path in sorted(folder.rglob("*.onnx")):
            name = str(path.relative_to(folder).with_suffix(""))
            is_done = name in latest and not (retry and fault(latest[name]))
            if is_done or not fnmatch.fnmatchcase(name, only) or path.name.startswith("."):
                continue
            started = time.perf_counter()
            row = in_process(partial(check, path), cpu_seconds=cpu_seconds, memory_gib=memory)
            latest[name] = row = {"file": name, **row, "wall_s": time.perf_counter() - started}
            append_row(results, row)
            print(name, fault(row) or "counts", f"{row['wall_s']:.0f} s", flush=True)
    print("\n".join(table(list(latest.values()))))


if __name__ == "__main__":
    typer.run(main)
