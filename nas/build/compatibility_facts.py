"""The facts of a job that two runs must share for their measurements to be comparable."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any, cast

from nas.build.job_data import JobData
from nas.build.prepared_job import PreparedJob
from nas.build.supernet_factory import SupernetFactory
from supernets.base import Family
from supernets.families.nested import NestedFamily
from supernets.families.single import SingleFamily
from supernets.sharing.spec import PLAIN


def compatibility_facts(prepared: PreparedJob, *, measured: bool) -> dict[str, Any]:
    """Space, data, supernet and (where `measured`) profiles of a job, JSON-able."""
    found = network_facts(prepared.supernets.family, prepared.data) | {"supernet": _supernet(prepared.supernets)}
    if measured:
        found["profiles"] = {profile.name: asdict(profile) for profile in prepared.job.profiles}
        if prepared.config.data.of_text:
            found["timed_tokens"] = prepared.config.data.timed_tokens
    return _plain(found)


def network_facts(family: Family, data: JobData) -> dict[str, Any]:
    """Those of the facts that are known without the training: space, family, data and calibration, JSON-able."""
    return _plain(
        {
            "space": family.space.to_json(),
            "family": _family(family),
            "data": data.digests(),
            "calibration_images": data.config.calibration_images,
        }
    )


def space_digest(family: Family) -> str:
    """A digest that differs between families, spaces and image sizes."""
    text = json.dumps(family.to_json(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _supernet(supernets: SupernetFactory) -> dict[str, Any]:
    """The digest of trained weights; of a supernet that the job trains, everything that decides on its weights."""
    if supernets.checkpoint is not None:
        return {"weights": supernets.checkpoint.weights_digest}
    facts: dict[str, Any] = {} if supernets.sharing == PLAIN else {"sharing": supernets.sharing.to_json()}
    facts |= asdict(supernets.settings()) | supernets.config.training.recipe
    if supernets.pretrained is not None:
        facts["pretrained"] = supernets.pretrained.digest
    if supernets.parent is not None:
        facts["origin"] = supernets.parent.weights_digest
    return facts


def _family(family: Family) -> dict[str, Any]:
    """What decides on the networks besides the space: fixed sizes, strides, activations."""
    plain, nested = family.to_json(), isinstance(family, NestedFamily)
    network = {"network": plain["network"]} if isinstance(family, SingleFamily) else {}
    while "of" in plain:
        plain = plain["of"]
    return {"family": plain["family"], "nested": nested, **network, **plain["spec"]}


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts as they are read back from a store."""
    return cast(dict[str, Any], json.loads(json.dumps(facts)))
