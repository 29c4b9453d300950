"""The model card of an exported folder: its README.md, with what the network was made of, its values and how to use it."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.results.export.export_paths import CARD
from nas.results.export.formats.folder_format import ExportedNetwork, WrittenFolder
from nas.search.problem.tasks import LANGUAGE
from supernets.errors import CheckpointError
from supernets.families.decoder.decoder_family import DecoderFamily
from supernets.families.decoder.writing import options_by_layer
from supernets.networks.formats.gguf_file import open_gguf
from supernets.networks.formats.pretrained import GGUF, HUB, PACKAGE, find_pretrained

_TAGS = {LANGUAGE: "text-generation"}
"""Values of ``pipeline_tag`` by task."""


@dataclass(frozen=True, slots=True)
class Original:
    """The pretrained network or model that a run's networks are parts of.

    Attributes:
        name: Its name as the job has it; None for networks that were trained from random weights.
        license: Identifier or name of its license; None if neither its package nor its files state one.
    """

    name: str | None
    license: str | None

    @property
    def hub_name(self) -> str:
        """Its name on the hub; "" if it is not from there."""
        return self.name.removeprefix(HUB).partition("@")[0] if self.name and self.name.startswith(HUB) else ""

    @property
    def public_name(self) -> str:
        """Its name without the folders of this machine; "" for none."""
        name = self.name or ""
        return name if name.startswith((PACKAGE, HUB)) else Path(name).name


def read_original(name: str | None) -> Original:
    """The license of a pretrained network: that of its package, its GGUF file, or the card in its folder.

    Args:
        name: Its name as `find_pretrained` reads it; None for none. It may be gone: then its license is unknown.
    """
    if name is None:
        return Original(None, None)
    if name.startswith(PACKAGE):
        try:
            metadata = importlib.metadata.metadata(name.removeprefix(PACKAGE))
        except (importlib.metadata.PackageNotFoundError, ValueError):
            return Original(name, None)
        license = next((metadata[field] for field in ("License-Expression", "License") if field in metadata), None)
        if license and len(license) <= _MAX_NAME:  # others have its whole text there
            return Original(name, license)
    try:
        path = find_pretrained(name) if name.startswith(PACKAGE) or Path(name).exists() else None
        return Original(name, None if path is None else _license_in(path))
    except (CheckpointError, OSError):
        return Original(name, None)


_MAX_NAME = 60
"""Characters of the name of a license."""


def _license_in(path: Path) -> str | None:
    if path.suffix == GGUF:
        field = open_gguf(path).fields.get("general.license")
        return None if field is None else str(field.contents())
    card = path / CARD
    if not card.is_file():
        return None
    _, _, front = card.read_text(encoding="utf-8", errors="replace").partition("---\n")
    lines = front.partition("\n---")[0].splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("license:")), None)


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a network.

    Attributes:
        values: Values by name of a metric.
        errors: Standard errors, or the noise floor of a latency, by name; without those that are exact.
        test: The score on the test part by the metric's name, with its ``error``; None where it was not scored.
    """

    values: Mapping[str, float]
    errors: Mapping[str, float]
    test: Mapping[str, float] | None = None


def model_card(
    network: ExportedNetwork,
    written: WrittenFolder,
    *,
    key: str,
    original: Original,
    measured: Measured,
    data: Mapping[str, Any],
    task: str,
    folder_name: str,
) -> str:
    """The text of the card.

    Args:
        network, written: The network, and what was written of it.
        key: The network's key in its run.
        original: What it was made of.
        measured: Its values.
        data: The job's description of the data.
        task: Name of the task.
        folder_name: Name of the folder, for the lines that load it.
    """
    limits = [
        f"It was measured on validation data of the run; other {network.data.format.noun}s may give other values."
    ]
    if isinstance(network.family, DecoderFamily):
        limits.append(
            f"It reads at most {network.family.positions:,} tokens, of {network.family.vocabulary:,} different ones."
        )
        limits.append("It says what is likely in texts as it was trained on, which may be wrong, offensive or biased.")
    front = {
        "license": (original.license or "unknown").lower(),  # as the hub names licenses
        "library_name": written.library,
        **({"pipeline_tag": _TAGS[task]} if task in _TAGS else {}),
        **({"base_model": original.hub_name} if original.hub_name else {}),
        "tags": ["subnet-nas"],
    }
    header = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items())
    sections = {
        "": f"A network of the run `{network.run}` (key `{key}`), for the task {task}, in {written.precision}.",
        "Use": f"```python\n{written.usage.format(path=folder_name)}\n```",
        "What it was made of": _origin(network, original),
        "Values": _values(measured),
        "Checks of this folder": "\n".join(_checks(written.checks)),
        "Data": "\n".join(f"- {name}: {json.dumps(value, ensure_ascii=False)}" for name, value in data.items()),
        "Limits": "\n".join(f"- {sentence}" for sentence in (*written.remarks, *limits)),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in sections.items())
    return f"---\n{header}\n---\n\n# {network.name}\n\n{body}\n"


def _origin(network: ExportedNetwork, original: Original) -> str:
    if original.name is None:
        made_of = "It was trained from random weights."
    else:
        stated = f"whose license is {original.license}" if original.license else "whose license is not known here"
        made_of = f"It is a part of `{original.public_name}`, {stated}; the license of this network follows from it."
    if not isinstance(network.family, DecoderFamily):
        values = network.family.space.values(network.architecture)
        return f"{made_of}\n\n{_table(('size', 'option'), [(name, str(value)) for name, value in values.items()])}"
    options = options_by_layer(network.family, network.architecture)
    names = list(next(iter(options.values())))
    rows = [(str(number), *(str(layer[name]) for name in names)) for number, layer in options.items()]
    table = _table(("layer of the original", *names), rows)
    notes = "`heads` are those of keys and values, and `queries` those of each; 0 stands for a layer without attention or MLP."
    return f"{made_of}\n\n{table}\n\n{notes}"


_CHECKS = {
    "parity": "largest difference of its outputs from the network's, as a share of their size",
    "agreement": "share of tokens that it and the network find the likeliest",
    "difference": "largest difference of its logits from the network's, in their standard deviations",
    "checked_by": "library that continued a text by the same tokens as the network",
    "same_tokens": "number of these tokens",
    "architecture": "architecture in llama.cpp",
}
"""What the results of checks are, by their names."""


def _checks(checks: Mapping[str, Any], of: str = "") -> Iterator[str]:
    for name, value in checks.items():
        if isinstance(value, Mapping):
            yield from _checks(value, f"{name}: ")
        else:
            text = f"{value:.2g}" if isinstance(value, float) else value
            yield f"- {of}{_CHECKS[name]}: {text}"


def _values(measured: Measured) -> str:
    rows = [(name, f"{value:.6g}", _error(measured.errors.get(name))) for name, value in measured.values.items()]
    if measured.test:
        error = measured.test.get("error")
        rows += [
            (f"{name}, test part", f"{v:.6g}", _error(error)) for name, v in measured.test.items() if name != "error"
        ]
    text = "Latencies were measured in the runtime of the run, on its machine, and are not those of this format."
    timed = any("@" in name for name in measured.values)
    return _table(("metric", "value", "±"), rows) + (f"\n\n{text}" if timed else "")


def _error(error: float | None) -> str:
    return f"{error:.2g}" if error else "exact" if error == 0 else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
