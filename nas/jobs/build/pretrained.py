"""The pretrained network that a job's supernet starts from: its weights, and the copy of its other files that a run keeps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from nas.engine.process_memory import LARGE_BYTES, release_free_memory
from nas.engine.store.folder import RunFolder, write_atomically
from nas.errors import JobError, StoreError
from nas.jobs.resolve.resolved_job import ResolvedJob
from supernets.data import CutVocabulary, KeptTokens
from supernets.errors import CheckpointError
from supernets.families.decoder.decoder_pretrained import DecoderConfig
from supernets.families.shared.pretrained_experts import (
    Partition,
    dense_family,
    experts_of_dense,
    has_attention_experts,
    with_attention_copies,
    with_bases,
)
from supernets.families.shared.pretrained_transformer import PretrainedConfig, PretrainedTransformer, mismatch
from supernets.families.shared.transformer_family import TransformerFamily
from supernets.networks.formats.pretrained import find_pretrained
from supernets.sharing.base import Family
from supernets.training.checkpoint import has_checkpoint, weights_digest

_WEIGHTS, _DIGEST = "weights.json", "digest"
"""File with the digest of the weights, written last: where it exists, the other files are complete."""
_MIN_VOCABULARY_SHARE = 0.95
"""Share of a language model's vocabulary that its tokenizer has: the rest fills tables up to a multiple of some hundreds."""


@dataclass(frozen=True)
class Pretrained:
    """The pretrained network that a job's supernet starts from.

    Attributes:
        digest: Digest of its weights.
        weights: the folder or file that has them; None for a run that has a checkpoint, which replaces them.
    """

    config: PretrainedConfig
    digest: str
    weights: Path | None

    def network(self) -> PretrainedTransformer | None:
        """The network with its weights, which are read anew and not kept: they take as much memory as the supernet.

        Raises:
            CheckpointError: they cannot be read, or are others than when the job began.
        """
        if self.weights is None:
            return None
        network = self.config.read(self.weights)
        if weights_digest(network.tensors) != self.digest:
            message = f"{self.weights}: its weights have changed since the job began; start the job again"
            raise CheckpointError(message, code="pretrained.unusable")
        return network

    def original(self, name: str) -> tuple[PretrainedTransformer, str]:
        """The network with its weights, and their digest: from where the job names it, where a checkpoint has replaced them.

        Args:
            name: Name of the network in the job.

        Raises:
            CheckpointError: it is not there any more.
        """
        if (network := self.network()) is not None:
            return network, self.digest
        network = self.config.read(find_pretrained(name))
        return network, weights_digest(network.tensors)

    def with_vocabulary(self, vocabulary: CutVocabulary) -> Pretrained:
        """The same network with the rows of some tokens.

        Raises:
            CheckpointError: the tokens are of another network's tokenizer, or the weights cannot be read.
        """
        if not isinstance(self.config, DecoderConfig):
            raise mismatch(
                f"pretrained: {self.config.folder}: vocabularies are cut of decoders; remove space.vocabulary"
            )
        check_vocabulary(self.config, vocabulary.n_whole)
        config = self.config.keeping(vocabulary.kept.tokens)
        digest = self.digest if self.weights is None else _digest_of_weights(config, self.weights)
        return Pretrained(config, digest, self.weights)

    def keep(self, run: RunFolder) -> None:
        """Copies the network's config and preprocessing into a run's folder, in place of an earlier copy.

        Raises:
            StoreError: a file cannot be read or written.
        """
        shutil.rmtree(run.pretrained, ignore_errors=True)
        try:
            run.pretrained.mkdir()
            content_by_name = self.config.files()
        except OSError as error:
            raise StoreError(
                f"{error.filename}: {error.strerror}; expected to copy {self.config.folder} without its weights to "
                f"{run.pretrained}; repair that, and start the job again"
            ) from None
        for name, content in content_by_name.items():
            write_atomically(run.pretrained / name, content)
        write_atomically(run.pretrained / _WEIGHTS, json.dumps({_DIGEST: self.digest}).encode())


def check_vocabulary(config: DecoderConfig, n_tokens: int) -> None:
    """Raises `CheckpointError` unless a pretrained network has rows for as many tokens, and few more."""
    if not _MIN_VOCABULARY_SHARE * config.vocabulary <= n_tokens <= config.vocabulary:
        fault = f"has a vocabulary of {config.vocabulary} tokens, and the tokenizer one of {n_tokens}"
        raise mismatch(f"pretrained: {config.folder} {fault}; give the tokenizer that the network was trained with")


