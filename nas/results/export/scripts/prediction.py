"""The shared part of the scripts that predict: the network beside a script, its answers, and the command line."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas.results.analysis.cascade import confidence

REMARK = " (large network)"
"""After the answer of a cascade's large network."""


class Network(NamedTuple):
    """An exported network.

    Attributes:
        how: The preprocessing, as the manifest states it.
        classes: Names of the classes or labels.
        targets: Kind of the labels: ``classes``, ``numbers``, ``sets``, or a plug-in's own.
        outputs: The facts that turn outputs into predictions.
        tokenizer: File of the tokenizer of a network of sentences.
        answer: Calls the network with inputs, a batch of 1; returns the outputs, and a remark on them.
    """

    how: Mapping[str, Any]
    classes: Sequence[str]
    targets: str
    outputs: Mapping[str, Any]
    tokenizer: Path
    answer: Callable[[NDArray[Any]], tuple[NDArray[np.float32], str]]


def network_beside(script: Path) -> Network:
    """The network beside a script: a folder of the transformers library, a cascade, or an ONNX model."""
    if script.name == "predict.py":
        return transformers_network(script.parent)
    name = script.name.removesuffix(".predict.py")
    manifest = script.with_name(f"{name}.json")
    if manifest.is_file():
        facts = json.loads(manifest.read_text(encoding="utf-8"))
        if facts.get("kind") == "cascade":
            return cascade(script.parent, facts)
    return onnx_network(script.with_name(f"{name}.onnx"))


def onnx_network(path: Path) -> Network:
    """An ONNX model, which holds the facts about itself."""
    session = session_of(path)
    facts = session.get_modelmeta().custom_metadata_map
    how, classes, outputs = (json.loads(facts[name]) for name in ("preprocessing", "classes", "outputs"))
    name = session.get_inputs()[0].name

    def answer(inputs: NDArray[Any]) -> tuple[NDArray[np.float32], str]:
        return session.run(None, {name: inputs})[0][0], ""

    return Network(how, classes, facts["targets"], outputs, path.with_suffix(".tokenizer.json"), answer)


def cascade(folder: Path, facts: Mapping[str, Any]) -> Network:
    """Two ONNX models of classes: the large one answers where the small one is not sure."""
    small, large = (onnx_network(folder / facts[name]["model"]) for name in ("small", "large"))

    def answer(inputs: NDArray[Any]) -> tuple[NDArray[np.float32], str]:
        logits, _ = small.answer(inputs)
        if confidence(logits[None])[0] < facts["threshold"]:
            return large.answer(inputs)[0], REMARK
        return logits, ""

    return small._replace(answer=answer)


def transformers_network(folder: Path) -> Network:
    """A classifier in a folder of the transformers library."""
    # Here, for the scripts of ONNX models need neither.
    import torch
    import transformers

    how = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    loaders = {
        "sentence": transformers.AutoModelForSequenceClassification,
        "image": transformers.AutoModelForImageClassification,
    }
    module = loaders[how["kind"]].from_pretrained(folder).eval()

    def answer(inputs: NDArray[Any]) -> tuple[NDArray[np.float32], str]:
        return module(torch.from_numpy(inputs)).logits[0].detach().numpy(), ""

    return Network(how, module.config.id2label, "classes", {}, folder / "tokenizer.json", answer)


def check_model(path: Path) -> None:
    """Ends the script where the file of its model is missing."""
    if not path.is_file():
        sys.exit(f"{path}: no such file; a script finds its model by its own name: keep both together, and rename both")


def session_of(path: Path) -> Any:
    """The session of an ONNX model; ends the script where the file is missing."""
    import onnxruntime  # here, for folders of the transformers library need none

    check_model(path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def prediction(network: Network, outputs: NDArray[np.float32]) -> str:
    """The prediction as text: the five likeliest classes, a number, the labels, or of a plug-in's task the outputs."""
    match network.targets:
        case "classes":
            shares = np.exp(outputs - outputs.max())
            shares /= shares.sum()
            return ", ".join(f"{network.classes[i]} {shares[i]:.1%}" for i in shares.argsort()[::-1][:5])
        case "numbers":
            return f"{float(outputs[0]) * network.outputs['std'] + network.outputs['mean']:.6g}"
        case "sets":
            shares = 1 / (1 + np.exp(-outputs))
            labels = [i for i in shares.argsort()[::-1] if shares[i] >= network.outputs["threshold"]]
            return ", ".join(f"{network.classes[i]} {shares[i]:.1%}" for i in labels) or "no label"
    return json.dumps(outputs.tolist())


def arguments(description: str, metavar: str) -> list[str]:
    """The arguments of a script's command line."""
    return list(described_parser(description, metavar).parse_args().examples)


def described_parser(description: str, metavar: str) -> argparse.ArgumentParser:
    """The parser of a script's command line, of which ``examples`` are the arguments."""
    if hasattr(signal, "SIGPIPE"):  # where a reader like head has left, end without a traceback
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("examples", nargs="+", metavar=metavar)
    return parser


def predict(network: Network, examples: Iterable[str], preprocess: Callable[[str], NDArray[Any]]) -> None:
    """Prints the prediction for each example, then exits; the status is 1 if an example could not be read."""
    failed = False
    for example in examples:
        try:
            outputs, remark = network.answer(preprocess(example))
        except (OSError, ValueError) as error:
            print(f"{example}: {error}", file=sys.stderr)
            failed = True
            continue
        print(f"{example}: {prediction(network, outputs)}{remark}")
    sys.exit(failed)
