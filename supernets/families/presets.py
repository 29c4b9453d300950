"""Named spaces of each family (no torch)."""

from __future__ import annotations

from collections.abc import Mapping

from supernets.families.encoder_spec import EncoderSpec, ViTEncoderSpec
from supernets.families.resnet_spec import BottleneckStage, ResNetSpec
from supernets.families.spec import Activation, CNNSpec, StageSpec
from supernets.families.vit_spec import ViTSpec


def _ofa_stage(stride: int, width: int, *, squeeze: bool = False, activation: Activation = "relu") -> StageSpec:
    return StageSpec(stride, (2, 3, 4), (width,), (3, 5, 7), (3, 4, 6), squeeze, activation)


MOBILE_CNN: Mapping[str, CNNSpec] = {
    # 28 x 28 grey images: at most 0.3 M parameters, at least 1e8 architectures, MACs spanning at least 10 x.
    "tiny": CNNSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1, 2), width=(12, 16), kernel=(3, 5), expand=(2, 3, 4)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(16, 24, 32), kernel=(3, 5), expand=(2, 3, 4)),
            StageSpec(stride=2, depth=(1, 2, 3, 4), width=(48, 64, 80), kernel=(3, 5), expand=(2, 3, 4)),
        ),
        head=128,
    ),
    # MobileNetV2's size (arXiv 1801.04381) for colour images of 224 pixels; widths are multiples of 8, as runtimes like.
    "mobile": CNNSpec(
        stem=32,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1,), width=(8, 16), kernel=(3,), expand=(1,)),
            StageSpec(stride=2, depth=(1, 2), width=(16, 24), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(24, 32), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(2, 3, 4), width=(48, 64), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=1, depth=(1, 2, 3), width=(64, 96), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(112, 160), kernel=(3, 5, 7), expand=(3, 4, 6)),
            StageSpec(stride=1, depth=(1,), width=(224, 320), kernel=(3, 5, 7), expand=(3, 4, 6)),
        ),
        head=1280,
    ),
    # 8 x 8 grey images: the stem keeps the resolution, and its first stage needs no wide kernel. The smallest network
    # is small enough to be worse, though the digits are easy.
    "digits": CNNSpec(
        stem=8,
        stem_stride=1,
        stages=(
            StageSpec(stride=1, depth=(1, 2, 3), width=(4, 8, 16), kernel=(3,), expand=(1, 2, 4)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(8, 16, 32), kernel=(3, 5), expand=(1, 2, 4)),
        ),
        head=64,
    ),
    # Once-for-All's space (arXiv 1908.09791) around MobileNetV3-large, for colour images of 224 pixels.
    "ofa": CNNSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1,), width=(16,), kernel=(3,), expand=(1,)),
            _ofa_stage(stride=2, width=24),
            _ofa_stage(stride=2, width=40, squeeze=True),
            _ofa_stage(stride=2, width=80, activation="hardswish"),
            _ofa_stage(stride=1, width=112, squeeze=True, activation="hardswish"),
            _ofa_stage(stride=2, width=160, squeeze=True, activation="hardswish"),
        ),
        head=960,
        activation="hardswish",
        mix=1280,
        resolution=tuple(range(128, 225, 4)),
    ),
    # MobileNetV3's ingredients for 28 x 28 grey images: as large as `tiny`.
    "tiny-v3": CNNSpec(
        stem=16,
        stem_stride=2,
        stages=(
            StageSpec(stride=1, depth=(1, 2), width=(16,), kernel=(3, 5), expand=(1, 2, 3)),
            StageSpec(stride=2, depth=(1, 2, 3), width=(16, 24), kernel=(3, 5), expand=(2, 3, 4), squeeze=True),
            StageSpec(
                stride=2,
                depth=(1, 2, 3, 4),
                width=(40, 48, 56),
                kernel=(3, 5),
                expand=(2, 3, 4),
                squeeze=True,
                activation="hardswish",
            ),
        ),
        head=128,
        activation="hardswish",
        mix=128,
        resolution=(20, 24, 28),
    ),
}
"""Presets of the family ``mobile-cnn``."""

