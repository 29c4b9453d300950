"""Small families and supernets with every way of sharing, for tests."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor

from supernets.families.convolutional.mobile_cnn_family import MobileCNNFamily
from supernets.families.convolutional.mobile_cnn_spec import CNNSpec, StageSpec
from supernets.families.single_network import SingleFamily
from supernets.families.vision_transformer.vision_transformer_family import ViTFamily
from supernets.families.vision_transformer.vision_transformer_spec import ViTSpec
from supernets.sharing.base import Family, Supernet
from supernets.sharing.chain import ChainSharing
from supernets.sharing.spec import PLAIN, MixtureSpec, SharingSpec
from supernets.training.checkpoint import make_supernet
from tests.supernets import invariants
from tests.supernets.families import test_mlp_family as test_mlp
from tests.supernets.families.convolutional import test_mobile_cnn_family as test_mobile_cnn_v3
from tests.supernets.families.convolutional import test_resnet_family as test_resnet
from tests.supernets.families.decoder import test_decoder_family as test_decoder
from tests.supernets.families.dense import test_detector_family as test_detector
from tests.supernets.families.dense import test_segmenter_family as test_segmenter
from tests.supernets.families.encoder import test_encoder_family as test_encoder
from tests.supernets.families.encoder_decoder import test_encoder_decoder_family as test_encoder_decoder
from tests.supernets.families.vision_transformer import test_vit_encoder_family as test_vit_encoder
from tests.supernets.families.vision_transformer import test_vit_family as test_vit
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
SLICED: dict[str, Family] = {
    "resnet_digits": test_resnet.FAMILIES["digits"],
    "vit_odd_sizes": test_vit.FAMILY,
    "vit_experts": test_vit.EXPERTS,
    "encoder_spread": test_encoder.SPREAD,
    "encoder_experts": test_encoder.EXPERTS,
    "decoder_ordered": test_decoder.ORDERED,
    "decoder_gemma": test_decoder.GEMMA,
    "decoder_olmo": test_decoder.OLMO,
    "decoder_attention_experts": test_decoder.ATTENTION_EXPERTS,
    "decoder_skips": test_decoder.SKIPS,
    "decoder_gpt2_skips": test_decoder.GPT2_SKIPS,
    "decoder_low_rank": test_decoder.LOW_RANK,
    "decoder_one_router": test_decoder.ONE_ROUTER,
    "decoder_gpt2_experts": test_decoder.GPT2_EXPERTS,
    "mlp_residual": test_mlp.FAMILIES["residual"],
    "mlp_plain": test_mlp.FAMILIES["plain"],
    "detector_shared": test_detector.SHARED,
    "detector_separate": test_detector.SEPARATE,
    "segmenter": test_segmenter.FAMILY,
}
"""Further families, with slices alone."""
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
    "resnet_digits": test_resnet.handwritten,
    **dict.fromkeys(("vit_odd_sizes", "vit_experts"), test_vit.handwritten),
    **dict.fromkeys(("encoder_spread", "encoder_experts"), test_encoder.handwritten),
    **{name: test_decoder.handwritten for name in SLICED if name.startswith("decoder")},
    "mlp_residual": test_mlp.handwritten(residual=True),
    "mlp_plain": test_mlp.handwritten(residual=False),
    **dict.fromkeys(("detector_shared", "detector_separate"), test_detector.handwritten),
    "segmenter": test_segmenter.handwritten,
}
_OF_ENCODERS = (("width", "embedding.words.weight"), ("width", "embedding.positions"), ("width", "head.pool.weight"))
_OF_LAYERS = (("layer1.heads", "layers.1.attention.project.weight"), ("layer2.hidden", "layers.2.mlp.2.weight"))
_OF_DECODERS = (
    ("width", "embedding.words.weight"),
    ("layer1.heads", "layers.1.attention.value.weight"),
    ("layer1.heads", "layers.1.attention.project.weight"),
    ("layer2.hidden", "layers.2.mlp.down.weight"),
)
_OF_EXPERTS = (("layer1.experts", "layers.1.mlp.router.weight"), ("layer1.experts", "layers.1.mlp.down"))
_OF_MLPS = (("width", "blocks.0.reduce.bias"), ("block0.hidden", "blocks.0.expand.bias"))
CONTROLS: dict[str, tuple[tuple[str, str], ...]] = {
    "mobilenet_v3": (
        ("stage1.block0.squeeze", "stages.1.0.squeeze.expand.weight"),
        ("stage1.block0.hidden", "stages.1.0.squeeze.expand.bias"),
    ),
    "resnet": (
        ("stem.inner", "stem.third.conv.weight"),
        ("stage0.width", "stages.1.0.shortcut.conv.weight"),
        ("stage1.block0.hidden", "stages.1.0.filter.norm.bias"),
    ),
    "vit_odd_sizes": (
        ("width", "embedding.positions"),
        ("width", "blocks.1.attention.qkv.weight"),
        ("block1.heads", "blocks.1.attention.project.weight"),
        ("block2.hidden", "blocks.2.mlp.2.weight"),
    ),
    "vit_experts": (("block1.experts", "blocks.1.mlp.router.weight"), ("block1.experts", "blocks.1.mlp.down")),
    "vit_encoder": (
        ("width", "embedding.positions"),
        ("width", "embedding.patches.weight"),
        ("width", "head.norm.weight"),
        *_OF_LAYERS,
    ),
    **dict.fromkeys(("encoder", "encoder_spread"), (*_OF_ENCODERS, *_OF_LAYERS)),
    **dict.fromkeys(("decoder_llama", "decoder_gpt2", "decoder_ordered", "decoder_attention_experts"), _OF_DECODERS),
    **dict.fromkeys(("encoder_experts", "decoder_experts", "decoder_low_rank", "decoder_gpt2_experts"), _OF_EXPERTS),
    "decoder_one_router": (("layer1.experts", "layers.1.mlp.columns"), ("layer1.experts", "layers.1.mlp.down")),
    "encoder_decoder": (
        ("encoder.width", "decoder.layers.1.cross.key.weight"),
        ("decoder.width", "decoder.embedding.words.weight"),
        ("decoder.layer1.cross_heads", "decoder.layers.1.cross.project.weight"),
    ),
    "detector_shared": (
        ("neck.width", "neck.1.lateral.conv.weight"),
        ("stage1.width", "neck.0.lateral.conv.weight"),
        ("head.width", "head.layers.1.mixers.0.weight"),
        ("head.width", "head.layers.0.norms.1.bias"),
    ),
    "segmenter": (
        ("head.width", "head.classifier.weight"),
        ("neck0.block0.hidden", "neck.0.layers.0.filter.norm.bias"),
    ),
    "mlp_residual": _OF_MLPS,
    "mlp_plain": _OF_MLPS,
}
"""Axes, and tensors that have them, which are left unpermuted in negative controls."""

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
SLICES = [(family, "slice") for family in (*FAMILIES, *SLICED)]


def made(family: str, sharing: str) -> Supernet:
    """A supernet with random weights whose routers mix experts and depend on the architecture."""
    torch.manual_seed(0)
    supernet = invariants.randomised(make_supernet((FAMILIES | SLICED)[family], SHARINGS[sharing]))
    with torch.no_grad():
        for name, parameter in supernet.named_parameters():
            if sharing != "slice" and ("router" in name or "adapters" in name):
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
    if family.startswith("encoder"):
        return test_encoder.sentences(n)
    if family == "vit_encoder":
        return test_vit_encoder.noise(n)
    shape = (FAMILIES | SLICED)[family].example(n).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
