"""The facts that two runs must share for their measurements to be comparable, and digests of spaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from nas.jobs.build.built_job import BuiltJob
from nas.jobs.build.job_data import JobData
from nas.jobs.build.task import expert_cache
from supernets.families.nested_networks import NestedFamily
from supernets.families.single_network import SingleFamily
from supernets.sharing.base import Family
from supernets.sharing.spec import PLAIN
from supernets.training.checkpoint import weights_digest


def compatibility_facts(built_job: BuiltJob, *, measured: bool) -> dict[str, Any]:
    """The facts that two runs must share for their measurements to be comparable, JSON-able.

    They are the space, data, supernet and (where `measured`) profiles of a job.
    """
    facts = network_facts(built_job.family, built_job.data) | {"supernet": _supernet_facts(built_job)}
    if measured:
        if own_metrics := built_job.job.own_metrics:
            settings = {name: metric.settings for name, metric in built_job.job.config.metrics.items()}
            facts["metrics"] = {
                name: {"class": ref.target, "settings": settings[name]} for name, (ref, _) in own_metrics.items()
            }
        facts["profiles"] = {profile.name: profile.to_json() for profile in built_job.job.profiles}
        if built_job.serving is not None:
            facts["serving"] = built_job.serving.to_json()
            cache = expert_cache(built_job.job.config)
            facts["expert_cache"] = None if cache is None else asdict(cache)
        if built_job.data.of_text:
            facts["timed_tokens"] = built_job.job.config.data.timed_tokens
    return as_stored(facts)


def space_digest(family: Family) -> str:
    """A digest that differs between families, spaces and image sizes."""
    text = json.dumps(family.to_json(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def network_facts(family: Family, data: JobData) -> dict[str, Any]:
    """The compatibility facts that are known without the training; of a family, what decides on its networks."""
    plain = family.plain(family.space.largest)[0].to_json()
    network = {"network": family.network.key} if isinstance(family, SingleFamily) else {}
    return {
        "space": family.space.to_json(),
        "family": {
            "family": plain["family"],
            "nested": isinstance(family, NestedFamily),
            **network,
            **_spec_facts(plain),
        },
        "data": data.digests(),
        "calibration_images": data.job.config.calibration_images,
    }


def _spec_facts(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a family's JSON that determines its networks; for a captured model, a digest of its program."""
    if "program" not in plain:
        return dict(plain["spec"])
    text = json.dumps(plain["program"], sort_keys=True)
    options = {key: plain[key] for key in ("granularity", "widths", "keep", "multiple")}
    return {"program": hashlib.sha256(text.encode()).hexdigest()[:16], **options}


def _supernet_facts(built_job: BuiltJob) -> dict[str, Any]:
    """The digest of trained weights; of a supernet that the job trains, everything that decides on its weights."""
    if built_job.checkpoint is not None:
        return {"weights": built_job.checkpoint.weights_digest}
    facts: dict[str, Any] = {} if built_job.sharing == PLAIN else {"sharing": built_job.sharing.to_json()}
    facts |= asdict(built_job.settings()) | built_job.job.config.training.recipe
    if built_job.pretrained is not None:
        facts["pretrained"] = built_job.pretrained.digest
        if built_job.job.config.supernet.sort is not None:
            facts["sort"] = built_job.job.config.supernet.sort
        if built_job.job.config.supernet.partition is not None:
            facts["partition"] = built_job.job.config.supernet.partition
    if built_job.model is not None:
        facts["model"] = {
            "weights": weights_digest(built_job.model.tensors),
            "sort": built_job.job.config.supernet.sort,
        }
    if built_job.parent is not None:
        facts["origin"] = built_job.parent.weights_digest
    return facts


def as_stored(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as they are read back from a store."""
    return cast(dict[str, Any], json.loads(json.dumps(facts)))
