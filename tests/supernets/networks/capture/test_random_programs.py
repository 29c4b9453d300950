"""Random programs: captured networks equal the users' modules, their subnets agree live, extracted and in ONNX Runtime.

The deep run of 10,000 programs, 20 minutes, which prints every wrong one and how many are rejected by name:

    NAS_RANDOM_PROGRAMS=10000 pytest -s -p no:logging tests/supernets/networks/capture/test_random_programs.py
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hardware_profiles.runtime import run_model
from supernets.errors import CaptureError, LoweringError, SpaceError
from supernets.families.captured.captured_family import CapturedFamily
from supernets.networks.capture.comparison import compare, relative_difference
from supernets.networks.capture.elastic_program import ElasticProgram, infer_axes
from supernets.networks.capture.execution import outputs_of
from supernets.networks.capture.network import PlainNetwork, ProgramModule
from supernets.networks.capture.space import SpaceOptions
from supernets.networks.capture.specialisation import specialised
from supernets.networks.capture.tracing import capture
from supernets.networks.module_to_onnx import INPUT, lower
from supernets.training.checkpoint import make_supernet
from tests.supernets.networks.capture.networks import prove
from tests.supernets.networks.capture.random_programs import RandomProgram, random_programs

N_PROGRAMS = int(os.environ.get("NAS_RANDOM_PROGRAMS", "50"))
IS_DEEP = "NAS_RANDOM_PROGRAMS" in os.environ
# 32-bit floats after up to six operations, of which a square root or a quotient may enlarge their error.
TOLERANCE = 2e-3
_NAMES = re.compile(r"\d+|'.*?'|%\S+|\(.*")


def check(program: RandomProgram, seed: int) -> str:
    """Raises AssertionError where networks differ; returns "agrees", or what is rejected, by name."""
    module, x = program.module, program.example(program.batch)
    try:
        found = capture(module, [x])
        compare(module, found, x, lambda module, x: module(x))
    except CaptureError as error:
        return f"capture: {error.code}"
    other = program.example(program.batch + 3)
    elastic = infer_axes(found.program)
    assert not elastic.unknown, elastic.unknown
    with torch.no_grad():
        expected = [module(other)]
        if not expected[0].isfinite().all():  # a norm of zeros without an epsilon
            return "not finite"
        assert relative_difference(expected, outputs_of(elastic, found.tensors.__getitem__, [other])) <= TOLERANCE, (
            "captured"
        )
    proof = prove(found, x)
    assert proof.permuted <= 1e-7, f"permuted {proof.permuted}"
    try:
        supernet = make_supernet(CapturedFamily(found.program, SpaceOptions(multiple=1), tensors=found.tensors)).eval()
    except SpaceError as error:
        if error.code != "capture.nothing-elastic":
            raise
        plain = PlainNetwork(specialised(elastic, elastic.full_sizes), found.tensors, elastic.full_sizes).eval()
        return check_onnx(program, elastic, plain, "agrees, nothing elastic")
    generator = np.random.default_rng(seed)
    outcome = "agrees"
    for architecture in (supernet.space.largest, supernet.space.smallest, supernet.space.sample(generator)):
        subnet = supernet.extract(architecture).eval()
        with torch.no_grad():
            live, extracted = supernet(other, architecture), subnet(other)
        if not extracted.isfinite().all():
            continue
        assert relative_difference([extracted], [live]) <= TOLERANCE, "live"
        if architecture is supernet.space.largest:
            assert relative_difference(expected, [extracted]) <= TOLERANCE, "extracted"
        outcome = check_onnx(program, elastic, cast(ProgramModule, subnet), outcome)
    return outcome


def check_onnx(program: RandomProgram, elastic: ElasticProgram, subnet: ProgramModule, outcome: str) -> str:
    try:
        model = lower(subnet, program.example(2))
    except LoweringError as error:
        return f"onnx: {_NAMES.sub('_', str(error))[:70]}"
    for n in (1, program.batch + 2):
        differences = []
        for seed in (0, 1):  # rounding may move a number over a threshold for one example
            inputs = program.example(n, seed)
            with torch.no_grad():
                expected = subnet(inputs)
            (out,) = run_model(model, {INPUT: inputs.numpy()})
            assert tuple(out.shape) == tuple(expected.shape), "shape in ONNX Runtime"
            if expected.isfinite().all():
                differences.append(relative_difference([expected], [torch.from_numpy(out)]))
                if differences[-1] <= TOLERANCE:
                    break
        if differences and min(differences) > TOLERANCE:
            if relative_difference([expected], in_double_precision(elastic, subnet, inputs)) > TOLERANCE:
                # Rounding decides, as for the floor of a tanh that is almost 1, or torch errs in single precision.
                return "torch differs from itself in double precision"
            raise AssertionError(f"ONNX Runtime {differences}")
    return outcome


def in_double_precision(elastic: ElasticProgram, subnet: ProgramModule, inputs: Tensor) -> list[Tensor]:
    """What torch computes for a plain network in double precision."""
    program = subnet.captured_program
    tensors = {name: tensor.detach() for name in program.tensors if (tensor := subnet._tensor(name)) is not None}
    network = replace(elastic, program=program, axes={})
    return [output.float() for output in outputs_of(network, tensors.__getitem__, [inputs], double=True)]


# A number of degrees of freedom that is zero, and other odd arguments, are what is tried here.
@pytest.mark.filterwarnings("ignore")
def test_random_programs_agree_or_are_rejected_by_name() -> None:
    outcomes, wrong = Counter[str](), list[str]()

    @settings(
        max_examples=N_PROGRAMS,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate] if IS_DEEP else list(Phase),
    )
    @given(random_programs(), st.integers(0, 2**31 - 1))
    def run(program: RandomProgram, seed: int) -> None:
        try:
            outcomes[check(program, seed)] += 1
        except Exception as error:
            if not IS_DEEP:
                raise
            outcomes["wrong"] += 1
            wrong.append(f"{type(error).__name__}: {str(error)[:300]}\n{program!r}")
            print(wrong[-1], flush=True)
        if outcomes.total() % 1000 == 0:
            print(f"{outcomes.total()} programs: {dict(outcomes.most_common())}", flush=True)

    run()
    print(f"{outcomes.total()} programs: {dict(outcomes.most_common())}")
    assert not wrong
