"""The script written beside an export: it preprocesses as in training, and prints what the task predicts.

Its preprocessing is the source of the functions that the training calls, so that the two cannot differ.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nas.results.analysis.cascade import confidence
from supernets.data.preprocessing import (
    BlockFormat,
    Format,
    ImageFormat,
    RowFormat,
    TextFormat,
    centre,
    decode,
    normalised,
    square,
    square_in_one_call,
    standardised,
)
from supernets.data.tokenizing import configure

_SCRIPT = '''"""{does} the {arguments} on its command line by {network}.

Needs {needs}. {exactness}
"""

from __future__ import annotations

import argparse
{standard}import json
import signal
import sys
{typing}from pathlib import Path

{imports}


{functions}

HERE = Path(__file__).parent
{network_lines}


{preprocess}

if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # where a reader like head has left, end without a traceback
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("given", nargs="+", metavar="{metavar}")
    failed = False
    for given in {givens}:
        try:
            {logits}
        except (OSError, ValueError) as error:
            print(f"{{given}}: {{error}}", file=sys.stderr)
            failed = True
            continue
{prints}
    sys.exit(failed)
'''
_PRINTS = {
    "classes": (
        "Classifies",
        """        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = shares.argsort()[::-1][:5]
        print(f"{given}: " + ", ".join(f"{CLASSES[i]} {shares[i]:.1%}" for i in best))""",
    ),
    "numbers": (
        "Predicts a number for each of",
        """        print(f"{given}: {float(logits[0]) * OUTPUTS['std'] + OUTPUTS['mean']:.6g}")""",
    ),
    "sets": (
        "Labels",
        """        shares = 1 / (1 + np.exp(-logits))
        held = [i for i in shares.argsort()[::-1] if shares[i] >= OUTPUTS["threshold"]]
        print(f"{given}: " + (", ".join(f"{CLASSES[i]} {shares[i]:.1%}" for i in held) or "no label"))""",
    ),
}
"""By the kind of the labels: what the script does, and the lines that print it."""
_PRINT_OUTPUTS = (
    "Prints the outputs for each of",
    """        print(f"{given}: {json.dumps(logits.tolist())}")""",
)
"""Of plug-in tasks, whose outputs have a meaning of their own."""
_ARGUMENTS: Mapping[type[Format], tuple[str, str]] = {
    ImageFormat: ("image files", "FILE"),
    TextFormat: ("sentences", "SENTENCE"),
    RowFormat: ("rows of numbers (1.5,2,0; after -- if the first is negative) and CSV files", "ROW_OR_FILE"),
}
"""What the script's arguments are, and their name in its help."""
_IMAGES = '''def preprocess(file: str) -> NDArray[np.float32]:
    """The network's input for an image file, as a batch of 1."""
    with Image.open(file) as image:
        pixels = {resize}(decode(image, len(HOW["mean"])), {how})
    return normalised(pixels, HOW["levels"], HOW["mean"], HOW["std"])[None]
'''
_RAW_IMAGES = '''def preprocess(file: str) -> NDArray[np.uint8]:
    """The network's input for an image file, as a batch of 1: its bytes. The network resizes and normalises them."""
    with Image.open(file) as image:
        pixels = np.asarray(decode(image, len(HOW["mean"])))
    return pixels.reshape(1, *pixels.shape[:2], -1)
'''
_SENTENCES = '''def preprocess(sentence: str) -> NDArray[np.int64]:
    """The network's input for a sentence, as a batch of 1, which needs no padding."""
    return np.array([TOKENIZER.encode(sentence.strip()).ids], dtype=np.int64)
'''


_ROWS = '''def preprocess(row: str) -> NDArray[np.float32]:
    """The network's input for a row of numbers with commas between them, as a batch of 1."""
    numbers = [float(number) for number in row.split(",")]
    if len(numbers) != len(HOW["columns"]):
        names = ", ".join(HOW["columns"])
        raise ValueError(f"is {len(numbers)} numbers; expected {len(HOW['columns'])}: {names}")
    return standardised([numbers], HOW["mean"], HOW["std"])


def rows(given: list[str]) -> Iterator[str]:
    """What is given, with the rows of a CSV file in place of its name; its other columns are left out."""
    for one in given:
        if not one.endswith(".csv"):
            yield one
            continue
        try:
            with open(one, newline="", encoding="utf-8-sig") as file:
                found = [",".join(row[name] for name in HOW["columns"]) for row in csv.DictReader(file)]
        except (OSError, KeyError, TypeError, ValueError) as error:
            sys.exit(f"{one}: cannot be read: {error!r}; expected the columns {', '.join(HOW['columns'])}")
        yield from found
'''


def onnx_script(format: Format, *, model: str, tokenizer: str, targets: str = "classes", in_graph: bool = False) -> str:
    """The script for an ONNX model.

    Args:
        format: Format of the inputs.
        model, tokenizer: Names of the files beside it.
        targets: The kind of the labels, see `supernets.tasks.Task`.
        in_graph: True if the model itself resizes and normalises.
    """
    network = [
        f'SESSION = onnxruntime.InferenceSession(str(HERE / {json.dumps(model)}), providers=["CPUExecutionProvider"])',
        "FACTS = SESSION.get_modelmeta().custom_metadata_map",
        'HOW, CLASSES = json.loads(FACTS["preprocessing"]), json.loads(FACTS["classes"])',
        *([] if targets == "classes" else ['OUTPUTS = json.loads(FACTS["outputs"])']),
    ]
    does, prints = _PRINTS.get(targets, _PRINT_OUTPUTS)
    return _SCRIPT.format(
        does=does,
        prints=prints,
        network="the ONNX model beside it",
        needs=f"onnxruntime{_libraries(format)}",
        logits="logits = SESSION.run(None, {SESSION.get_inputs()[0].name: preprocess(given)})[0][0]",
        **_parts(format, ["import onnxruntime"], network, tokenizer=tokenizer, in_graph=in_graph),
    )


