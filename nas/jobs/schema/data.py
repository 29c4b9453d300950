"""The data section of a job file (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from nas.jobs.schema.errors import conflict, missing_key, problem, show
from nas.jobs.schema.section import Section, Settings, is_stored, plugin_name, settings, whole_number
from nas.plugins import Kind

TEXT, TABLE, NUMBERS, DOCUMENTS = "text-classification", "image-table", "number-table", "text"
PAIRS = "text-pairs"
COCO, YOLO, VOC, SEGMENTATION = "coco", "yolo", "voc", "segmentation-folder"
OF_BOXES, OF_MASKS = (COCO, YOLO, VOC), (SEGMENTATION,)
"""Data sets of images with boxes of objects, and with a class for each pixel."""
DATA_BY_TASK = {"detection": OF_BOXES, "segmentation": OF_MASKS}
"""The shipped data sets of tasks that take no others."""
DATA_SETS = ("digits", "fashion-mnist", "image-folder", TABLE, TEXT, NUMBERS, DOCUMENTS, PAIRS, *OF_BOXES, *OF_MASKS)
"""The shipped data sets."""
PATHS = {
    "image-folder": "image-folder's folder, with one folder of images a class",
    TABLE: "a .csv, .tsv or .jsonl table of images and their labels",
    NUMBERS: "a .csv, .tsv or .jsonl table of numbers with a label in each row",
    TEXT: "a .csv, .tsv or .jsonl table, or a folder or .zip of one text file a class",
    DOCUMENTS: "a .csv, .tsv or .jsonl table, or a folder or .zip of text files",
    PAIRS: "a .csv, .tsv or .jsonl table, or a folder or .zip of tables",
    COCO: "a .json file of annotations, or a folder with one for each part",
    YOLO: "a folder with data.yaml, images and labels",
    VOC: "a folder with Annotations and JPEGImages",
    SEGMENTATION: "a folder with images and masks",
}
"""What the path of the shipped data sets that need one leads to."""
OF_FILES = (
    "path",
    "images",
    "skip_unreadable",
    "separator",
    "choices",
    "documents",
    "text_column",
    "image_column",
    "label_column",
    "source_column",
    "target_column",
    "encoding",
    "crop",
    "interpolation",
    "labels",
    "examples",
)
"""Keys on the files of shipped data sets; data sets of plug-ins have settings."""
OF_IMAGES = ("image_size", "channels", "mean", "std", "skip_unreadable", "crop", "interpolation")
OF_TEXT = ("tokenizer", "max_tokens", "timed_tokens", "vocabulary", "text_column", "encoding")
_DEFAULTS = {"max_tokens": 128, "encoding": "utf-8"}
"""Defaults of sentences alone, which are written into stored jobs, so that later defaults do not change them."""
_OF_NAMES = {
    "skip_unreadable": ("image-folder", TABLE, *OF_BOXES, *OF_MASKS),
    "images": (COCO,),
    "image_column": (TABLE,),
    "crop": ("image-folder", TABLE),
    "interpolation": ("image-folder", TABLE),
    "label_column": (TABLE, TEXT, NUMBERS),
    "text_column": (TEXT, DOCUMENTS),
    "source_column": (PAIRS,),
    "target_column": (PAIRS,),
    "documents": (DOCUMENTS,),
    "separator": (DOCUMENTS, PAIRS),
    "choices": (DOCUMENTS,),
    "labels": ("image-folder", TEXT),
    "examples": ("image-folder", TEXT),
}
"""Keys of some data sets, by their names."""
_VOCABULARIES = {TEXT: 8000, DOCUMENTS: 4000, PAIRS: 4000}
"""The defaults for a tokenizer that is trained on sentences or documents; a given tokenizer has its own vocabulary."""

SIZES = {"digits": 1797, "fashion-mnist": 60_000}
"""Images that the validation part is taken from."""

_Numbers = Annotated[
    tuple[Annotated[float, Field(strict=True, allow_inf_nan=False)], ...] | None,
    Field(description="a list of one number a channel, for pixels from 0 to 1"),
]
_Column = Annotated[
    str | None, Field(strict=True, min_length=1, max_length=200, description="the name of a column of the table")
]


def _check_part(value: object) -> object:
    """The value, if it is a number of examples (a whole number, at least 2) or a share (between 0 and 1)."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 2 <= value <= 10**9):
        return value
    if isinstance(value, float) and 0 < value < 1:
        return value
    raise problem("", f"expected a number of examples (at least 2) or a share between 0 and 1, got {show(value)}")


