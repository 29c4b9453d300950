"""All families by name: each entry is the one place where the rest of the project learns of a family (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal

from supernets.families.convolutional.mobile_cnn_spec import MOBILE_CNN, CNNSpec
from supernets.families.convolutional.resnet_spec import RESNET, ResNetSpec
from supernets.families.decoder.decoder_spec import DECODER, DecoderSpec
from supernets.families.dense.detector_spec import DETECTOR, DetectorSpec
from supernets.families.dense.segmenter_spec import SEGMENTER, SegmenterSpec
from supernets.families.encoder.encoder_spec import ENCODER, EncoderSpec
from supernets.families.encoder_decoder.encoder_decoder_spec import ENCODER_DECODER, EncoderDecoderSpec
from supernets.families.mlp_spec import MLP, MLPSpec
from supernets.families.shared.spec import Spec
from supernets.families.vision_transformer.vision_transformer_spec import VIT, VIT_ENCODER, ViTEncoderSpec, ViTSpec


@dataclass(frozen=True)
class FamilyDescription:
    """The parts of a family that job files, checkpoints and the code that builds networks read.

    The class of a family that is not listed here has its description as the class attribute ``description``; its name is its
    ``network``, by which checkpoints load it.

    Attributes:
        spec: The type of its spaces, whose fields are the keys of `supernet.space` in a job file.
        presets: Named spaces.
        network: ``module:class`` of the `Family`, loaded when networks are built, since it needs torch. The class is made of
            a spec and sizes: for images ``image_size, channels, n_classes``, for rows of numbers ``features, n_classes``, for
            sentences ``vocabulary, positions, padding, tokens, n_classes``, for texts ``vocabulary, positions, tokens``, for
            pairs ``vocabulary, separator, source, target``; its class method ``from_json`` reads what ``to_json`` wrote.
        data: Kind of the inputs of its networks.
        pretrained: ``module:function`` that reads the `PretrainedConfig` of a folder, if supernets can be made of pretrained
            networks.
        learning_rate: The peak that a job without one gets in place of the general default.
        distills: Whether networks of a job that does not say so learn from the largest one in place of the labels.
    """

    spec: type[Spec]
    presets: Mapping[str, Spec]
    network: str
    data: Literal["images", "sentences", "rows", "texts", "pairs"] = "images"
    pretrained: str | None = None
    learning_rate: float | None = None
    distills: bool = True

    def load(self) -> Any:
        """The class of the family."""
        return resolve_name(self.network)

    def pretrained_config(self, folder: Path) -> Any:
        """The configuration of the pretrained network in a folder, for a family that is made of such networks.

        Raises:
            CheckpointError: there is none, it cannot be read, or it is of another kind.
        """
        if self.pretrained is None:
            raise ValueError("this family is not made of pretrained networks")
        return resolve_name(self.pretrained)(folder)


FAMILIES: Mapping[str, FamilyDescription] = {
    "mobile-cnn": FamilyDescription(
        CNNSpec, MOBILE_CNN, "supernets.families.convolutional.mobile_cnn_family:MobileCNNFamily"
    ),
    "resnet": FamilyDescription(ResNetSpec, RESNET, "supernets.families.convolutional.resnet_family:ResNetFamily"),
    "detector": FamilyDescription(
        DetectorSpec,
        DETECTOR,
        "supernets.families.dense.detector_family:DetectorFamily",
        learning_rate=0.004,
        distills=False,  # a largest network that sees nothing yet holds the others back, and itself through shared weights
    ),
    "segmenter": FamilyDescription(
        SegmenterSpec, SEGMENTER, "supernets.families.dense.segmenter_family:SegmenterFamily", learning_rate=0.004
    ),
    "vit": FamilyDescription(ViTSpec, VIT, "supernets.families.vision_transformer.vision_transformer_family:ViTFamily"),
    "encoder": FamilyDescription(
        EncoderSpec,
        ENCODER,
        "supernets.families.encoder.encoder_family:EncoderFamily",
        data="sentences",
        pretrained="supernets.families.encoder.bert_pretrained:read_bert_config",
        learning_rate=0.0005,  # deep encoders do not learn at the general default
    ),
    "vit-encoder": FamilyDescription(
        ViTEncoderSpec,
        VIT_ENCODER,
        "supernets.families.vision_transformer.vision_transformer_family:ViTEncoderFamily",
        pretrained="supernets.families.vision_transformer.vit_pretrained:read_vit_config",
    ),
    "decoder": FamilyDescription(
        DecoderSpec,
        DECODER,
        "supernets.families.decoder.decoder_family:DecoderFamily",
        data="texts",
        pretrained="supernets.families.decoder.decoder_pretrained:read_decoder_config",
        learning_rate=0.001,
    ),
    "encoder-decoder": FamilyDescription(
        EncoderDecoderSpec,
        ENCODER_DECODER,
        "supernets.families.encoder_decoder.encoder_decoder_family:EncoderDecoderFamily",
        data="pairs",
        learning_rate=0.001,
    ),
    "mlp": FamilyDescription(MLPSpec, MLP, "supernets.families.mlp_family:MLPFamily", data="rows"),
}
"""The descriptions of families by the name that job files and checkpoints have."""
