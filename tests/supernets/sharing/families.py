"""Small families and supernets with every way of sharing, for tests."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.spec import CNNSpec, StageSpec
from supernets.families.single_network import SingleFamily
from supernets.families.vit.family import ViTFamily
from supernets.families.vit.spec import ViTSpec
from supernets.sharing.base import Family, Supernet
from supernets.sharing.chain import ChainSharing
from supernets.sharing.spec import PLAIN, MixtureSpec, SharingSpec
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families.decoder import test_family as test_decoder
from tests.supernets.families.encoder import test_family as test_encoder
from tests.supernets.families.encoder_decoder import test_family as test_encoder_decoder
from tests.supernets.families.mobile_cnn import test_family as test_mobile_cnn_v3
from tests.supernets.families.resnet import test_family as test_resnet
from tests.supernets.families.vit import test_family as test_vit
from tests.supernets.families.vit_encoder import test_family as test_vit_encoder
from tests.supernets.sharing import test_supernet

CNN = MobileCNNFamily(
    CNNSpec(
        stem=4,
        stem_stride=1,
        stages=(
            StageSpec(stride=1, depth=(1, 2), width=(4, 6, 8), kernel=(3, 5, 7), expand=(1, 2)),
            StageSpec(stride=2, depth=(1, 2), width=(6, 9), kernel=(3, 7), expand=(2, 3)),
        ),
        head=8,
    ),
    image_size=8,
    channels=2,
    n_classes=5,
)
VIT = ViTFamily(
    ViTSpec(patch=4, head_size=4, depth=(1, 2), width=(12, 16, 20), heads=(1, 2, 3), mlp=(1.5, 2, 3.5)),
    image_size=12,
    channels=2,
    n_classes=5,
)
FAMILIES: dict[str, Family] = {
    "cnn": CNN,
    "mobilenet_v3": test_mobile_cnn_v3.FAMILY,
    "resnet": test_resnet.FAMILIES["elastic"],
    "vit": VIT,
    "encoder": test_encoder.FAMILY,
    "vit_encoder": test_vit_encoder.FAMILY,
    "decoder_llama": test_decoder.LLAMA,
    "decoder_gpt2": test_decoder.GPT2,
    "decoder_experts": test_decoder.EXPERTS,
    "encoder_decoder": test_encoder_decoder.FAMILY,
    "single": SingleFamily(CNN, CNN.space.sample(np.random.default_rng(5))),
}
BY_HAND: dict[str, invariants.ByHand] = {
    "cnn": test_supernet.handwritten,
    "mobilenet_v3": test_mobile_cnn_v3.handwritten,
    "resnet": test_resnet.handwritten,
    "vit": test_vit.handwritten,
    "encoder": test_encoder.handwritten,
    "vit_encoder": test_vit_encoder.handwritten,
    "decoder_llama": test_decoder.handwritten,
    "decoder_gpt2": test_decoder.handwritten,
    "decoder_experts": test_decoder.handwritten,
    "encoder_decoder": test_encoder_decoder.handwritten,
    "single": test_supernet.handwritten,
}

BY_LAYER = SharingSpec(MixtureSpec(experts=3, hidden=8))
BY_NEURON = SharingSpec(MixtureSpec(routing="neuron", hidden=8))
SHARINGS: dict[str, SharingSpec] = {
    "slice": PLAIN,
    "layer": BY_LAYER,
    "neuron": BY_NEURON,
    "transform": SharingSpec(kernels="transform"),
    "neuron and transform": SharingSpec(BY_NEURON.mixture, "transform"),
    "adapters": SharingSpec(adapter_rank=3),
    "merged": SharingSpec(experts="merged"),
}
CASES = [
    (f, s) for f in FAMILIES for s in SHARINGS
    if (f in ("cnn", "mobilenet_v3") or "transform" not in s) and (f == "decoder_experts") == (s == "merged")
]  # fmt: skip
"""Every family with every sharing that applies to it."""


def made(family: str, sharing: str) -> Supernet:
    """A supernet with random weights whose routers mix experts and depend on the architecture."""
    torch.manual_seed(0)
    supernet = invariants.randomised(make_supernet(FAMILIES[family], SHARINGS[sharing]))
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if "router" in name or "adapters" in name:
                parameter.mul_(0.2)
    if (merging := cast(ChainSharing, supernet.sharing).merging) is not None:
        largest = supernet.extract(supernet.space.largest)
        merging.fit(supernet.sharing.template, largest, [images_for(family)])
    return supernet


def images_for(family: str, n: int = 16) -> Tensor:
    """Noise of the family's image size, random sentences, some of them padded, or random texts."""
    if family.startswith("decoder"):
        return test_decoder.texts(n)
    if family == "encoder_decoder":
        return test_encoder_decoder.pairs(n)
    if family == "encoder":
        return test_encoder.sentences(n)
    if family == "vit_encoder":
        return test_vit_encoder.noise(n)
    shape = FAMILIES[family].example(n).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
