"""How many models of torchvision, timm and transformers become supernets, with the checks that make a model count.

    python -m tests.benchmarks.any_model RESULTS.jsonl [--only 'timm:*'] [--subnets 20] [--cpu-seconds 120] [--memory 12]
    python -m tests.benchmarks.any_model RESULTS.jsonl --torch-pruning PRUNING.jsonl --cpu-seconds 60
    python -m tests.benchmarks.any_model RESULTS.jsonl [--torch-pruning PRUNING.jsonl] --table

Needs torchvision, timm and transformers; the second command checks Torch-Pruning on the same models, and needs it. Each model
is checked in its own process with limits of CPU time and address space; one that exceeds them is a row like every other. A
second run continues the first. The limits, 120 seconds and 12 GiB, are for a small machine and say nothing of the models;
those that need more are checked again with higher ones:

    python -m tests.benchmarks.any_model RESULTS.jsonl --retry --cpu-seconds 900 --memory 14

Method. Weights are random; tensors that hold one number are randomised and batch norms get the statistics of random inputs, so
that outputs depend on everything. A model counts if

- the largest subnet equals the original (1e-5 of the output's scale in single precision, both in the channels-last layout,
  since convolutions round otherwise in another one; 1e-10 in double precision, in which conversions to single
  precision inside of the forward are left out; 1e-6 if it has some), batches of 2 and 3;
- permuting the units of all axes changes nothing in double precision (1e-10, or ten times the response to inputs that differ by
  one unit in the last place), while one tensor left out changes the output at least a hundred times as much, on sampled axes;
- random subnets agree live, extracted and in ONNX Runtime (1e-4), for batches of 1 and 3: 20, or as many as 8 CPU seconds
  allow, two at least;
- at least 70 % of the multiply-accumulates are elastic.
"""

from __future__ import annotations

import fnmatch
import json
import os
import random
import resource
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hardware_profiles.runtime import run_calls
from supernets.errors import LoweringError
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.blocks import elastic_share
from supernets.networks.capture.captured_model import CapturedModel
from supernets.networks.capture.comparison import relative_difference
from supernets.networks.capture.elastic_program import ElasticProgram
from supernets.networks.capture.execution import outputs_of
from supernets.networks.capture.model_proof import prove_model, randomised
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.tracing import Captured, capture
from supernets.networks.live_subnets import channels_last
from supernets.networks.module_to_onnx import INPUT, lower, to_onnx
from supernets.sharing.base import Supernet
from supernets.training.checkpoint import make_supernet
from tests.benchmarks.any_model_table import as_table, comparison, pruning_verdict, read
from tests.benchmarks.any_model_zoo import Entry, Inputs, build, entries
from tests.benchmarks.json_lines import Row, append_row


def tame(model: nn.Module, inputs: Inputs) -> None:
    """Randomises tensors that hold one number, and gives batch norms the statistics of random inputs."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    varied = randomised(state, torch.Generator().manual_seed(1))
    norms = [own for own in model.modules() if isinstance(own, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for name, tensor in state.items():
            if tensor.is_floating_point() and tensor.numel() == 1 and not tensor.any():
                tensor.fill_(0.5)  # a gate that is closed at first
            else:
                tensor.copy_(varied[name])
        for norm in norms:
            if norm.weight is not None and norm.weight.abs().mean() < 0.05:
                norm.weight.add_(
                    1
                )  # transformers draws them around 0 for some models, whose outputs then depend on nothing
            norm.train()
            norm.momentum = 0.999  # so that weights near zero, as some fresh ones are, do not hide the inputs
        if norms:
            model(inputs(4))
    model.eval()


def check(entry: Entry, *, subnets: int, seconds: float, exporter: bool) -> Row:
    """The measurements of one model. What is not needed any more is freed on the way, since the largest have gigabytes."""
    model, inputs = tamed(entry)
    row: Row = {"parameters": sum(p.numel() for p in model.parameters())}
    x = inputs(2)
    started = time.process_time()
    captured = capture(model, [x])
    row["trace_s"] = time.process_time() - started
    started = time.process_time()
    family = CapturedFamily(captured.program, SpaceOptions(), tensors=captured.tensors)
    supernet = make_supernet(family).eval()
    row["convert_s"] = time.process_time() - started
    elastic = family.elastic
    row.update(axes=len(elastic.axes), branches=len(elastic.branches), genes=len(family.space.choices),
               share=elastic_share(elastic), unknown=dict(elastic.unknown),
               misfits=sorted({why for why in elastic.fixed if "unknown way" in why or "no rule" in why})[:5])  # fmt: skip
    with torch.no_grad():
        own = supernet.extract(family.space.largest)
        channels_last(model)
        for n in (2, 3):
            row[f"equal_{n}"] = relative_difference([model(inputs(n))], [own(inputs(n))])
    del own
    row.update(_subnets(supernet, inputs, subnets, seconds, exporter=exporter))
    del supernet, family
    before = outputs_of(elastic, captured.tensors.__getitem__, [x], double=True)
    row.update(_equal_in_double(model, elastic, before, x.double() if x.is_floating_point() else x))
    del model
    row.update(_permutations(elastic, captured, x, before))
    row["cpu_s"] = time.process_time()
    return row


def tamed(entry: Entry) -> tuple[nn.Module, Inputs]:
    """A model whose outputs depend on everything, and its inputs."""
    model, inputs = build(entry)
    tame(model, inputs)
    return model, inputs


class _KeepsDouble(TorchDispatchMode):
    """Conversions to single precision are to double precision, as those of `outputs_of`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if func is torch.ops.aten._to_copy.default and given.get("dtype") is torch.float32:
            given["dtype"] = torch.float64
        return func(*args, **given)


