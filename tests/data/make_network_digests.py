"""Makes ``network_digests.json.gz``: digests of networks of every family, as the version in which it runs makes them.

    python -m tests.data.make_network_digests VERSION

Run it in a checkout of the version to record (``VERSION``, a commit), with this file and ``network_digests.py`` beside the
other test data there. It takes about two minutes; the tests read the committed file. Spaces that are added later are recorded
in the version that has them first: a changed digest of a space here means that networks of users have changed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from supernets.families.decoder.family import DecoderFamily
from supernets.families.decoder.spec import DECODER, DecoderSpec
from supernets.families.encoder.family import EncoderFamily
from supernets.families.encoder.spec import ENCODER, EncoderSpec
from supernets.families.encoder_decoder.family import EncoderDecoderFamily
from supernets.families.encoder_decoder.spec import ENCODER_DECODER, EncoderDecoderSpec
from supernets.families.mlp.family import MLPFamily
from supernets.families.mlp.spec import MLP, MLPSpec
from supernets.families.mobile_cnn.family import MobileCNNFamily
from supernets.families.mobile_cnn.spec import MOBILE_CNN, CNNSpec, StageSpec
from supernets.families.nested_networks import NestedFamily
from supernets.families.resnet.family import ResNetFamily
from supernets.families.resnet.spec import RESNET, BottleneckStage, ResNetSpec
from supernets.families.single_network import SingleFamily
from supernets.families.vit.family import ViTFamily
from supernets.families.vit.spec import VIT, ViTSpec
from supernets.families.vit_encoder.family import ViTEncoderFamily
from supernets.families.vit_encoder.spec import VIT_ENCODER
from supernets.sharing.base import Family
from supernets.space import Architecture, SearchSpace
from tests.data.network_digests import FILE, SpaceDigests, digest_networks, supernet_from_json, write_digests

N_NETWORKS = 60
SEED = 20
DIGITS: dict[str, Any] = {"image_size": 8, "channels": 1, "n_classes": 10}
IMAGES: dict[str, Any] = {"image_size": 28, "channels": 1, "n_classes": 10}
COLOUR: dict[str, Any] = {"image_size": 12, "channels": 2, "n_classes": 5}
SENTENCES: dict[str, Any] = {"vocabulary": 40, "positions": 12, "padding": 3, "tokens": 9, "n_classes": 5}
TEXTS: dict[str, Any] = {"vocabulary": 40, "positions": 12, "tokens": 9}
PAIRS: dict[str, Any] = {"vocabulary": 40, "separator": 3, "source": 6, "target": 5}


def convolutional_families() -> dict[str, Family]:
    """With and without squeeze-and-excitation, mixing, pooling and elastic resolutions."""
    elastic_cnn = CNNSpec(
        stem=8,
        stem_stride=1,
        stages=(
            StageSpec(1, (1, 2), (8, 16), (3,), (1, 2)),
            StageSpec(2, (1, 2), (16, 24), (3, 5), (2, 4), squeeze=True, activation="hardswish"),
        ),
        head=32,
        activation="hardswish",
        mix=24,
        resolution=(6, 8, 12),
    )
    elastic_resnet = ResNetSpec(
        stem=(8, 24),
        stem_stride=1,
        stem_pool=True,
        stages=(
            BottleneckStage(1, (1, 2), (16, 32), (0.5, 1)),
            BottleneckStage(2, (1, 2), (32, 40), (0.25, 0.5)),
        ),
        resolution=(8, 12),
    )
    digits = MobileCNNFamily(MOBILE_CNN["digits"], **DIGITS)
    return {
        "mobile-cnn-digits": digits,
        "mobile-cnn-tiny": MobileCNNFamily(MOBILE_CNN["tiny"], **IMAGES),
        "mobile-cnn-tiny-v3": MobileCNNFamily(MOBILE_CNN["tiny-v3"], **IMAGES),
        "mobile-cnn-elastic-resolution": MobileCNNFamily(elastic_cnn, **DIGITS),
        "mobile-cnn-nested": NestedFamily(digits),
        "mobile-cnn-single": SingleFamily(digits, middle_architecture(digits.space)),
        "resnet-digits": ResNetFamily(RESNET["digits"], **DIGITS),
        "resnet-tiny": ResNetFamily(RESNET["tiny"], **IMAGES),
        "resnet-elastic-resolution": ResNetFamily(elastic_resnet, image_size=12, channels=1, n_classes=10),
    }


def encoder_families() -> dict[str, Family]:
    """Transformers of images and sentences, and perceptrons."""
    vit = ViTSpec(patch=4, head_size=4, depth=(1, 2, 3), width=(12, 16, 20), heads=(1, 2, 3), mlp=(1.5, 2, 3.5))
    sentences = EncoderSpec(head_size=4, depth=(1, 2, 3), width=(12, 16, 20), heads=(1, 2, 3), hidden=(10, 16, 28))
    experts: dict[str, Any] = {"experts": (2, 4), "active_experts": (1, 3)}
    plain_mlp = MLPSpec(width=(16, 24), depth=(1, 3), hidden=(16, 32), residual=False)
    return {
        "vit-tiny": ViTFamily(VIT["tiny"], **IMAGES),
        "vit-odd-sizes": ViTFamily(vit, **COLOUR),
        "vit-experts": ViTFamily(replace(vit, **experts, null_experts=(0, 1)), **COLOUR),
        "vit-experts-top-p": ViTFamily(replace(vit, experts=(2, 4), active_experts=(2, 3), top_p=(0.5, 1)), **COLOUR),
        "vit-encoder-tiny": ViTEncoderFamily(VIT_ENCODER["tiny"], **IMAGES),
        "vit-encoder-digits": ViTEncoderFamily(VIT_ENCODER["digits"], **DIGITS),
        "encoder-tiny": EncoderFamily(ENCODER["tiny"], **SENTENCES),
        "encoder-spread": EncoderFamily(replace(sentences, kept="spread"), **SENTENCES),
        "encoder-experts": EncoderFamily(replace(sentences, **experts, gates="equal"), **SENTENCES),
        "mlp-tiny": MLPFamily(MLP["tiny"], features=7, n_classes=3),
        "mlp-plain": MLPFamily(plain_mlp, features=7, n_classes=3),
    }


def language_families() -> dict[str, Family]:
    """Decoders in both layouts with all kinds of experts, and encoder-decoders.

    Heads of four channels are served with a copied cache, those of eight and more with a cache in place.
    """
    llama = DecoderSpec(
        head_size=4, depth=(1, 2, 3), width=(12, 16, 20), heads=(1, 2, 3), queries=(1, 2), hidden=(10, 16, 28)
    )
    gpt2 = replace(llama, layout="gpt2", queries=(1,))
    ordered = replace(llama, order=(1, 2, 0), tied=False, qkv_bias=True, activation="gelu")
    plain = replace(llama, experts=(2, 3, 5), active_experts=(1, 2, 5))
    shared = replace(plain, gates="softmax-all", shared_hidden=6, shared_gate=True)
    gpt2_experts: dict[str, Any] = {"experts": (1, 4), "active_experts": (1, 2), "gates": "sigmoid", "hidden": (5, 8)}
    specs = {
        "tiny": DECODER["tiny"],
        "tiny-gpt2": DECODER["tiny-gpt2"],
        "llama": llama,
        "llama-heads-of-8": replace(llama, head_size=8),
        "gpt2": gpt2,
        "gpt2-heads-of-8": replace(gpt2, head_size=8),
        "attention-experts": replace(llama, attention_experts=(1, 2, 3)),
        "experts": plain,
        "experts-heads-of-8": replace(shared, head_size=8),
        "experts-equal-gates": replace(plain, gates="equal"),
        "experts-random-routers": replace(plain, routers="random"),
        "experts-null": replace(plain, null_experts=(0, 2)),
        "experts-top-p": replace(plain, active_experts=(2, 3, 5), top_p=(0.4, 0.8, 1)),
        "shared-expert": shared,
        "low-rank-experts": replace(shared, expert_rank=(3, 9)),
        "one-router": replace(shared, routers="shared"),
        "gpt2-experts": replace(gpt2, **gpt2_experts, attention_experts=(1, 3)),
    }
    small_pairs = EncoderDecoderSpec(
        head_size=4,
        encoder_depth=(3, 4),
        encoder_width=(12, 16),
        encoder_heads=(1, 2),
        encoder_hidden=(10, 16),
        decoder_depth=(1, 2),
        decoder_width=(8, 20),
        decoder_heads=(1, 2),
        decoder_cross_heads=(1, 3),
        decoder_hidden=(8, 14),
        decoder_attended=(1, 2, 3),
    )
    return {
        **{f"decoder-{name}": DecoderFamily(spec, **TEXTS) for name, spec in specs.items()},
        "decoder-ordered": DecoderFamily(ordered, **TEXTS, embedding_scale=3.0),
        "decoder-scaled-positions": DecoderFamily(llama, **TEXTS, scaling=(4.0, 1.0, 4.0, 8.0)),
        "encoder-decoder-tiny": EncoderDecoderFamily(ENCODER_DECODER["tiny"], **PAIRS),
        "encoder-decoder-small": EncoderDecoderFamily(small_pairs, **PAIRS),
    }


def middle_architecture(space: SearchSpace) -> Architecture:
    """The network of the middle options."""
    return space.canonical((space.levels - 1) // 2)


def chosen_architectures(space: SearchSpace) -> list[Architecture]:
    """The smallest network, the largest, and random ones: at most `N_NETWORKS` distinct ones, all of a small space."""
    rng = np.random.default_rng(SEED)
    wanted = min(N_NETWORKS, space.size)
    architectures = dict.fromkeys([space.smallest, space.largest])
    while len(architectures) < wanted:
        architectures[space.sample(rng)] = None
    return list(architectures)


def main() -> None:
    """Records every space."""
    (version,) = sys.argv[1:]
    torch.set_num_threads(1)
    families: Mapping[str, Family] = {**convolutional_families(), **encoder_families(), **language_families()}
    spaces = {}
    for name, family in families.items():
        supernet = supernet_from_json(family.to_json())
        networks = tuple(digest_networks(supernet, chosen_architectures(supernet.space)))
        spaces[name] = SpaceDigests(family.to_json(), networks)
        print(f"{name}: {len(networks)} networks", flush=True)
    write_digests(spaces, version)
    print(f"{FILE.name}: {FILE.stat().st_size} bytes")


if __name__ == "__main__":
    main()
