"""The pretrained network that a job's supernet starts from, and the copy of its files that a run keeps (not its weights)."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from nas.engine.store.folder import RunFolder, write_atomically
from nas.errors import JobError, StoreError
from nas.jobs.schema.supernet import SupernetConfig
from supernets.errors import CheckpointError
from supernets.families.shared.pretrained_transformer import PretrainedConfig, PretrainedTransformer
from supernets.networks.formats.pretrained import find_pretrained
from supernets.training.checkpoint import has_checkpoint, weights_digest

_WEIGHTS, _DIGEST = "weights.json", "digest"
"""File with the digest of the weights, written last: where it exists, the other files are complete."""


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


def load_pretrained(supernet: SupernetConfig, run: RunFolder | None, *, source: str) -> Pretrained | None:
    """The pretrained network that the job's supernet starts from; None where it names none.

    Args:
        run: the run that the job belongs to, where it has begun.

    Raises:
        JobError: it cannot be read, or is of another kind.
    """
    if (name := supernet.pretrained) is None:
        return None
    try:
        folder = find_preprocessing(name, run)
        config: PretrainedConfig = supernet.description.pretrained_config(folder)
        if run is not None and folder == run.pretrained:
            if has_checkpoint(run.checkpoint):
                return Pretrained(config, _stored_digest(run), None)
            folder = find_pretrained(name)
        return Pretrained(config, weights_digest(config.read(folder).tensors), folder)
    except CheckpointError as error:
        remedy = "" if run is None else f"; put it back for run {run.id}, or start a new run"
        raise JobError(f"{source}: supernet.pretrained: {error}{remedy}", code="job.pretrained-unusable") from None


def find_preprocessing(pretrained: str, run: RunFolder | None) -> Path:
    """The folder with a pretrained network's preprocessing: the run's copy; else the network's own folder or GGUF file, as for
    a job that is no run yet and for runs of versions that kept no copy.

    Raises:
        CheckpointError: the network's own folder is not found.
    """
    if run is not None and (run.pretrained / _WEIGHTS).is_file():
        return run.pretrained
    return find_pretrained(pretrained)


def _stored_digest(run: RunFolder) -> str:
    path = run.pretrained / _WEIGHTS
    try:
        return str(json.loads(path.read_bytes())[_DIGEST])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error!r}); expected the digest of the weights that the run began with; remove "
            f"{run.pretrained} to read the pretrained network from its own folder again"
        ) from None