def _equal_in_double(model: nn.Module, elastic: ElasticProgram, before: Sequence[Tensor], x: Tensor) -> Row:
    """Equality of the outputs in double precision, to which the model itself is converted."""
    arguments = [own for call in elastic.program.calls for own in call.arguments.values()]
    row: Row = {"casts": "dtype:float32" in arguments}
    row["depends"] = relative_difference([before[0][:1]], [before[0][1:]])
    model.double()
    found = []
    for mode in (nullcontext, _KeepsDouble) if row["casts"] else (nullcontext,):
        try:
            with torch.no_grad(), mode():
                found.append(relative_difference([model(x)], before))
        except RuntimeError:  # the user's forward works in single precision alone
            continue
    row["equal_double"] = min(found, default=None)
    return row


def _permutations(elastic: ElasticProgram, captured: Captured, x: Tensor, before: Sequence[Tensor]) -> Row:
    """Permutations and their controls."""
    model = CapturedModel("", captured.program, captured.tensors)
    proof = prove_model(model, SpaceOptions(), elastic=elastic, example=x)
    row: Row = {"permuted": proof.permuted, "control": proof.control or 0.0}
    if proof.permuted > 1e-10 and x.is_floating_point():
        x = x.double() * (1 + 2**-52)
        row["response"] = relative_difference(
            before, outputs_of(elastic, captured.tensors.__getitem__, [x], double=True)
        )
    return row


def _subnets(supernet: Supernet, inputs: Inputs, n: int, seconds: float, *, exporter: bool) -> Row:
    """Random subnets live, extracted and in ONNX Runtime."""
    rng, started = np.random.default_rng(0), time.process_time()
    extracted = onnx = 0.0
    lowered, times, done, rejected = 0, [], 0, ""
    for i in range(n):
        if i >= 2 and time.process_time() - started > seconds:
            break
        architecture = supernet.space.sample(rng) if i else supernet.space.smallest
        module = supernet.extract(architecture).eval()
        batches, plain = [inputs(batch) for batch in (1, 3)], []
        for x in batches:
            with torch.no_grad():
                plain.append(module(x))
                extracted = max(extracted, relative_difference(plain[-1:], [supernet(x, architecture)]))
        begun, serialised = time.process_time(), None
        try:
            serialised = lower(module, inputs(2))
            lowered += 1
            times.append(time.process_time() - begun)
        except LoweringError as error:
            # torch's exporter needs many seconds: once a model
            if exporter and not rejected:
                serialised = to_onnx(module, inputs(2))
            rejected = str(error)
        del module
        if serialised is not None:
            for one, (out,) in zip(plain, run_calls(serialised, [{INPUT: x.numpy()} for x in batches]), strict=True):
                onnx = max(onnx, relative_difference([one], [torch.from_numpy(out)]))
        done += 1
    return {
        "subnets": done,
        "extracted": extracted,
        "onnx": onnx,
        "lowered": lowered,
        "exported": bool(rejected) and exporter,
        "rejected": rejected,
        "lower_ms": 1e3 * median(times) if times else None,
    }


