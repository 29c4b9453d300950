"""Builds the family of networks that a job asks for, and finds the sharing of its supernet, both checked against the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from nas.errors import JobError, PluginError
from nas.jobs.build.job_data import JobData
from nas.jobs.build.pretrained import Pretrained, check_vocabulary
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema.errors import reported
from nas.jobs.schema.supernet import SupernetConfig
from nas.plugins import calling, load
from supernets.data import BlockFormat, DataSet, PairFormat, RowFormat, TextFormat
from supernets.data.vocabulary import cut_description
from supernets.errors import CheckpointError, SpaceError, SupernetError
from supernets.families.decoder.activations import block_influence
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.decoder_network import Decoder
from supernets.families.decoder.decoder_pretrained import DecoderConfig
from supernets.families.decoder.decoder_spec import DecoderSpec
from supernets.families.encoder.bert_pretrained import BertConfig
from supernets.families.nested_networks import NestedFamily
from supernets.families.registry import FAMILIES
from supernets.families.shared.pretrained_experts import has_attention_experts
from supernets.families.shared.pretrained_transformer import PretrainedConfig, PretrainedTransformer, mismatch
from supernets.families.shared.spec import Spec
from supernets.families.shared.transformer_family import TransformerFamily
from supernets.families.single_network import SingleFamily
from supernets.networks.family_program import outline
from supernets.networks.formats.pretrained import TOKENIZER
from supernets.sharing.base import Family
from supernets.sharing.chain import ChainSharing
from supernets.sharing.spec import PLAIN, SharingSpec
from supernets.space import Architecture
from supernets.training.checkpoint import Checkpoint, has_checkpoint, stored_family

_HIGHEST_RATE = 100
"""Highest peak learning rate, as in job files."""


def with_rate_of_family(job: ResolvedJob) -> ResolvedJob:
    """The job with the peak learning rate of its plug-in's family, where it gives none itself.

    Raises:
        PluginError: the plug-in cannot be loaded, or its rate is no number above 0.
    """
    config = job.config
    if not config.rate_of_family or not config.supernet.trains:
        return job
    rate = config.supernet.description.learning_rate
    if rate is None:
        return job
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= _HIGHEST_RATE:
        ref = job.plugin("supernet.family")
        fault = f"its description's learning_rate is {rate!r}; expected a number above 0, at most {_HIGHEST_RATE}"
        raise PluginError(f"{ref}: {fault}", code="plugin.contract")
    training = config.training.model_copy(update={"learning_rate": float(rate)})
    return replace(job, config=config.model_copy(update={"training": training}))


def find_family(
    job: ResolvedJob,
    data: JobData,
    *,
    n_outputs: int | None,
    checkpoint: Checkpoint | None,
    pretrained: Pretrained | None,
) -> Family:
    """The job's family.

    Args:
        n_outputs: Number of outputs of its networks.
        checkpoint: Checkpoint of the trained supernet that the job names, which is searched or has a network fine-tuned.
        pretrained: The pretrained network that the supernet is made of; None without one.

    Raises:
        JobError: there is no such network for these data.
        CheckpointError: the trained supernet is of another family or space than the job says.
    """
    supernet, source, dataset = job.config.supernet, job.source, data.dataset
    sizes = None if pretrained is None else pretrained.config
    if supernet.family not in FAMILIES:
        with reported(f"{source}: supernet"):
            supernet.check_space()
    try:
        spec = _ordered(
            supernet.spec(None if sizes is None else sizes.space()),
            job,
            checkpoint,
            pretrained,
            data.calibration.inputs,
        )
        if isinstance(spec, DecoderSpec) and spec.vocabulary is not None:
            spec = replace(spec, vocabulary=None)  # the data and the pretrained network have its tokens by now
    except SpaceError as error:
        raise JobError(f"{source}: supernet.space.{error}", code="job.invalid-value") from None

    def build(spec: Spec) -> Family:
        wanted_data, data_kind = supernet.description.data, f"{dataset.format.noun}s"
        if wanted_data != data_kind:
            message = (
                f"{supernet.family} takes {wanted_data}, and data.name: {dataset.name} is a data set of {data_kind}"
            )
            remedy = f"take another family, or data of {wanted_data}"
            raise JobError(f"{source}: supernet.family: {message}; {remedy}", code="job.unfit-data")
        try:
            family = _build_family(job, spec, _sizes(dataset, n_outputs, sizes))
            if sizes is not None and isinstance(family, TransformerFamily):
                sizes.check_family(family)
                if supernet.partition is not None and not sizes.gets_experts(family.spec):
                    raise SpaceError(
                        "partition: no experts are made of MLPs here; give experts in the space, or remove it"
                    )
        except (SpaceError, CheckpointError) as error:  # the spec is valid, but not for these data
            raise JobError(f"{source}: supernet: {error}", code="job.unfit-data") from None
        return NestedFamily(family) if supernet.nested else family

    if checkpoint is not None:
        try:
            return _family_of_checkpoint(job, spec, checkpoint, build)
        except SpaceError as error:
            where = f"{source}: supernet.network: {supernet.network}"
            raise JobError(f"{where}: {error}", code="job.invalid-value") from None
    if spec is None:
        raise JobError(
            f"{source}: supernet: expected a preset, a space, from or pretrained; got none of them",
            code="job.missing-key",
        )
    return build(spec)


def _ordered(
    spec: Spec | None, job: ResolvedJob, checkpoint: Checkpoint | None, pretrained: Pretrained | None, text: Tensor
) -> Spec | None:
    """A spec whose layers are kept by importance with their order: that of the job's trained supernet, else measured on its
    pretrained network; others as they are.

    Args:
        text: token ids of the training part, (n, tokens).
    """
    if not isinstance(spec, DecoderSpec) or not spec.unordered:
        return spec
    if checkpoint is not None:
        return replace(spec, order=_stored_order(checkpoint.supernet.family))
    if job.run is not None and has_checkpoint(job.run.checkpoint):
        return replace(spec, order=_stored_order(stored_family(job.run.checkpoint)))
    if pretrained is None or (network := pretrained.network()) is None:
        fault = "importance is that of a pretrained network's layers, and the job names none"
        raise JobError(f"{job.source}: supernet.space.kept: {fault}; write first or spread", code="job.conflict")
    if spec.depth[-1] != pretrained.config.depth:
        return replace(spec, kept="first")  # which its family rejects, naming both depths
    return replace(spec, order=_measured_order(network, text))


def _stored_order(family: Family) -> tuple[int, ...] | None:
    plain, _ = family.plain(family.space.largest)
    return plain.spec.order if isinstance(plain, DecoderFamily) else None


def _measured_order(pretrained: PretrainedTransformer, text: Tensor) -> tuple[int, ...]:
    """The layers by ascending influence."""
    config = cast(DecoderConfig, pretrained.config)
    family = DecoderFamily(config.space(), tokens=1, **config.fixed)
    network = cast(Decoder, family.standalone(outline(family), family.space.largest, pretrained.weights(family)).eval())
    influence = block_influence(network, [text])
    return tuple(sorted(range(len(influence)), key=influence.__getitem__))


def _build_family(job: ResolvedJob, spec: Spec, sizes: Mapping[str, Any]) -> Family:
    """The family of a spec; one of a plug-in is found to be what networks are made of and checkpoints can name."""
    ref, description = job.plugin("supernet.family"), job.config.supernet.description
    if ref is None:
        family: Family = description.load()(spec, **sizes)
        return family
    family_class = load(ref, Family)
    with calling(ref, "its constructor"):
        try:
            family = family_class(spec, **sizes)
        except SupernetError as error:  # as those of the families here
            raise SpaceError(f"{ref}: {error}") from None
    if family.name != ref.target or description.network != ref.target:
        names = f"its name is {family.name!r} and its description's network {description.network!r}"
        raise PluginError(
            f"{ref}: {names}; expected {ref.target!r}, by which checkpoints load it", code="plugin.contract"
        )
    return family


def _family_of_checkpoint(
    job: ResolvedJob, spec: Spec | None, checkpoint: Checkpoint, build: Callable[[Spec], Family]
) -> Family:
    supernet, family = job.config.supernet, checkpoint.supernet.family
    if supernet.network is not None:
        return SingleFamily(family, Architecture.parse(supernet.network))
    plain, ref = _plain(family), job.plugin("supernet.family")
    default = SupernetConfig.model_fields["family"].default  # stored jobs have it written out
    if spec is not None and build(spec).to_json() != family.to_json():
        fault = (
            "from: the checkpoint is of another space; leave preset and space out, or train a supernet of this space"
        )
    elif supernet.family not in (default, plain.name) and getattr(ref, "target", "") != plain.name:
        fault = f"family: the checkpoint's family is {plain.name}, not {supernet.family}; remove family"
    elif supernet.nested and not isinstance(family, NestedFamily):
        fault = "nested: the checkpoint's networks are not nested; remove nested, or train with nested: true"
    else:
        return family
    raise CheckpointError(f"supernet.{fault}", code="checkpoint.other-supernet")


def _plain(family: Family) -> Family:
    return family.inner if isinstance(family, NestedFamily) else family


def _sizes(data: DataSet, n_outputs: int | None, pretrained: PretrainedConfig | None) -> dict[str, Any]:
    """The arguments of a family beside its spec: the sizes of the data, and those that a pretrained network fixes."""
    sizes: dict[str, Any] = {"n_classes": n_outputs}
    if isinstance(text := data.format, TextFormat):
        sizes |= {"vocabulary": text.vocabulary, "positions": text.max_tokens}
        sizes |= {"padding": text.padding, "tokens": text.typical_tokens}
        if isinstance(pretrained, BertConfig):
            _check_tokenizer(text, pretrained)
    elif isinstance(pairs := data.format, PairFormat):
        sizes = {"vocabulary": pairs.vocabulary, "separator": pairs.separator}
        sizes |= {"source": pairs.source, "target": pairs.block}
    elif isinstance(blocks := data.format, BlockFormat):
        sizes = {"vocabulary": blocks.vocabulary, "positions": blocks.block, "tokens": blocks.block}
        if isinstance(pretrained, DecoderConfig):
            _check_blocks(blocks, pretrained)
    elif isinstance(data.format, RowFormat):
        sizes |= {"features": len(data.format.columns)}
    else:
        sizes |= {"image_size": data.images.image_size, "channels": data.images.channels}
    return sizes if pretrained is None else sizes | pretrained.fixed


def _check_tokenizer(text: TextFormat, config: BertConfig) -> None:
    """Raises `CheckpointError` unless the sentences' token ids are those that the pretrained network was trained with."""
    folder, tokenizer = config.folder, config.folder / TOKENIZER
    remedy = "give the tokenizer that the network was trained with"
    if tokenizer.is_file() and tokenizer.read_text(encoding="utf-8") != text.tokenizer:
        fault = "has a tokenizer of its own, and the data were read with another; leave data.tokenizer out"
    elif text.vocabulary > config.vocabulary:
        fault = f"has a vocabulary of {config.vocabulary} tokens, and the tokenizer one of {text.vocabulary}; {remedy}"
    elif text.padding != config.padding:
        fault = f"pads with token {config.padding}, and the tokenizer with {text.padding}; {remedy}"
    elif text.max_tokens > (positions := config.positions):
        fault = f"has {positions} positions, and the sentences up to {text.max_tokens} tokens; "
        fault += f"set data.max_tokens to {positions} or less"
    else:
        return
    raise mismatch(f"pretrained: {folder} {fault}")


