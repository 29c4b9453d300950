"""Profiles of the catalog and of users' files, and what is said about bad ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine, known_profiles, load_profile
from hardware_profiles.errors import ProfileError


def test_the_catalog_has_one_and_two_threads_with_batch_1_and_16_and_a_gpu() -> None:
    cpus = [p for p in known_profiles() if p.provider == "CPUExecutionProvider"]
    assert {(p.name, p.threads, p.batch_size) for p in cpus} == {
        ("cpu-1-thread", 1, 1),
        ("cpu-2-threads", 2, 1),
        ("cpu-1-thread-batch-16", 1, 16),
        ("cpu-2-threads-batch-16", 2, 16),
    }
    assert [(p.name, p.provider) for p in known_profiles() if p not in cpus] == [("cuda", "CUDAExecutionProvider")]
    assert all(p.description and not p.remote for p in known_profiles())


def test_a_name_and_a_users_file_are_loaded(tmp_path: Path) -> None:
    assert load_profile("cpu-1-thread-batch-16") in known_profiles()
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nthreads: 3\n")
    assert load_profile(str(path)) == HardwareProfile("mine", threads=3)
    path.write_text("name: pi\nssh: pi@raspberrypi\npython: ~/venv/bin/python\n")
    assert load_profile(str(path)) == HardwareProfile("pi", ssh="pi@raspberrypi", python="~/venv/bin/python")
    path.write_text("name: node\nplacement: {hw-raspberrypi5: 1, GPU: 0.5}\n")
    node = load_profile(str(path))
    assert node.placement == {"hw-raspberrypi5": 1, "GPU": 0.5}
    assert node.remote


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nthreds: 2\n", ["unknown key 'threds'", "did you mean 'threads'"]),
        ("name: a\nthreads: two\n", ["threads: expected a whole number from 1", "'two' (str)"]),
        ("name: a\nthreads: true\n", ["threads: expected a whole number", "True (bool)"]),
        ("name: a\nbatch_size: 0\n", ["batch_size: expected a whole number from 1", "0 (int)"]),
        ("name: a\nprecision: int8\n", ["precision is the job's", "write `precisions: [fp32, int8]` in the job file"]),
        ("name: a\nplacement: {x: 1}\nssh: b\n", ["placement", "and ssh", "leave one of them out"]),
        ("name: a\nplacement: hw-x\n", ["placement: expected Ray resources with their amounts", "'hw-x' (str)"]),
        ("name: a\nplacement: {hw-x: 0}\n", ["placement: expected", "above 0", "{'hw-x': 0} (dict)"]),
        ("name: a\nplacement: {hw-x: .inf}\n", ["placement: expected"]),
        ("name: a\nplacement: {1: 1}\n", ["placement: expected"]),
        ("name: a\nssh: -oProxyCommand=true\n", ["ssh: expected a host", "such as pi@raspberrypi"]),
        ("name: a\nssh: 10\n", ["ssh: expected a host", "10 (int)"]),
        ("name: a\nssh: b\npython: ' '\n", ["python: expected the path of an interpreter"]),
        ("name: a\npython: python3\n", ["python: it is the interpreter on an ssh host; add `ssh: user@host`"]),
        ("name: ../a\n", ["name: expected a name of letters"]),
        ("threads: 2\n", ["the key name is missing"]),
        ("name: cpu-1-thread\nthreads: 2\n", ["'cpu-1-thread' is taken"]),
        ("- a\n", ["expected a mapping", "(list)"]),
        ("", ["expected a mapping", "None"]),
        ("name: [\n", ["no YAML"]),
        ("name: a\nthreads: 1\nname: b\n", ["the key 'name' comes twice"]),
        ("name: !!python/object/apply:os.getcwd []\n", ["no YAML"]),
    ],
)
def test_a_bad_file_is_told_with_its_key_and_what_is_expected(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        load_profile(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_name_is_told_with_the_nearest_and_the_known() -> None:
    with pytest.raises(ProfileError, match=r"'cpu-1-tread' \(did you mean 'cpu-1-thread'\?\).*cpu-2-threads-batch-16"):
        load_profile("cpu-1-tread")
    with pytest.raises(ProfileError, match=r"absent\.yaml: the profile file cannot be read: No such file"):
        load_profile("absent.yaml")


def test_a_machine_with_too_few_cores_or_without_the_provider_is_refused() -> None:
    profile = load_profile("cpu-1-thread")
    check_machine(profile)
    available = len(os.sched_getaffinity(0))
    with pytest.raises(ProfileError, match=rf"asks for {available + 1} threads.*may use {available} CPU"):
        check_machine(replace(profile, threads=available + 1))
    with pytest.raises(ProfileError, match=r"'CPUProvider' \(did you mean 'CPUExecutionProvider'\?\)"):
        check_machine(replace(profile, provider="CPUProvider"))
    # What a machine elsewhere has, nobody can tell from here; its own worker will.
    check_machine(replace(profile, threads=available + 1, provider="CPUProvider", ssh="board"))


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this runtime has the provider"
)
def test_the_shipped_gpu_profile_is_refused_where_the_runtime_has_none() -> None:
    with pytest.raises(
        ProfileError, match=r"cuda asks for the provider 'CUDAExecutionProvider'; ONNX Runtime .* install"
    ):
        check_machine(load_profile("cuda"))