def verdict(row: Row) -> str:
    """Why a model does not count; "" if it does."""
    if error := row.get("error"):
        return str(error)
    bound = max(1e-10, 10 * row.get("response", 0.0))
    tests = [
        (max(row["equal_2"], row["equal_3"]) <= 1e-5, "differs from the original"),
        (row["equal_double"] is None or row["equal_double"] <= (1e-6 if row["casts"] else bound), "differs in double"),
        (row["permuted"] <= bound, "a permutation changes outputs"),
        (row["control"] >= 100 * row["permuted"] and row["control"] > 0, "the control shows nothing"),
        (row["extracted"] <= 1e-4, "live and extracted differ"),
        (row["lowered"] or row["exported"], f"no ONNX model: {row['rejected']}"),
        (row["onnx"] <= 1e-4, "ONNX Runtime differs"),
        (row["share"] >= 0.7, "less than 70 % elastic"),
    ]  # fmt: skip
    return next((why for passed, why in tests if not passed), "")


def in_process(function: Any, *, cpu_seconds: int, memory_gib: float) -> Row:
    """What a function returns in a forked process with limits; what ended it otherwise."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_gib * 2**30),) * 2)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row = function()
        except BaseException as error:  # a row states why
            frames = traceback.extract_tb(error.__traceback__)
            where = next((f for f in reversed(frames) if "/supernets/" in f.filename), frames[-1])
            row = {"error": f"{type(error).__name__}: {str(error)[:300]} ({Path(where.filename).name}:{where.lineno})"}
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(row, default=str))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if text:
        return dict(json.loads(text))
    return {"error": f"ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "ended without a result"}


def main(
    results: Path,
    only: Annotated[list[str] | None, typer.Option(help="patterns of collection:name")] = None,
    subnets: int = 20,
    subnet_seconds: Annotated[float, typer.Option(help="CPU time for the subnets of a model, at least two")] = 8,
    cpu_seconds: int = 120,
    memory: Annotated[float, typer.Option(help="GiB of address space")] = 12,
    exporter: Annotated[
        bool, typer.Option(help="torch's exporter where the rules of the lowering reject a network")
    ] = True,
    part: Annotated[str, typer.Option(help="I/N: every N-th model, for several processes")] = "0/1",
    torch_pruning: Annotated[
        Path | None, typer.Option(help="checks Torch-Pruning instead; its results go to this file")
    ] = None,
    retry: Annotated[bool, typer.Option(help="checks models again that do not count, e.g. with newer code")] = False,
    table: Annotated[bool, typer.Option(help="only print the table")] = False,
) -> None:
    """Checks every model that the results lack."""
    own = torch_pruning or results
    if not table:
        if torch_pruning:  # imported before timm, whose attention it configures
            from tests.benchmarks import any_model_pruning
        torch.set_num_threads(1)
        known = {row["model"] for row in read(own) if not (retry and row["why"])}
        mine, n = map(int, part.split("/"))
        for entry in shuffled(entries())[mine::n]:
            if entry.key in known or (only and not any(fnmatch.fnmatchcase(entry.key, one) for one in only)):
                continue
            started = time.perf_counter()
            task = partial(check, entry, subnets=subnets, seconds=subnet_seconds, exporter=exporter)
            if torch_pruning:
                task = partial(any_model_pruning.check, entry, tamed)
            row = in_process(task, cpu_seconds=cpu_seconds, memory_gib=memory)
            row = {"model": entry.key, **row, "wall_s": time.perf_counter() - started}
            row["why"] = next(filter(None, pruning_verdict(row)), "") if torch_pruning else verdict(row)
            append_row(own, row)
            print(entry.key, row["why"] or "counts", f"{row['wall_s']:.0f} s", flush=True)
    print(comparison(read(results), read(torch_pruning)) if torch_pruning else as_table(read(results)))


def shuffled(given: Sequence[Entry]) -> list[Entry]:
    """The models in an order whose every beginning is a sample."""
    return random.Random(0).sample(given, len(given))


if __name__ == "__main__":
    typer.run(main)