RESNET: Mapping[str, ResNetSpec] = {
    # Once-for-All's space (arXiv 1908.09791) around ResNet-50D, for colour images of 224 pixels: widths of 0.65, 0.8 and 1
    # times ResNet-50's, rounded to multiples of 8.
    "ofa-resnet50": ResNetSpec(
        stem=(40, 48, 64),
        stem_stride=2,
        stem_pool=True,
        stages=(
            BottleneckStage(stride=1, depth=(2, 3, 4), width=(168, 208, 256), expand=(0.2, 0.25, 0.35)),
            BottleneckStage(stride=2, depth=(2, 3, 4), width=(336, 408, 512), expand=(0.2, 0.25, 0.35)),
            BottleneckStage(stride=2, depth=(4, 5, 6), width=(664, 816, 1024), expand=(0.2, 0.25, 0.35)),
            BottleneckStage(stride=2, depth=(2, 3, 4), width=(1328, 1640, 2048), expand=(0.2, 0.25, 0.35)),
        ),
        resolution=(128, 160, 192, 224),
    ),
    # 28 x 28 grey images: less than half a million parameters, MACs spanning more than 8 x.
    "tiny": ResNetSpec(
        stem=(8, 16),
        stem_stride=2,
        stages=(
            BottleneckStage(stride=1, depth=(1, 2, 3), width=(24, 32, 48), expand=(0.25, 0.5)),
            BottleneckStage(stride=2, depth=(1, 2, 3), width=(48, 64, 96), expand=(0.25, 0.5)),
            BottleneckStage(stride=1, depth=(1, 2, 3), width=(64, 96, 128), expand=(0.25, 0.35, 0.5)),
        ),
        resolution=(20, 24, 28),
    ),
    # 8 x 8 grey images: the stem keeps the resolution.
    "digits": ResNetSpec(
        stem=(8, 16),
        stem_stride=1,
        stages=(
            BottleneckStage(stride=1, depth=(1, 2), width=(16, 32), expand=(0.5, 1)),
            BottleneckStage(stride=2, depth=(1, 2, 3), width=(32, 48, 64), expand=(0.25, 0.5)),
        ),
    ),
}
"""Presets of the family ``resnet``."""

VIT: Mapping[str, ViTSpec] = {
    # 28 x 28 grey images (49 tokens): at most 0.5 M parameters, more than 10^7 architectures, MACs spanning at least 10 x;
    # all channels are multiples of 16, as vectors of CPUs are.
    "tiny": ViTSpec(
        patch=4, head_size=16, depth=(3, 4, 5, 6), width=(48, 64, 80), heads=(2, 3, 4, 5), mlp=(1, 2, 3, 4)
    ),
    # 8 x 8 grey images (16 tokens).
    "digits": ViTSpec(patch=2, head_size=8, depth=(1, 2, 3), width=(16, 24, 32), heads=(1, 2, 4), mlp=(1, 2, 4)),
    # AutoFormer's smallest search space (Chen et al. 2021, arXiv 2107.00651, table 1), for colour images of 224 pixels.
    "autoformer-tiny": ViTSpec(
        patch=16, head_size=64, depth=(12, 13, 14), width=(192, 216, 240), heads=(3, 4), mlp=(3.5, 4)
    ),
}
"""Presets of the family ``vit``."""

ENCODER: Mapping[str, EncoderSpec] = {
    # For thousands of sentences and random weights: a CPU trains it in minutes. Its layers are normalised after their skips,
    # and bear lower learning rates than vit's: after four epochs of 4,000 sentences (subjectivity) trained in sandwiches, the
    # largest network told 90 % right at a peak of 0.0005, 83 % at 0.001, and 57 % at 0.002, at which it learns when alone.
    "tiny": EncoderSpec(
        head_size=16, depth=(1, 2, 3, 4), width=(64, 96, 128), heads=(2, 4, 6, 8), hidden=(64, 128, 256, 512)
    ),
    # InstaTune's space around BERT-base (Sarah et al. 2023, arXiv 2308.15609, table 1); layers are dropped in between, which
    # pretrained weights bear better.
    "instatune": EncoderSpec(
        head_size=64,
        depth=(6, 7, 8, 9, 10, 11, 12),
        width=(768,),
        heads=(6, 8, 10, 12),
        hidden=(1024, 2048, 3072),
        kept="spread",
    ),
    # The same in proportion, around MiniLM of six layers (arXiv 2002.10957).
    "minilm-l6": EncoderSpec(
        head_size=32, depth=(3, 4, 5, 6), width=(384,), heads=(6, 8, 10, 12), hidden=(512, 1024, 1536), kept="spread"
    ),
}
"""Presets of the family ``encoder``."""

VIT_ENCODER: Mapping[str, ViTEncoderSpec] = {
    # 28 x 28 grey images (50 tokens), as large as `vit`'s.
    "tiny": ViTEncoderSpec(
        head_size=16, depth=(3, 4, 5, 6), width=(48, 64, 80), heads=(2, 3, 4, 5), hidden=(64, 128, 192, 320), patch=4
    ),
    # 8 x 8 grey images (17 tokens).
    "digits": ViTEncoderSpec(
        head_size=8, depth=(1, 2, 3), width=(16, 24, 32), heads=(1, 2, 4), hidden=(16, 32, 64, 128), patch=2
    ),
    # InstaTune's space around ViT-B/16 (Sarah et al. 2023, arXiv 2308.15609, table 1), for colour images of 224 pixels.
    "instatune": ViTEncoderSpec(
        head_size=64,
        depth=(11, 12),
        width=(768,),
        heads=(6, 8, 10, 12),
        hidden=(2048, 2560, 3072),
        patch=16,
        kept="spread",
    ),
}
"""Presets of the family ``vit-encoder``."""

PRESETS: Mapping[str, Mapping[str, CNNSpec | ResNetSpec | ViTSpec | EncoderSpec | ViTEncoderSpec]] = {
    "mobile-cnn": MOBILE_CNN,
    "resnet": RESNET,
    "vit": VIT,
    "encoder": ENCODER,
    "vit-encoder": VIT_ENCODER,
}
"""Presets by the name of the family."""
