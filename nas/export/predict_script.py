"""The script written beside an export: it preprocesses as in training, and prints what the task predicts.

Its preprocessing is the source of the functions that the training calls, so that the two cannot differ.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

from supernets.data.preprocessing import (
    ImageFormat,
    TextFormat,
    decode,
    normalised,
    square,
    square_in_one_call,
)
from supernets.data.tokenizing import configure

_SCRIPT = '''"""{does} the {arguments} on its command line by {network}.

Needs {needs}. {exactness}
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

{imports}


{functions}

HERE = Path(__file__).parent
{network_lines}


{preprocess}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("given", nargs="+", metavar="{metavar}")
    failed = False
    for given in parser.parse_args().given:
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
_OTHER = (
    "Prints the outputs for each of",
    """        print(f"{given}: {json.dumps(logits.tolist())}")""",
)
"""Of plug-in tasks, whose outputs have a meaning of their own."""
_IMAGES = '''def preprocess(file: str) -> NDArray[np.float32]:
    """The network's input for an image file, as a batch of 1."""
    with Image.open(file) as image:
        pixels = {resize}(decode(image, len(HOW["mean"])), HOW["size"][0])
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


def onnx_script(
    format: ImageFormat | TextFormat, *, model: str, tokenizer: str, targets: str = "classes", in_graph: bool = False
) -> str:
    """The script for an ONNX model.

    Args:
        model, tokenizer: names of the files beside it.
        targets: the kind of the labels, see `supernets.tasks.Task`.
        in_graph: whether the model itself resizes and normalises.
    """
    network = [
        f'SESSION = onnxruntime.InferenceSession(str(HERE / {json.dumps(model)}), providers=["CPUExecutionProvider"])',
        "FACTS = SESSION.get_modelmeta().custom_metadata_map",
        'HOW, CLASSES = json.loads(FACTS["preprocessing"]), json.loads(FACTS["classes"])',
        *([] if targets == "classes" else ['OUTPUTS = json.loads(FACTS["outputs"])']),
    ]
    does, prints = _PRINTS.get(targets, _OTHER)
    return _SCRIPT.format(
        does=does,
        prints=prints,
        network="the ONNX model beside it",
        needs=f"onnxruntime, numpy and {_library(format)}",
        logits="logits = SESSION.run(None, {SESSION.get_inputs()[0].name: preprocess(given)})[0][0]",
        **_parts(format, ["import onnxruntime"], network, tokenizer=tokenizer, in_graph=in_graph),
    )


def transformers_script(format: ImageFormat | TextFormat, *, loader: str, facts: str, tokenizer: str) -> str:
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
        needs=f"torch, transformers, numpy and {_library(format)}",
        logits="logits = NETWORK(torch.from_numpy(preprocess(given))).logits[0].detach().numpy()",
        **_parts(format, ["import torch", f"from transformers import {loader}"], network, tokenizer=tokenizer),
    )


def _library(format: ImageFormat | TextFormat) -> str:
    return "Pillow" if isinstance(format, ImageFormat) else "tokenizers"


def _parts(
    format: ImageFormat | TextFormat, runtime: Sequence[str], network: Sequence[str], *, tokenizer: str,
    in_graph: bool = False,
) -> dict[str, str]:  # fmt: skip
    """The parts of a script that follow from the preprocessing."""
    shared: list[Callable[..., Any]]
    if isinstance(format, ImageFormat):
        resize = square_in_one_call if format.resizing == "pillow-in-one-call" else square
        shared = [decode] if in_graph else [decode, resize, normalised]
        types = "NDArray" if in_graph else "ArrayLike, NDArray"
        libraries = [f"from numpy.typing import {types}", "from PIL import Image, ImageOps"]
        preprocess = _RAW_IMAGES if in_graph else _IMAGES.format(resize=resize.__name__)
    else:
        shared, preprocess = [configure], _SENTENCES
        libraries = ["from numpy.typing import NDArray", "from tokenizers import Tokenizer"]
        file = f"Tokenizer.from_file(str(HERE / {json.dumps(tokenizer)}))"
        network = [*network, f'TOKENIZER = configure({file}, HOW["max_tokens"])']
    exact = "The preprocessing is the one that the network was trained with."
    if isinstance(format, ImageFormat) and format.resizing == "torch":
        exact = "The network was trained on images that torch resized; Pillow's bytes may differ from those by 1."
    return {
        "exactness": exact,
        "arguments": "image files" if isinstance(format, ImageFormat) else "sentences",
        "metavar": "FILE" if isinstance(format, ImageFormat) else "SENTENCE",
        "imports": "\n".join(["import numpy as np", *runtime, *libraries]),
        "functions": "\n\n".join(map(inspect.getsource, shared)),
        "network_lines": "\n".join(network),
        "preprocess": preprocess,
    }
