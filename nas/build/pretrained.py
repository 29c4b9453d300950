"""The pretrained network that a job's supernet is made of, and what a run keeps of it: all that it needs but the weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from nas.config.supernet import SupernetConfig
from nas.errors import JobError, StoreError
from nas.store.folder import RunFolder, write_atomically
from supernets.checkpoint import has_checkpoint, weights_digest
from supernets.errors import CheckpointError
from supernets.families.pretrained_bert import BertConfig, read_bert, read_bert_config
from supernets.families.pretrained_transformer import PretrainedTransformer
from supernets.families.pretrained_vit import ViTConfig, read_vit, read_vit_config
from supernets.families.vit_encoder import ViTEncoderFamily
from supernets.pretrained import CONFIG, PREPROCESSOR, TOKENIZER, find_pretrained

PretrainedConfig = BertConfig | ViTConfig
"""What a supernet can be made of, but for the weights."""
_WEIGHTS, _DIGEST = "weights.json", "digest"
"""Written last, with the digest of the weights that the other files came with: where it is, they are whole."""


@dataclass(frozen=True)
class Pretrained:
    """The pretrained network that a job's supernet is made of.

    Attributes:
        digest: of its weights.
        network: with its weights; None for a run that has a checkpoint, which stands for them.
    """

    config: PretrainedConfig
    digest: str
    network: PretrainedTransformer | None

    def keep(self, run: RunFolder) -> None:
        """Keeps in a run's folder what the run needs of it from now on, in place of what was there.

        Raises:
            StoreError: a file cannot be read, or not be written.
        """
        names = (CONFIG, PREPROCESSOR if isinstance(self.config, ViTConfig) else TOKENIZER)
        shutil.rmtree(run.pretrained, ignore_errors=True)
        try:
            run.pretrained.mkdir()
            found = {name: path.read_bytes() for name in names if (path := self.config.folder / name).is_file()}
        except OSError as error:
            raise StoreError(
                f"{error.filename}: {error.strerror}; expected to keep {self.config.folder} without its weights in "
                f"{run.pretrained}; mend that, and start the job again"
            ) from None
        for name, content in found.items():
            write_atomically(run.pretrained / name, content)
        write_atomically(run.pretrained / _WEIGHTS, json.dumps({_DIGEST: self.digest}).encode())


def load_pretrained(supernet: SupernetConfig, run: RunFolder | None, *, source: str) -> Pretrained | None:
    """The pretrained network that the job's supernet is made of; None where it names none.

    Args:
        run: whose job it is, where that has begun.

    Raises:
        JobError: it cannot be read, or is of another kind.
    """
    if supernet.pretrained is None:
        return None
    try:
        return _loaded(supernet.pretrained, run, vit=supernet.family == ViTEncoderFamily.name)
    except CheckpointError as error:
        remedy = "" if run is None else f"; put it back for run {run.id}, or start a new run"
        raise JobError(f"{source}: supernet.pretrained: {error}{remedy}") from None


def inputs_folder(pretrained: str, run: RunFolder | None) -> Path:
    """The folder that tells what examples a pretrained network takes: what the run keeps of it; else the network's own, as for
    a job that is no run yet, and for runs of versions that kept nothing.

    Raises:
        CheckpointError: the network's own is not to be found.
    """
    kept = run is not None and (run.pretrained / _WEIGHTS).is_file()
    return run.pretrained if run is not None and kept else find_pretrained(pretrained)


def _loaded(name: str, run: RunFolder | None, *, vit: bool) -> Pretrained:
    folder = inputs_folder(name, run)
    config = read_vit_config(folder) if vit else read_bert_config(folder)
    if run is not None and folder == run.pretrained:
        if has_checkpoint(run.checkpoint):
            return Pretrained(config, _kept_digest(run), None)
        folder = find_pretrained(name)
    network = read_vit(folder, config) if isinstance(config, ViTConfig) else read_bert(folder, config)
    return Pretrained(config, weights_digest(network.tensors), network)


def _kept_digest(run: RunFolder) -> str:
    path = run.pretrained / _WEIGHTS
    try:
        return str(json.loads(path.read_bytes())[_DIGEST])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error!r}); expected the digest of the weights that the run began with; remove "
            f"{run.pretrained}, and the pretrained network is read from where it was"
        ) from None
