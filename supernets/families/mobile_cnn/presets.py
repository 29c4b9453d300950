"""Named spaces of the family mobile-cnn (no torch)."""

from __future__ import annotations

from collections.abc import Mapping

from supernets.families.convolutional_spec import Activation
from supernets.families.mobile_cnn.spec import CNNSpec, StageSpec


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
