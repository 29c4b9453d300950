"""Tokenizes sentences and documents by a pretrained model's tokenizer or by one trained on them (Hugging Face's library)."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernets.data.labelled_examples import too_large
from supernets.data.options import DocumentOptions
from supernets.errors import CheckpointError, DataError
from supernets.files import check_regular
from supernets.networks.formats.gguf_file import open_gguf
from supernets.networks.formats.gguf_tokenizer import gguf_tokenizer
from supernets.networks.formats.model_folder import Settings
from supernets.networks.formats.pretrained import CONFIG, GGUF, TOKENIZER, TOKENIZER_CONFIG

if TYPE_CHECKING:  # an optional library, which is loaded where it is used
    from tokenizers import Tokenizer

unusable = partial(DataError, code="data.tokenizer-unusable")
MAX_FILE_MIB = 64
"""Three times the size of the largest known vocabularies."""
MAX_GIB = 2
"""Maximum memory that the token ids of a part may take; all are held in memory."""
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""Special tokens of trained tokenizers, in the order of their ids, as in BERT."""
_USUAL_PADDING = ("[PAD]", "<pad>", "<PAD>", "<|pad|>")
_MAX_CHARACTERS = 1000
"""Size of the alphabet of a trained tokenizer: the most frequent characters; words with others become ``[UNK]``."""
SEPARATOR = "<|endoftext|>"
"""The separator of trained tokenizers of documents."""
_USUAL_SEPARATORS = (SEPARATOR, "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>", "[SEP]")
"""Separators of tokenizers of which no file names the token that ends a text."""
_MIN_FREQUENCY = 2
"""Minimum frequency of a piece: the network would memorise pieces that occur once."""


def configure(tokenizer: Tokenizer, max_tokens: int) -> Tokenizer:
    """The tokenizer, changed: it cuts sentences at the end, pads none, and splits special tokens like other words."""
    tokenizer.enable_truncation(max_length=max_tokens)
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


