"""Captured networks where a default device is set."""

from __future__ import annotations

import torch

from tests.supernets.networks.capture.test_captured_networks import supernet_of


def test_a_template_is_made_where_the_default_device_holds_no_data() -> None:
    family = supernet_of("resnet").family
    with torch.device("meta"):
        template = family.template()
    assert {name.rpartition(".")[2] for name, _ in template.named_buffers()} >= {"running_mean"}
