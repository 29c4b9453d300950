"""Profiles of the catalog and of users' files, and the errors of invalid ones."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import onnxruntime
import pytest

from hardware_profiles.base import HardwareProfile
from hardware_profiles.catalog import check_machine, known_profiles, load_profile
from tests.errors import raises


def test_the_catalog_has_one_and_two_threads_with_batch_1_and_16_and_a_gpu() -> None:
    cpus = [p for p in known_profiles() if p.provider == "CPUExecutionProvider"]
    assert {(p.name, p.threads, p.batch_size) for p in cpus} == {
        ("cpu-1-thread", 1, 1),
        ("cpu-2-threads", 2, 1),
        ("cpu-1-thread-batch-16", 1, 16),
        ("cpu-2-threads-batch-16", 2, 16),
    }
    assert [(p.name, p.provider) for p in known_profiles() if p not in cpus] == [
        ("cpu-1-thread-openvino", "CPU"), ("cuda", "CUDAExecutionProvider"),
    ]  # fmt: skip
    assert all(p.description and not p.remote for p in known_profiles())


def test_a_name_and_a_users_file_are_loaded(tmp_path: Path) -> None:
    assert load_profile("cpu-1-thread-batch-16") in known_profiles()
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nthreads: 3\n")
    assert load_profile(str(path)) == HardwareProfile("mine", threads=3)
    path.write_text("name: pi\nssh: pi@raspberrypi\npython: ~/venv/bin/python\n")
    assert load_profile(str(path)) == HardwareProfile("pi", ssh="pi@raspberrypi", python="~/venv/bin/python")
    path.write_text("name: pi\nssh: pi@raspberrypi\nwait_minutes: 0.5\n")
    patient = load_profile(str(path))
    assert patient.wait_minutes == 0.5
    assert patient == HardwareProfile("pi", ssh="pi@raspberrypi")  # measurements are the same
    assert patient.to_json() == HardwareProfile("pi", ssh="pi@raspberrypi").to_json()
    path.write_text("name: node\nplacement: {hw-raspberrypi5: 1, GPU: 0.5}\n")
    node = load_profile(str(path))
    assert node.placement == {"hw-raspberrypi5": 1, "GPU": 0.5}
    assert node.remote
    path.write_text("name: phone\nbrowser: true\nwait_minutes: 3\n")
    phone = load_profile(str(path))
    assert phone == HardwareProfile("phone", browser=True, provider="wasm")
    assert phone.remote
    assert not phone.on_cpu
    assert "browser" not in HardwareProfile("mine").to_json()  # stored profiles of before are equal


VALUE, KEY, YAML = "profile.invalid-value", "profile.unknown-key", "profile.not-yaml"


@pytest.mark.parametrize(
    ("text", "code", "mentions"),
    [
        ("name: a\nthreds: 2\n", KEY, ["'threds'", "did you mean 'threads'"]),
        ("name: a\nprecision: int8\n", KEY, ["precision", "write `precisions: [fp32, int8]` in the job file"]),
        ("name: a\nthreads: two\n", VALUE, ["threads", "from 1 to 1024", "'two' (str)"]),
        ("name: a\nthreads: true\n", VALUE, ["threads", "True (bool)"]),
        ("name: a\nbatch_size: 0\n", VALUE, ["batch_size", "from 1", "0 (int)"]),
        ("name: a\nbrowser: 1\n", VALUE, ["browser", "true or false", "1 (int)"]),
        ("name: a\nbrowser: true\nprovider: CPUExecutionProvider\n", VALUE, ["wasm or webgpu"]),
        ("name: a\nbrowser: true\nruntime: openvino\n", VALUE, ["runtime"]),
        ("name: a\nplacement: hw-x\n", VALUE, ["placement", "'hw-x' (str)"]),
        ("name: a\nplacement: {hw-x: 0}\n", VALUE, ["placement", "above 0", "{'hw-x': 0} (dict)"]),
        ("name: a\nplacement: {hw-x: .inf}\n", VALUE, ["placement"]),
        ("name: a\nplacement: {1: 1}\n", VALUE, ["placement"]),
        ("name: a\nssh: -oProxyCommand=true\n", VALUE, ["ssh", "-oProxyCommand=true", "pi@raspberrypi"]),
        ("name: a\nssh: 10\n", VALUE, ["ssh", "10 (int)"]),
        ("name: a\nssh: b\npython: ' '\n", VALUE, ["python"]),
        ("name: ../a\n", VALUE, ["name", "'../a'"]),
        ("name: a\ndescription: 3\n", VALUE, ["description", "3 (int)"]),
        ("name: a\nplacement: {x: 1}\nssh: b\n", "profile.invalid", ["placement", "ssh"]),
        ("name: a\nssh: b\nwait_minutes: -1\n", VALUE, ["wait_minutes", "minutes from 0", "-1 (int)"]),
        ("name: a\nssh: b\nwait_minutes: long\n", VALUE, ["wait_minutes", "'long' (str)"]),
        ("name: a\nwait_minutes: 5\n", "profile.invalid", ["wait_minutes", "only another machine", "add ssh"]),
        ("name: a\npython: python3\n", "profile.invalid", ["python", "add `ssh: user@host`"]),
        ("threads: 2\n", "profile.invalid", ["name"]),
        ("- a\n", "profile.invalid", ["mapping", "(list)"]),
        ("", "profile.invalid", ["mapping", "None"]),
        ("name: cpu-1-thread\nthreads: 2\n", "profile.name-taken", ["'cpu-1-thread'"]),
        ("name: [\n", YAML, []),
        ("name: a\nthreads: 1\nname: b\n", YAML, ["'name' is repeated"]),
        ("name: !!python/object/apply:os.getcwd []\n", YAML, []),
    ],
)
def test_an_invalid_file_is_rejected_with_its_key_and_the_expected_value(
    tmp_path: Path, text: str, code: str, mentions: list[str]
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with raises(code, str(path), *mentions) as caught:
        load_profile(str(path))
    assert "\n" not in str(caught.value)


def test_an_unknown_name_is_rejected_with_the_nearest_and_the_known(tmp_path: Path) -> None:
    with raises("profile.unknown", "'cpu-1-tread' (did you mean 'cpu-1-thread'?)", "cpu-2-threads-batch-16"):
        load_profile("cpu-1-tread")
    with raises("profile.unreadable", "absent.yaml", "No such file"):
        load_profile("absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with raises("profile.unreadable", "latin.yaml", "UTF-8"):
        load_profile(str(tmp_path / "latin.yaml"))


def test_a_machine_with_too_few_cores_or_without_the_provider_is_rejected() -> None:
    profile = load_profile("cpu-1-thread")
    check_machine(profile)
    available = len(os.sched_getaffinity(0))
    with raises("profile.too-few-cpus", f"{available + 1} CPUs", f"use {available} "):
        check_machine(replace(profile, threads=available + 1))
    with raises("profile.provider-unavailable", "'CPUProvider' (did you mean 'CPUExecutionProvider'?)"):
        check_machine(replace(profile, provider="CPUProvider"))
    # A remote machine is checked by its own worker.
    check_machine(replace(profile, threads=available + 1, provider="CPUProvider", ssh="board"))


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this runtime has the provider"
)
def test_the_shipped_gpu_profile_is_rejected_if_the_runtime_has_no_cuda() -> None:
    with raises("profile.provider-unavailable", "profile cuda", "'CUDAExecutionProvider'", "install"):
        check_machine(load_profile("cuda"))