class SentenceTokenizer:
    """Turns sentences into token ids with special tokens added, cut to `max_tokens` and padded at the end.

    A special token that is written in a sentence is tokenized like other words.

    Args:
        tokenizer: The tokenizer of Hugging Face's library; it is changed.
        max_tokens: Maximum number of tokens of a sentence, special tokens included.
        where: Name of the tokenizer in errors.
        text: Text of the file that it was read from; None for a trained one.

    Raises:
        DataError: it has no padding token, or `max_tokens` leaves no room for a sentence's own tokens.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int, where: str, text: str | None = None) -> None:
        self._where, self._text = where, text
        self.padding = _padding(tokenizer, where)
        added = tokenizer.num_special_tokens_to_add(is_pair=False)
        if max_tokens <= added:
            need = f"expected at least {added + 1}"
            raise unusable(f"max_tokens={max_tokens}: {where} adds {added} special tokens; {need}")
        self._tokenizer = configure(tokenizer, max_tokens)

    @classmethod
    def load(cls, path: Path, *, max_tokens: int) -> SentenceTokenizer:
        """The tokenizer of a ``tokenizer.json``, or of the folder that holds one.

        Raises:
            DataError: the file is missing, damaged or too large, or the tokenizer cannot be used.
        """
        tokenizer, file, text = read_tokenizer(path)
        return cls(tokenizer, max_tokens=max_tokens, where=str(file), text=text)

    @classmethod
    def train(cls, sentences: Iterable[str], *, vocabulary: int, max_tokens: int) -> SentenceTokenizer:
        """A WordPiece tokenizer with BERT's normaliser, pre-tokenizer and special tokens, for these sentences.

        The same sentences give the same tokenizer in every process. Sentences of few words give fewer tokens than
        `vocabulary`.

        Args:
            vocabulary: Maximum number of tokens, at least 100.
        """
        from tokenizers import models, processors

        tokenizer = _untrained()
        words = _words(sentences, tokenizer)
        tokenizer.model = models.WordPiece(_vocabulary(words, vocabulary), unk_token="[UNK]")
        tokenizer.add_special_tokens(list(_SPECIAL))
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(token, _SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
        )
        return cls(tokenizer, max_tokens=max_tokens, where="the trained tokenizer")

    @property
    def vocabulary(self) -> int:
        """The rows of a table of embeddings, see `_rows`."""
        return _rows(self._tokenizer)

    @property
    def padding_token(self) -> str:
        """The text of the padding token."""
        return str(self._tokenizer.id_to_token(self.padding))

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The tokens that are added to a sentence, in their order."""
        return tuple(self._tokenizer.encode("").tokens)

    @property
    def json(self) -> str:
        """Its whole description as a ``tokenizer.json``: the file that was read, or one that cuts and pads like this object."""
        if self._text is not None:
            return self._text
        from tokenizers import Tokenizer

        described = Tokenizer.from_str(self._tokenizer.to_str())
        described.enable_padding(pad_id=self.padding, pad_token=self.padding_token)
        return str(described.to_str())

    def encode(self, sentences: Sequence[str], names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The ids of sentences (n, longest), padded at the end, and a mask of those that were cut (n,); `names` are for errors.

        Raises:
            DataError: a sentence has no tokens, or holds the padding token; or all take too much memory.
        """
        flat = array("q")
        lengths = np.empty(len(sentences), dtype=np.int64)
        is_cut = np.zeros(len(sentences), dtype=np.bool_)
        for i, sentence in enumerate(sentences):
            encoding = _encoded(self._tokenizer, sentence, names[i], self._where)
            flat.extend(encoding.ids)
            lengths[i], is_cut[i] = len(encoding.ids), bool(encoding.overflowing)
        gib = len(sentences) * int(lengths.max(initial=1)) * 8 / 2**30
        if gib > MAX_GIB:
            size = f"{len(sentences)} sentences of up to {lengths.max()} tokens take {gib:.1f} GiB of memory"
            raise too_large(f"{size}; expected at most {MAX_GIB} GiB; lower max_tokens or use fewer sentences")
        ids = np.full((len(sentences), lengths.max(initial=1)), self.padding, dtype=np.int64)
        is_token = np.arange(ids.shape[1]) < lengths[:, None]
        ids[is_token] = flat
        self._check(ids, is_token, names)
        return torch.from_numpy(ids), torch.from_numpy(is_cut)

    def _check(self, ids: NDArray[np.int64], is_token: NDArray[np.bool_], names: Sequence[str]) -> None:
        """Checks that every sentence has tokens, and that none of them is the padding token."""
        empty = np.flatnonzero(~is_token.any(axis=1))
        if len(empty):
            hint = "remove it, or take a tokenizer that marks the ends of sentences"
            raise unusable(f"{names[empty[0]]}: {self._where} makes no token of it; {hint}")
        padded = np.flatnonzero(((ids == self.padding) & is_token).any(axis=1))
        if len(padded):
            fault = f"{self._where} makes its padding token {self.padding_token!r} of a part of it"
            raise unusable(f"{names[padded[0]]}: {fault}; expected a token for padding alone; give the tokenizer one")


class DocumentTokenizer:
    """Turns documents into token ids; special tokens that are written in a document are tokenized like other words.

    Args:
        tokenizer: The tokenizer of Hugging Face's library; it is changed.
        where: Name of the tokenizer in errors.
        text: Its whole description, as a ``tokenizer.json`` has it.
        separator: the token that separates documents; None takes the one with a usual name.

    Raises:
        DataError: it has no such token.
    """

    def __init__(self, tokenizer: Tokenizer, *, where: str, text: str, separator: str | None) -> None:
        self.where, self.json = where, text
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        usual = _USUAL_SEPARATORS if separator is None else (separator,)
        number_by_token = {token: number for token in usual if (number := tokenizer.token_to_id(token)) is not None}
        if not number_by_token:
            raise unusable(
                f"{where}: has no token {' or '.join(usual)} to separate documents by; name one of its tokens in separator"
            )
        self.separator_token, self.separator = next(iter(number_by_token.items()))

    @classmethod
    def load(cls, path: Path, *, separator: str | None = None) -> DocumentTokenizer:
        """The tokenizer of a ``tokenizer.json``, of the folder that holds one, or of a GGUF file.

        Args:
            separator: None takes the token that ends a text by the files of the folder, or by the GGUF file; see `end_of_text`.

        Raises:
            DataError: it cannot be used.
        """
        tokenizer, file, text = read_tokenizer(path)
        return cls(tokenizer, where=str(file), text=text, separator=separator or end_of_text(file, tokenizer))

    @classmethod
    def train(cls, documents: Sequence[str], *, vocabulary: int, separator: str = SEPARATOR) -> DocumentTokenizer:
        """A tokenizer of pairs of bytes (BPE, as GPT-2's, arXiv 1508.07909) for these documents, which it can all restore.

        Args:
            vocabulary: Maximum number of tokens, at least 257: all bytes and the separator.
        """
        tokenizer = train_byte_pairs(documents, vocabulary=vocabulary, special=separator)
        return cls(tokenizer, where="the trained tokenizer", text=str(tokenizer.to_str()), separator=separator)

    @property
    def vocabulary(self) -> int:
        """The rows of a table of embeddings, see `_rows`."""
        return _rows(self._tokenizer)

    @property
    def n_tokens(self) -> int:
        """The number of tokens, with added ones."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def described_by(self, text: str) -> DocumentTokenizer:
        """The tokenizer that the text of a ``tokenizer.json`` describes, with the name and the separator of this one."""
        from tokenizers import Tokenizer

        return DocumentTokenizer(Tokenizer.from_str(text), where=self.where, text=text, separator=self.separator_token)

    def spans(self, document: str, name: str) -> Counter[tuple[int, int, int]]:
        """The counts of a document's tokens by first character, character after the last one, and id."""
        encoding = _encoded(self._tokenizer, document, name, self.where, add_special_tokens=False)
        return Counter((*span, id) for span, id in zip(encoding.offsets, encoding.ids, strict=True))

    def encode(self, document: str, name: str) -> tuple[list[int], list[int]]:
        """The ids of a document's tokens, and the bytes of text of each, whose sum may lack what no token has."""
        encoding = _encoded(self._tokenizer, document, name, self.where, add_special_tokens=False)
        ends = np.fromiter((end for _, end in encoding.offsets), dtype=np.int64, count=len(encoding.offsets))
        widths = np.array([len(character.encode()) for character in document], dtype=np.int64)
        up_to = np.concatenate([[0], np.cumsum(widths)])[np.maximum.accumulate(ends)] if len(ends) else ends
        return list(encoding.ids), np.diff(up_to, prepend=0).tolist()


def tokenizer_for(texts: Sequence[str], options: DocumentOptions) -> DocumentTokenizer:
    """The tokenizer of the options, or one that is trained on these texts; raises `DataError` if it cannot be used."""
    if options.tokenizer is not None:
        return DocumentTokenizer.load(options.tokenizer, separator=options.separator)
    separator = options.separator or SEPARATOR
    return DocumentTokenizer.train(texts, vocabulary=options.vocabulary, separator=separator)


def _rows(tokenizer: Tokenizer) -> int:
    """One more than the largest id of a token, with added ones."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())


def _encoded(tokenizer: Tokenizer, text: str, name: str, where: str, *, add_special_tokens: bool = True) -> Any:
    """The encoding of a text.

    One by one: the library's threads do not survive a fork, and would use cores that were not granted.

    Args:
        name, where: Names of the text and of the tokenizer, for errors.
    """
    try:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens)
    except Exception as error:  # the library raises no narrower one
        raise unusable(f"{name}: {where} cannot tokenize it ({error}); take another") from None


def read_tokenizer(path: Path) -> tuple[Tokenizer, Path, str]:
    """The tokenizer of a ``tokenizer.json``, of the folder that holds one, or of a GGUF file, with the file and its text.

    Raises:
        DataError: the file is missing, damaged or too large.
    """
    if path.suffix == GGUF:
        try:
            return _parsed(path, gguf_tokenizer(path))
        except CheckpointError as error:
            raise unusable(str(error)) from None
    file = path / TOKENIZER if path.is_dir() else path
    try:
        check_regular(file)
        if file.stat().st_size > MAX_FILE_MIB * 2**20:
            raise unusable(f"{file}: is larger than {MAX_FILE_MIB} MiB; expected a {TOKENIZER}; replace it")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        expected = f"the {TOKENIZER} of a pretrained model (the tokenizer's save_pretrained writes one)"
        raise unusable(f"{file}: cannot be read ({reason}); expected {expected}; correct the path") from None
    return _parsed(file, text)


def _parsed(file: Path, text: str) -> tuple[Tokenizer, Path, str]:
    """The result of `read_tokenizer` for a file and the text of its tokenizer."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises no narrower one
        raise unusable(f"{file}: is no tokenizer ({error}); expected a {TOKENIZER}; replace it") from None
    return tokenizer, file, text


def end_of_text(file: Path, tokenizer: Tokenizer) -> str | None:
    """The token that ends a text by the files beside a ``tokenizer.json`` (the ``eos_token`` of the tokenizer's, else the
    ``eos_token_id`` of the network's), or by the GGUF file that the tokenizer was read from; None where none says it.

    Raises:
        DataError: a file cannot be read, or names no special token.
    """
    if file.name != TOKENIZER and file.suffix != GGUF:
        return None
    try:
        if file.suffix == GGUF:
            stored = open_gguf(file).settings.get("eos_token_id")
        else:
            stored = _setting(file.with_name(TOKENIZER_CONFIG), "eos_token")
            stored = _setting(file.with_name(CONFIG), "eos_token_id") if stored is None else stored
            if isinstance(stored, dict):  # with how it is found in texts
                stored = stored.get("content")
            if isinstance(stored, list) and stored:  # several that end an answer
                stored = stored[0]
    except CheckpointError as error:
        raise unusable(str(error)) from None
    if stored is None:
        return None
    special = {number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()}
    token = special.get(stored) if isinstance(stored, int) else stored
    if token not in special.values():
        raise unusable(
            f"{file}: texts end with the token {stored!r}, which is no special token of it; name one of its tokens in separator"
        )
    return str(token)


def _setting(path: Path, key: str) -> Any:
    """A value of a JSON file; None where there is none."""
    try:
        return Settings.read(path).data.get(key)
    except FileNotFoundError:
        return None


def byte_characters() -> list[str]:
    """The characters that stand for the 256 bytes in tokenizers of bytes, sorted."""
    from tokenizers import pre_tokenizers

    return sorted(pre_tokenizers.ByteLevel.alphabet())


def train_byte_pairs(texts: Sequence[str], *, vocabulary: int, special: str) -> Tokenizer:
    """A tokenizer of pairs of bytes that can restore every text, with one special token; the same in every process."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        show_progress=False,
        special_tokens=[special],
        min_frequency=_MIN_FREQUENCY,
        initial_alphabet=byte_characters(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _padding(tokenizer: Tokenizer, where: str) -> int:
    """The id of the padding token: the tokenizer's own, or the one with a usual name."""
    settings = tokenizer.padding
    tokens = [str(settings["pad_token"])] if settings else list(_USUAL_PADDING)
    padding = next((i for i in map(tokenizer.token_to_id, tokens) if i is not None), None)
    if padding is None:
        hint = "add it to the tokenizer, and a row to the model's embeddings"
        raise unusable(f"{where}: has no token to pad with ({', '.join(tokens)}); expected one; {hint}")
    return int(padding)


def _untrained() -> Tokenizer:
    """A tokenizer with BERT's division into words, without a vocabulary."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _words(sentences: Iterable[str], tokenizer: Tokenizer) -> Counter[str]:
    """The count of each word, in the form that the model gets."""
    counts: Counter[str] = Counter()
    for sentence in sentences:
        normalised = tokenizer.normalizer.normalize_str(sentence)
        counts.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalised))
    return counts


def _vocabulary(words: Counter[str], size: int) -> dict[str, int]:
    """The pieces of words, by the library's trainer: special tokens, characters, then merged pairs by frequency.

    The alphabet and the characters inside words are fixed here, since the trainer would number them, and drop rare ones, in an
    order that differs between processes.
    """
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            counts[character] += count
    max_characters = min(_MAX_CHARACTERS, (size - len(_SPECIAL)) // 4)  # in both forms, at most half of the vocabulary
    alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:max_characters])
    inside = sorted({character for word in words for character in word[1:]} & set(alphabet))
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=_MIN_FREQUENCY,
        show_progress=False,
        special_tokens=[*_SPECIAL, *(f"##{character}" for character in inside)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
    )
    learner = Tokenizer(models.WordPiece({}, unk_token="[UNK]"))
    learner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    learner.train_from_iterator((" ".join([word] * count) for word, count in sorted(words.items())), trainer)
    return dict(learner.get_vocab(with_added_tokens=False))