def load_pretrained(job: ResolvedJob) -> Pretrained | None:
    """The pretrained network that the job's supernet starts from; None where it names none.

    Raises:
        JobError: it cannot be read, or is of another kind.
    """
    supernet, run = job.config.supernet, job.run
    if (name := supernet.pretrained) is None:
        return None
    try:
        folder = find_preprocessing(name, run)
        config: PretrainedConfig = supernet.description.pretrained_config(folder)
        if run is not None and folder == run.pretrained:
            if has_checkpoint(run.checkpoint):
                return Pretrained(config, _stored_digest(run), None)
            folder = find_pretrained(name)
        return Pretrained(config, _digest_of_weights(config, folder), folder)
    except CheckpointError as error:
        remedy = "" if run is None else f"; put it back for run {run.id}, or start a new run"
        raise JobError(f"{job.source}: supernet.pretrained: {error}{remedy}", code="job.pretrained-unusable") from None


def _digest_of_weights(config: PretrainedConfig, weights: Path) -> str:
    """The digest of a network's weights, which are read for it and not kept."""
    tensors = config.read(weights).tensors
    digest, n_bytes = weights_digest(tensors), sum(tensor.nbytes for tensor in tensors.values())
    del tensors
    if n_bytes > LARGE_BYTES:
        release_free_memory()
    return digest


def find_preprocessing(pretrained: str, run: RunFolder | None) -> Path:
    """The folder with a pretrained network's preprocessing: the run's copy; else the network's own folder or GGUF file, as for
    a job that is no run yet and for runs of versions that kept no copy.

    Raises:
        CheckpointError: the network's own folder is not found.
    """
    if run is not None and (run.pretrained / _WEIGHTS).is_file():
        return run.pretrained
    return find_pretrained(pretrained)


def stored_vocabulary(run: RunFolder) -> KeptTokens:
    """The tokens that a run keeps of its tokenizer; raises `CheckpointError` where its file is damaged."""
    try:
        return KeptTokens.from_json(json.loads(run.vocabulary_file.read_bytes()))
    except (OSError, ValueError, CheckpointError) as error:
        raise CheckpointError(
            f"{run.vocabulary_file}: cannot be read ({error}); expected the tokens that the run's networks have; restore it "
            "from a copy, or start a new run"
        ) from None


def _stored_digest(run: RunFolder) -> str:
    path = run.pretrained / _WEIGHTS
    try:
        return str(json.loads(path.read_bytes())[_DIGEST])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error!r}); expected the digest of the weights that the run began with; remove "
            f"{run.pretrained} to read the pretrained network from its own folder again"
        ) from None


@dataclass(frozen=True)
class ExpertStart:
    """How experts are made of a dense network's MLPs.

    Attributes:
        batches: Batches of inputs, on which partitions that depend on activations are measured.
    """

    partition: Partition
    batches: Sequence[Tensor]
    seed: int


def pretrained_weights(
    pretrained: PretrainedTransformer, family: Family, experts: ExpertStart | None = None
) -> dict[str, Tensor]:
    """The tensors of the family's largest network; those that the pretrained one lacks are drawn from torch's generator.

    Args:
        experts: needed where the family has experts and the pretrained network has none.
    """
    plain = _transformers(pretrained, family)
    if experts is not None and pretrained.config.gets_experts(plain.spec):
        dense = dense_family(plain, pretrained.config.as_space()["hidden"])
        rng, dense_weights = np.random.default_rng(experts.seed), pretrained.weights(dense)
        tensors = experts_of_dense(plain, dense, dense_weights, experts.partition, experts.batches, rng)
    else:
        tensors = pretrained.weights(plain)
    return with_bases(plain, with_attention_copies(plain, tensors))


def without_experts(pretrained: PretrainedTransformer, family: Family) -> TransformerFamily | None:
    """The family of networks without the experts that are made of a pretrained network's parts; None where none are."""
    plain, config = _transformers(pretrained, family), pretrained.config
    gets_experts = config.gets_experts(plain.spec)
    if not gets_experts and not has_attention_experts(plain):
        return None
    return dense_family(plain, config.as_space()["hidden"] if gets_experts else None)


def _transformers(pretrained: PretrainedTransformer, family: Family) -> TransformerFamily:
    plain, _ = family.plain(family.space.largest)
    if not isinstance(plain, TransformerFamily):
        raise mismatch(f"{pretrained.config.folder}: networks of the family {plain.name} have no layers for it")
    return plain
