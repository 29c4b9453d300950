"""`nas.jobs.build.family`: what a plug-in's description says of its jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.engine.store.folder import RunsFolder
from nas.jobs.build.built_job import build_job
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import parse_job
from tests.errors import raises
from tests.nas.commands import SMALL_JOB
from tests.plugin_packages import PluginPackages

FAMILY = """
from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN, CNNSpec
from supernets.families.registry import FamilyDescription

class Own(MobileCNNFamily):
    name = "family_kit:Own"
    description = FamilyDescription(CNNSpec, MOBILE_CNN, network=name, learning_rate=0.02)
"""
JOB = SMALL_JOB.replace("family: mobile-cnn", "family: family_kit:Own")


def test_a_job_without_a_learning_rate_has_that_of_its_plugins_family(
    tmp_path: Path, plugin_packages: PluginPackages
) -> None:
    plugin_packages.install("family-kit", {"family_kit": FAMILY})
    job = parse_job(JOB, source="job.yaml")
    stored = parse_job(job.to_yaml(), source="job.yaml")  # as a server keeps it, without loading the family
    for one in (job, stored):
        built_job = build_job(ResolvedJob(one, RunsFolder(tmp_path)))
        assert built_job.settings().learning_rate == 0.02
        assert built_job.job.config.training.learning_rate == 0.02
    given = parse_job(JOB.replace("epochs: 4", "epochs: 4, learning_rate: 0.003"), source="job.yaml")
    kept = parse_job(given.to_yaml(), source="job.yaml")
    assert build_job(ResolvedJob(kept, RunsFolder(tmp_path))).settings().learning_rate == 0.003


@pytest.mark.parametrize("rate", ["-1", "'fast'", "True", "float('nan')"])
def test_a_learning_rate_that_is_none_is_named(tmp_path: Path, plugin_packages: PluginPackages, rate: str) -> None:
    plugin_packages.install("family-kit", {"family_kit": FAMILY.replace("0.02", rate)})
    with raises("plugin.contract", "family family_kit:Own (family-kit 0.1)", "learning_rate"):
        build_job(ResolvedJob(parse_job(JOB, source="job.yaml"), RunsFolder(tmp_path)))


@pytest.mark.parametrize(
    ("body", "code", "mentions"),
    [
        ("raise KeyError('width')", "plugin.failed", ("making its networks raised KeyError: 'width'",)),
        ("return {'nowhere': ('width',)}", "family.inconsistent", ("no tensor nowhere",)),
    ],
    ids=["error", "names"],
)
def test_a_family_that_cannot_make_its_networks_is_named(
    tmp_path: Path, plugin_packages: PluginPackages, body: str, code: str, mentions: tuple[str, ...]
) -> None:
    broken = f"    def named_dims(self):\n        {body}\n"
    plugin_packages.install("family-kit", {"family_kit": f"{FAMILY}\n{broken}"})
    with raises(code, "family family_kit:Own (family-kit 0.1): ", *mentions):
        build_job(ResolvedJob(parse_job(JOB, source="job.yaml"), RunsFolder(tmp_path)))
