"""The heads of detectors by their facts, which families and captured models state as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, cast

from supernets.tasks.detection.head import DetectionHead

_HEADS: Mapping[str, str] = {
    "anchor-free": "supernets.tasks.detection.anchor_free:AnchorFreeHead",
    "torchvision-two-stage": "supernets.tasks.detection.two_stage_head:TwoStageHead",
    "torchvision": "supernets.tasks.detection.torchvision_head:TorchvisionHead",
}
"""The class of each kind of head, loaded when it is first used: torchvision is an optional part."""


def head_of(facts: Mapping[str, Any]) -> DetectionHead:
    """The head with these facts, as `DetectionHead.to_json` gives them.

    Args:
        facts: ``kind``, a name of a kind of head, and the arguments of its class.
    """
    arguments = {name: value for name, value in facts.items() if name != "kind"}
    return cast(DetectionHead, resolve_name(_HEADS[facts["kind"]])(**arguments))
