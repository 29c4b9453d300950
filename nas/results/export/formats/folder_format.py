"""The protocol of formats that are folders: what they are given, and what they return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from nas.errors import ExportFailedError
from nas.results.export.served_models import MAX_TOKENS, Continuation, continued
from supernets.data import BlockFormat, DataSet, PairFormat
from supernets.errors import ExportError
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.sharing.base import Family
from supernets.space import Architecture
from supernets.tasks import Task


@dataclass(frozen=True, eq=False)
class ExportedNetwork:
    """A network of a run that is to be written.

    Attributes:
        run: The id of its run.
        name: A name for it, of the run and the network.
        family, architecture: Its family without wrappers, and its architecture there.
        module: The network, extracted, in evaluation mode.
        data: Data of the run.
        task: Task of the run.
        precision: The precision that it was selected in.
        calibration: Batches of inputs, (n, ...) each.
        license: Identifier of the license of what it was made of; None if unknown.
    """

    run: str
    name: str
    family: Family
    architecture: Architecture
    module: nn.Module = field(repr=False)
    data: DataSet = field(repr=False)
    task: Task
    precision: str
    calibration: Sequence[Tensor] = field(repr=False)
    license: str | None = None

    def language_model(self, format: str) -> tuple[DecoderFamily, BlockFormat]:
        """The family and the preprocessing of a language model.

        Raises:
            ExportError: It is another network; `format` is the name of what would be written, for the message.
        """
        preprocessing = self.data.format
        is_pair = isinstance(preprocessing, PairFormat)
        if isinstance(self.family, DecoderFamily) and isinstance(preprocessing, BlockFormat) and not is_pair:
            return self.family, preprocessing
        raise ExportError(
            f"{format} has language models of the family {DecoderFamily.name}, and this network is of {self.family.name}; "
            "export ONNX"
        )

    @cached_property
    def continuation(self) -> Continuation:
        """The first half of a validation text, as torch continues it without a cache."""
        family, _ = self.language_model("a check of texts")
        texts = self.data.validation.inputs[:1].numpy()
        return continued(self.module, texts, positions=min(family.positions, texts.shape[1] // 2 + MAX_TOKENS))


@dataclass(frozen=True, slots=True)
class WrittenFolder:
    """What a format wrote.

    Attributes:
        loader: What loads the folder, as Python or a command, with ``{path}`` for its path.
        usage: Lines of Python that use it, for the model card, likewise.
        checks: Results of checks by name, JSON-able.
        precision: Precision of its weights.
        remarks: Sentences for the model card on what differs from the usual folder of the format.
        library: Value of ``library_name`` in the model card.
    """

    loader: str
    usage: str
    checks: Mapping[str, Any]
    precision: str
    remarks: Sequence[str] = ()
    library: str = "transformers"


def usage_of_texts(package: str, loader: str, positions: int) -> str:
    """Lines of Python that continue a text by a class with the interface of the transformers library, with ``{path}``.

    Args:
        package: Where the class is imported from.
        loader: What loads the network, which begins with the class.
        positions: The most tokens that the network reads.
    """
    name, n = loader.partition(".")[0], min(MAX_TOKENS, positions // 2)
    return (
        f"import torch\nfrom {package} import {name}\nfrom transformers import AutoTokenizer\n"
        f"network = {loader}\ntokenizer = AutoTokenizer.from_pretrained({{path!r}})\n"
        'ids = [tokenizer.bos_token_id, *tokenizer.encode("Once upon a time", add_special_tokens=False)]\n'
        "ids, options = torch.tensor([ids]), {{'do_sample': False, 'pad_token_id': tokenizer.eos_token_id}}\n"
        f"continued = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens={n}, **options)\n"
        "print(tokenizer.decode(continued[0]))"
    )


class FolderFormat(Protocol):
    """A format of exports that is a folder."""

    name: str
    """The name on the command line."""
    keeps_precision: bool
    """True if networks are written in the precision that they were measured in; False for precisions of the format's own."""

    part: str | None
    """The optional part that writes it, of those that `nas.plugins.parts.require` knows; None for none."""

    def write(self, folder: Path, network: ExportedNetwork) -> WrittenFolder:
        """Writes a network into an empty folder, and checks what it wrote.

        Raises:
            ExportError: The format has no such network.
            ExportFailedError: What was written computes something else.
            OSError: A file cannot be written.
        """


def check_tokens(tokens: Sequence[int], expected: Continuation, *, largest_gap: float, loader: str) -> int:
    """The number of tokens that a library generates as expected.

    Where two tokens are equally likely, to the rounding of floating-point numbers, either may come, and the texts part.

    Args:
        tokens: The tokens that follow the prompt, perhaps up to the end of the text.
        expected: The same as torch or ONNX Runtime finds them.
        largest_gap: The largest difference of logits that is rounding, in their deviations.
        loader: Name of the library, for the error.

    Raises:
        ExportFailedError: A token is another one.
    """
    for step, (token, logits) in enumerate(zip(tokens, expected.logits, strict=False)):
        gap = (logits.max() - logits[0, token]) / logits.std()
        if not gap <= largest_gap:
            message = f"{loader} generates another token than the network after {step}"
            raise ExportFailedError(message, code="export.outputs-differ")
        if gap > 0:
            return step
    return min(len(tokens), len(expected.logits))
