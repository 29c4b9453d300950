"""Makes a job's family of networks, and finds how it shares its weights: both must be for the job's data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, assert_never

import torch
from torch import Tensor

from nas.build.pretrained import PretrainedConfig
from nas.config.space import Spec
from nas.config.supernet import SupernetConfig
from nas.errors import JobError
from supernets.base import Family
from supernets.checkpoint import Checkpoint
from supernets.data import DataSet, TextFormat
from supernets.errors import CheckpointError, SpaceError
from supernets.families.encoder import EncoderFamily
from supernets.families.encoder_spec import EncoderSpec, ViTEncoderSpec
from supernets.families.mobile_cnn import MobileCNNFamily
from supernets.families.nested import NestedFamily
from supernets.families.pretrained_bert import BertConfig
from supernets.families.pretrained_transformer import PretrainedTransformer
from supernets.families.pretrained_vit import ViTConfig
from supernets.families.resnet import ResNetFamily
from supernets.families.resnet_spec import ResNetSpec
from supernets.families.single import SingleFamily
from supernets.families.spec import CNNSpec
from supernets.families.vit import ViTFamily
from supernets.families.vit_encoder import ViTEncoderFamily
from supernets.families.vit_spec import ViTSpec
from supernets.pretrained import TOKENIZER
from supernets.sharing.chain import ChainSharing
from supernets.sharing.spec import PLAIN, SharingSpec
from supernets.space import Architecture


def find_family(
    supernet: SupernetConfig,
    data: DataSet,
    *,
    checkpoint: Checkpoint | None,
    pretrained: PretrainedConfig | None,
    source: str,
) -> Family:
    """The job's family.

    Args:
        checkpoint: of the trained supernet that it names: it is searched, or one of its networks is trained further.
        pretrained: of the network that its supernet is made of.

    Raises:
        JobError: there is no such network for these data.
        CheckpointError: the trained supernet is of another family or space than the job says.
    """
    try:
        spec = supernet.spec(None if pretrained is None else pretrained.space())
    except SpaceError as error:
        raise JobError(f"{source}: supernet.space.{error}") from None

    def made(spec: Spec) -> Family:
        if isinstance(spec, EncoderSpec) != isinstance(data.format, TextFormat):
            taken = "sentences" if isinstance(spec, EncoderSpec) else "images"
            raise JobError(
                f"{source}: supernet.family: the networks of {supernet.family} take {taken}, and data.name: {data.name} is a "
                f"data set of {data.format.noun}s; take another family, or data of {taken}"
            )
        try:
            family = _plain(spec, data, pretrained)
        except (SpaceError, CheckpointError) as error:  # the space is one, but not for these data
            raise JobError(f"{source}: supernet: {error}") from None
        return NestedFamily(family) if supernet.nested else family

    if checkpoint is not None:
        try:
            return _of_checkpoint(supernet, spec, checkpoint, made)
        except SpaceError as error:
            raise JobError(f"{source}: supernet.network: {supernet.network}: {error}") from None
    if spec is None:
        raise JobError(f"{source}: supernet: expected a preset, a space, from or pretrained")
    return made(spec)


def _of_checkpoint(
    supernet: SupernetConfig, spec: Spec | None, checkpoint: Checkpoint, made: Callable[[Spec], Family]
) -> Family:
    family = checkpoint.supernet.family
    if supernet.network is not None:
        return SingleFamily(family, Architecture.parse(supernet.network))
    if spec is not None and made(spec).to_json() != family.to_json():
        raise CheckpointError(
            "supernet.from: the checkpoint is of another space than the job's; leave preset and space out, or "
            "train a supernet of this space"
        )
    plain = family.inner if isinstance(family, NestedFamily) else family
    if supernet.family not in (MobileCNNFamily.name, plain.name):  # the default: perhaps nobody wrote it
        raise CheckpointError(
            f"supernet.family: the checkpoint's networks are of the family {plain.name}, not {supernet.family}; "
            "remove family"
        )
    if supernet.nested and not isinstance(family, NestedFamily):
        raise CheckpointError(
            "supernet.nested: the checkpoint's networks are not nested; remove nested, or train with nested: true"
        )
    return family


def _plain(spec: Spec, data: DataSet, pretrained: PretrainedConfig | None) -> Family:
    if isinstance(spec, EncoderSpec):
        return _encoder(spec, data, pretrained if isinstance(pretrained, BertConfig) else None)
    images = data.images
    sizes = {"image_size": images.image_size, "channels": images.channels, "n_classes": data.n_classes}
    match spec:
        case CNNSpec():
            return MobileCNNFamily(spec, **sizes)
        case ResNetSpec():
            return ResNetFamily(spec, **sizes)
        case ViTSpec():
            return ViTFamily(spec, **sizes)
        case ViTEncoderSpec() if isinstance(pretrained, ViTConfig):
            family = ViTEncoderFamily(spec, **sizes, epsilon=pretrained.epsilon)
            pretrained.check_family(family)
            return family
        case ViTEncoderSpec():
            return ViTEncoderFamily(spec, **sizes)
        case other:
            assert_never(other)


def _encoder(spec: EncoderSpec, data: DataSet, config: BertConfig | None) -> EncoderFamily:
    text = data.sentences
    sizes: Mapping[str, Any] = {"vocabulary": text.vocabulary, "positions": text.max_tokens}
    if config is not None:
        config.check_space(spec)
        folder = config.folder
        tokenizer = folder / TOKENIZER
        if tokenizer.is_file() and tokenizer.read_text(encoding="utf-8") != text.tokenizer:
            raise CheckpointError(
                f"pretrained: {folder} has a tokenizer of its own, and the data were read with another; leave "
                "data.tokenizer out"
            )
        if text.vocabulary > config.vocabulary:
            raise CheckpointError(
                f"pretrained: {folder} has a vocabulary of {config.vocabulary} tokens, and the tokenizer one of "
                f"{text.vocabulary}; give the tokenizer that the network was trained with"
            )
        if text.padding != config.padding:
            raise CheckpointError(
                f"pretrained: {folder} pads with token {config.padding}, and the tokenizer with {text.padding}; give the "
                "tokenizer that the network was trained with"
            )
        if text.max_tokens > config.positions:
            raise CheckpointError(
                f"pretrained: {folder} has {config.positions} positions, and the sentences up to {text.max_tokens} tokens; set "
                f"data.max_tokens to {config.positions} or less"
            )
        sizes = {"vocabulary": config.vocabulary, "positions": config.positions, "epsilon": config.epsilon}
    return EncoderFamily(spec, padding=text.padding, tokens=text.typical_tokens, n_classes=data.n_classes, **sizes)


def pretrained_weights(pretrained: PretrainedTransformer, family: Family) -> dict[str, Tensor]:
    """The tensors of the family's largest network; those that the pretrained one lacks are drawn from torch's generator."""
    plain = family.inner if isinstance(family, NestedFamily) else family
    assert isinstance(plain, EncoderFamily | ViTEncoderFamily), "no other is made of pretrained networks"
    return pretrained.weights(plain)


def find_sharing(
    supernet: SupernetConfig, family: Family, *, checkpoint: Checkpoint | None, source: str
) -> SharingSpec:
    """How the supernet shares its weights, found to be for this family.

    Raises:
        JobError: the family has nothing that it is for.
        CheckpointError: the trained supernet shares otherwise.
    """
    given = supernet.sharing
    if checkpoint is not None:
        trained = checkpoint.supernet.sharing.spec
        if given is not None and given.spec() != trained:
            raise CheckpointError(
                "supernet.from: the checkpoint shares its weights otherwise than the job's sharing says; leave sharing "
                "out, or train a supernet that shares so"
            )
        return trained
    spec = PLAIN if given is None else given.spec()
    try:
        with torch.device("meta"):  # nothing is allocated, and nothing drawn
            ChainSharing(family, spec)
    except SpaceError as error:
        raise JobError(f"{source}: supernet.sharing.{error}") from None
    return spec