def _check_path(value: object) -> object:
    """The value, unless it is an empty text, which would be the current folder."""
    if isinstance(value, str) and not value.strip():
        raise problem("", f"expected a path, got {show(value)}; write . for the folder of the job file")
    return value


def _check_channels(value: object) -> object:
    """The value, if it is no truth value, which equals a number."""
    if isinstance(value, bool):
        raise problem("", f"expected 1 (grey) or 3 (colour), got {show(value)}")
    return value


_Part = Annotated[int | float | None, BeforeValidator(_check_part)]


class DataConfig(Section):
    """The data set of images, sentences or rows of numbers, and how much is for validation and test (None: its default)."""

    name: plugin_name(Kind.DATA, DATA_SETS)  # type: ignore[valid-type]  # made from the names
    """The data set."""
    settings: Settings = settings()
    """Settings of a data set that a plug-in provides."""
    path: Annotated[Path | None, BeforeValidator(_check_path), Field(description="the path of a folder or file")] = None
    """The folder or file of the data set."""
    images: Annotated[Path | None, BeforeValidator(_check_path), Field(description="the path of a folder")] = None
    """The folder of the images that annotations of coco name; None takes the folder of the annotations, the folder images in it
    or beside it, or a folder with the part's name beside it."""
    image_size: int | None = whole_number(4, 1024, default=None, of="pixels")
    """Images are resized to this height and width; None keeps the data set's, or takes 320 for images with boxes or masks."""
    channels: Annotated[
        Literal[1, 3] | None, BeforeValidator(_check_channels), Field(description="1 (grey) or 3 (colour)")
    ] = None
    """Images are converted to grey or to colour; None keeps the data set's."""
    mean: _Numbers = None
    """Images are normalised by it; see `std`."""
    std: _Numbers = None
    """Images are normalised by it and `mean`; None takes those of `supernet.pretrained`, or of the network that `supernet.from`
    was made of, or the training part's."""
    crop: Annotated[float | None, Field(strict=True, gt=0, le=1, description="a share above 0 and at most 1")] = None
    """The share of the resized side that is cut out of the centre of image files; None takes that of `supernet.model`, or the
    whole square."""
    interpolation: Annotated[
        Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] | None,
        Field(description="nearest, box, bilinear, hamming, bicubic or lanczos"),
    ] = None
    """How image files are resized; None takes that of `supernet.model`, or bilinear."""
    tokenizer: Annotated[
        Path | None,
        BeforeValidator(_check_path),
        Field(description="the path of a tokenizer.json, of a pretrained model's folder with one, or of a GGUF file"),
    ] = None
    """None takes that of `supernet.pretrained`, or of the network that `supernet.from` was made of, or trains one on the
    training part."""
    max_tokens: int | None = whole_number(4, 8192, default=None, of="tokens")
    """Longer sentences are cut; documents to model are packed into blocks of this length; longer pairs are rejected."""
    timed_tokens: int | None = whole_number(1, 8192, default=None, of="tokens")
    """The length of every sentence that latency is measured on; None takes typical lengths of the validation part."""
    vocabulary: int | None = whole_number(100, 100_000, default=None, of="tokens")
    """The size of a tokenizer that is trained on the training part."""
    separator: Annotated[
        str | None, Field(strict=True, min_length=1, max_length=100, description="the text of a token")
    ] = None
    """The token before and after each document to model; None takes the one that ends a text by the files of the tokenizer."""
    choices: Annotated[
        Path | None,
        BeforeValidator(_check_path),
        Field(description="the path of a JSONL file of context, options and answer, or of a folder of two"),
    ] = None
    """Multiple-choice questions for the validation and the test part, on which `choice_accuracy` is scored."""
    documents: Annotated[
        Literal["files", "paragraphs"] | None, Field(description="files or paragraphs, between empty lines")
    ] = None
    """The documents to model; None takes the paragraphs of a single file, and else files."""
    text_column: _Column = None
    """The column of the sentences."""
    image_column: _Column = None
    """The column of the paths of images in a table; None takes the one with a usual name."""
    label_column: _Column = None
    """The column of the labels."""
    source_column: _Column = None
    """The column of the texts of pairs that are read; None takes the one with a usual name."""
    target_column: _Column = None
    """The column of the texts of pairs that are written; None takes the one with a usual name."""
    encoding: (
        Literal[
            "utf-8",
            "utf-16",
            "latin-1",
            "cp1250",
            "cp1251",
            "cp1252",
            "iso-8859-2",
            "iso-8859-15",
            "koi8-r",
            "shift_jis",
            "euc-jp",
            "euc-kr",
            "big5",
            "gb18030",
        ]
        | None
    ) = None
    """The encoding of the files of sentences."""
    labels: Annotated[Literal["none"] | None, Field(description="none, or no such key")] = None
    """none takes examples without labels: the images of a folder and of the folders in it, or the lines of text files."""
    examples: int | None = whole_number(3, 10**6, default=None, of="examples")
    """Maximum number of examples without labels, spread over the files."""
    skip_unreadable: Annotated[bool | None, Field(strict=True, description="true or false")] = None
    """Leaves out images that cannot be used, or whose boxes or masks are wrong, instead of an error that lists them."""
    validation: _Part = None
    """The part that the search sees: a number of examples, or a share of them."""
    test: _Part = None
    """The part that only the final front is scored on: a number of examples, or a share of them."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Sets the defaults of data of sentences."""
        if not isinstance(data, dict) or data.get("name") not in tuple(_VOCABULARIES):
            return data
        missing: dict[str, Any] = dict(_DEFAULTS)
        if data.get("tokenizer") is None:
            missing["vocabulary"] = _VOCABULARIES[data["name"]]
        return {**data, **{key: value for key, value in missing.items() if data.get(key) is None}}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.name in PATHS and self.path is None:
            raise missing_key("path", f"is missing; expected {PATHS[self.name]}")
        if self.name == "digits" and self.path is not None:
            raise conflict("path", f"digits has no files of its own; got {show(str(self.path))}, remove it")
        if self.of_plugin:
            self._check_plugin()
            return self
        if self.settings:
            raise conflict("settings", f"are those of a plug-in, and {self.name} is a shipped data set; remove them")
        kinds = {TEXT: "sentences", NUMBERS: "rows of numbers", DOCUMENTS: "text to model", PAIRS: "pairs of texts"}
        kind = kinds.get(self.name, "images")
        for data_kind, keys in (("images", OF_IMAGES), ("sentences", OF_TEXT)):
            for key in keys:
                if data_kind != kind and not (self.of_documents and keys is OF_TEXT) and getattr(self, key) is not None:
                    raise conflict(key, f"is for data of {data_kind}, and {self.name} is of {kind}; remove it")
        if self.of_text or self.of_documents:
            self._check_text()
        if self.of_documents and self.timed_tokens is not None:
            raise conflict(
                "timed_tokens",
                "is of sentences; of a language model write serving: {prompt_tokens: ..., "
                "context_tokens: ...} in the job, and remove it",
            )
        for key, names in _OF_NAMES.items():
            if getattr(self, key) is not None and self.name not in names:
                raise conflict(key, f"is for an {' or '.join(names)}, and got {self.name}; remove it")
        if self.examples is not None and self.labels is None:
            raise conflict("examples", "is for examples without labels; add labels: none, or remove it")
        if self.label_column is not None and self.labels is not None:
            raise conflict("label_column", "is for examples with labels, and labels is none; remove one of them")
        self._check_normalisation()
        self._check_shares(kind)
        return self

    def _check_plugin(self) -> None:
        """Checks the keys of a plug-in's data, whose kind (images or sentences) is known when they are loaded."""
        for key in OF_FILES:
            if getattr(self, key) is not None:
                raise conflict(
                    key, f"is for shipped data sets, and {self.name} is a plug-in; remove it, or give it in settings"
                )
        self._check_normalisation()
        self._check_tokens()
        self._check_shares("examples")

    def _check_shares(self, kind: str) -> None:
        shares = [part for part in (self.validation, self.test) if isinstance(part, float)]
        if sum(shares) >= 1:
            raise conflict(
                "validation", f"validation and test together take {sum(shares):g} of the {kind}; leave some to train on"
            )

    def _check_normalisation(self) -> None:
        if (self.mean is None) != (self.std is None):
            present, missing = ("std", "mean") if self.mean is None else ("mean", "std")
            raise missing_key(missing, f"is missing; expected it beside {present}")
        if self.mean is None or self.std is None:
            return
        n = self.channels or len(self.mean)
        for key, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) != n or n not in (1, 3):
                raise problem(key, f"expected one number (grey) or three (colour), got {show(list(numbers))}")
        if not is_stored() and not all(0 <= number <= 1 for number in self.mean):
            text = "expected numbers from 0 to 1, as pixels are scaled (divide those for bytes by 255)"
            raise problem("mean", f"{text}, got {show(list(self.mean))}")
        if min(self.std) <= 0:
            raise problem("std", f"expected numbers above 0, got {show(list(self.std))}")

    def _check_text(self) -> None:
        self._check_tokens()
        if self.text_column is not None and self.text_column == self.label_column:
            raise conflict("label_column", f"is the text's column, too ({show(self.text_column)}); expected another")

    def _check_tokens(self) -> None:
        if self.tokenizer is not None and self.vocabulary is not None:
            raise conflict("vocabulary", "the tokenizer has its own vocabulary; remove one of the two")
        if self.timed_tokens is not None and self.timed_tokens > (self.max_tokens or self.timed_tokens):
            expected = f"expected at most the {self.max_tokens} of max_tokens, at which sentences are cut"
            raise problem("timed_tokens", f"{expected}, got {self.timed_tokens}")

    @property
    def asks_for_vocabulary(self) -> bool:
        """True if the section sets the vocabulary of a trained tokenizer; False for the default, which is filled in."""
        return self.vocabulary not in (None, _VOCABULARIES.get(self.name))

    @property
    def of_plugin(self) -> bool:
        """True if the data set is a plug-in's."""
        return self.name not in DATA_SETS

    @property
    def of_text(self) -> bool:
        """True if the data are sentences; False for data of plug-ins, whose kind is not known here."""
        return bool(self.name == TEXT)

    @property
    def of_documents(self) -> bool:
        """True if the data are documents, or pairs of texts, for language models."""
        return self.name in (DOCUMENTS, PAIRS)

    @property
    def of_boxes_or_masks(self) -> bool:
        """True if the data are images with boxes of objects or with masks, which are letterboxed."""
        return self.name in (*OF_BOXES, *OF_MASKS)

    @property
    def of_images(self) -> bool:
        """True if the data are images; also for data of plug-ins, whose kind is not known here."""
        return self.name not in (TEXT, NUMBERS, DOCUMENTS, PAIRS)

    @property
    def paths(self) -> Mapping[str, Path]:
        """The paths that it names, by key."""
        keys = ("path", "images", "tokenizer", "choices")
        path_by_key: dict[str, Path | None] = {key: getattr(self, key) for key in keys}
        return {key: path for key, path in path_by_key.items() if path is not None}