def _check_blocks(blocks: BlockFormat, config: DecoderConfig) -> None:
    """Raises `CheckpointError` unless the pretrained network takes such tokens and as many."""
    tokenizer = config.own_tokenizer()
    if tokenizer is not None and config.tokens is not None:
        tokenizer = cut_description(tokenizer, config.tokens, where=str(config.folder))
    if tokenizer not in (None, blocks.tokenizer):
        fault = "has a tokenizer of its own, and the data were read with another; leave data.tokenizer out"
        raise mismatch(f"pretrained: {config.folder} {fault}")
    if config.tokens is None:
        check_vocabulary(config, blocks.vocabulary)
    if blocks.block > (positions := config.positions):
        fault = f"has {positions} positions, and the blocks {blocks.block} tokens"
        raise mismatch(f"pretrained: {config.folder} {fault}; set data.max_tokens to {positions} or less")


def find_sharing(job: ResolvedJob, family: Family, checkpoint: Checkpoint | None) -> SharingSpec:
    """How the supernet shares its weights, checked for this family.

    Args:
        checkpoint: Checkpoint of the trained supernet that is searched; None where the job trains one.

    Raises:
        JobError: the family has no tensors that such a sharing applies to.
        CheckpointError: the trained supernet shares its weights in another way.
        PluginError: the code of a plug-in's family raises, or its networks cannot be made smaller as it says.
    """
    supernet, source = job.config.supernet, job.source
    sharing = supernet.sharing
    if checkpoint is not None:
        trained = checkpoint.supernet.sharing.spec
        if sharing is not None and sharing.spec() != replace(trained, adapter_rank=None, statistics=None):
            fault = "the checkpoint's sharing is not the job's; leave sharing out, or train a supernet with it"
            raise CheckpointError(f"supernet.from: {fault}", code="checkpoint.other-supernet")
        return trained
    plain = _plain(family)
    mixture = isinstance(plain, TransformerFamily) and (plain.has_experts or has_attention_experts(plain))
    if supernet.sort == "activations" and mixture:
        message = "activations are measured of networks without experts; take weights or taylor"
        raise JobError(f"{source}: supernet.sort: {message}", code="job.conflict")
    try:
        spec = replace(PLAIN if sharing is None else sharing.spec(), adapter_rank=job.config.training.adapter_rank)
        if spec.correction is not None and supernet.model is not None and job.config.training.epochs == 0:
            spec = replace(spec, statistics="kept")
        if spec.correction is not None and mixture:
            raise SpaceError(f"correction: {spec.correction} fits networks without experts; remove it")
        if spec.correction is not None and not plain.programs().of().exact:
            fault = f"the forward of {plain.name} computes differently for other sizes"
            raise SpaceError(f"correction: {spec.correction} fits networks of one program, and {fault}; remove it")
        with torch.device("meta"):  # allocates nothing, and draws no random numbers
            ChainSharing(family, spec)
    except Exception as error:
        ref = job.plugin("supernet.family")
        if isinstance(error, SpaceError):
            if ref is not None and error.code == "family.inconsistent":
                raise PluginError(f"{ref}: {error}", code=error.code) from None
            raise JobError(f"{source}: supernet.sharing.{error}", code="job.invalid-value") from None
        if ref is None:
            raise
        raise PluginError(f"{ref}: making its networks raised {type(error).__name__}: {error}") from error
    return spec