_CASCADE = '''def answer(inputs: NDArray[{dtype}]) -> tuple[NDArray[np.float32], bool]:
    """The logits for an input, a batch of 1, and whether the large network gave them: where the small one is not sure."""
    logits = SMALL.run(None, {{SMALL.get_inputs()[0].name: inputs}})[0]
    passed_on = bool(confidence(logits)[0] < FACTS["threshold"])
    return (LARGE.run(None, {{LARGE.get_inputs()[0].name: inputs}})[0] if passed_on else logits)[0], passed_on
'''


def cascade_script(format: Format, *, manifest: str, tokenizer: str) -> str:
    """The script for a cascade of two ONNX models.

    Args:
        manifest, tokenizer: names of the files beside it; the manifest has the models, the threshold and the preprocessing.
    """
    session = 'onnxruntime.InferenceSession(str(HERE / FACTS[name]["model"]), providers=["CPUExecutionProvider"])'
    network = [
        f'FACTS = json.loads((HERE / {json.dumps(manifest)}).read_text(encoding="utf-8"))',
        f'SMALL, LARGE = ({session} for name in ("small", "large"))',
        'HOW, CLASSES = FACTS["preprocessing"], FACTS["classes"]',
    ]
    does, prints = _PRINTS["classes"]
    parts = _parts(format, ["import onnxruntime"], network, tokenizer=tokenizer)
    dtype = "np.int64" if isinstance(format, TextFormat) else "np.float32"
    rule = _CASCADE.format(dtype=dtype)
    parts["functions"] = "\n\n".join([parts["functions"], inspect.getsource(confidence), rule])
    return _SCRIPT.format(
        does=does,
        prints=f'{prints[:-1]} + (" (large network)" if passed_on else ""))',
        network="the cascade of two ONNX models beside it",
        needs=f"onnxruntime{_libraries(format)}",
        logits="logits, passed_on = answer(preprocess(given))",
        **parts,
    )


def transformers_script(format: Format, *, loader: str, facts: str, tokenizer: str) -> str:
    """The script for a folder of the transformers library.

    Args:
        loader: the class that loads the folder.
        facts, tokenizer: names of the files in the folder; `facts` has the preprocessing as JSON.
    """
    network = [
        f"NETWORK = {loader}.from_pretrained(HERE).eval()",
        f'HOW = json.loads((HERE / {json.dumps(facts)}).read_text(encoding="utf-8"))',
        "CLASSES = NETWORK.config.id2label",
    ]
    does, prints = _PRINTS["classes"]
    return _SCRIPT.format(
        does=does,
        prints=prints,
        network="the network of its folder",
        needs=f"torch, transformers{_libraries(format)}",
        logits="logits = NETWORK(torch.from_numpy(preprocess(given))).logits[0].detach().numpy()",
        **_parts(format, ["import torch", f"from transformers import {loader}"], network, tokenizer=tokenizer),
    )


def _libraries(format: Format) -> str:
    match format:
        case ImageFormat():
            return ", numpy and Pillow"
        case TextFormat() | BlockFormat():
            return ", numpy and tokenizers"
        case RowFormat():
            return " and numpy"


def _parts(
    format: Format,
    runtime: Sequence[str],
    network: Sequence[str],
    *,
    tokenizer: str,
    in_graph: bool = False,
) -> dict[str, str]:
    """The parts of a script that follow from the preprocessing."""
    shared: list[Callable[..., Any]]
    if isinstance(format, ImageFormat):
        resize: Callable[..., Any] = square_in_one_call if format.resizing == "pillow-in-one-call" else square
        how = 'HOW["size"][0]'
        if not format.of_square:
            resize, how = centre, f'{how}, HOW["crop_share"], HOW["filter"]'
        shared = [decode] if in_graph else [decode, resize, normalised]
        types = "NDArray" if in_graph else "ArrayLike, NDArray"
        libraries = [f"from numpy.typing import {types}", "from PIL import Image, ImageOps"]
        preprocess = _RAW_IMAGES if in_graph else _IMAGES.format(resize=resize.__name__, how=how)
    elif isinstance(format, RowFormat):
        shared, preprocess = [standardised], _ROWS
        libraries = ["from numpy.typing import ArrayLike, NDArray"]
    else:
        shared, preprocess = [configure], _SENTENCES
        libraries = ["from numpy.typing import NDArray", "from tokenizers import Tokenizer"]
        file = f"Tokenizer.from_file(str(HERE / {json.dumps(tokenizer)}))"
        network = [*network, f'TOKENIZER = configure({file}, HOW["max_tokens"])']
    exact = "The preprocessing is the one that the network was trained with."
    if isinstance(format, ImageFormat) and format.resizing == "torch":
        exact = "The network was trained on images that torch resized; Pillow's bytes may differ from those by 1."
    arguments, metavar = _ARGUMENTS[type(format)]
    return {
        "exactness": exact,
        "arguments": arguments,
        "metavar": metavar,
        "givens": "rows(parser.parse_args().given)" if isinstance(format, RowFormat) else "parser.parse_args().given",
        "standard": "import csv\n" if isinstance(format, RowFormat) else "",
        "typing": "from collections.abc import Iterator\n" if isinstance(format, RowFormat) else "",
        "imports": "\n".join(["import numpy as np", *runtime, *libraries]),
        "functions": "\n\n".join(map(inspect.getsource, shared)),
        "network_lines": "\n".join(network),
        "preprocess": preprocess,
    }
