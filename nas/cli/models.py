"""Commands on users' models: inspect, capture."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from nas.cli.app import Json, app, argument, option
from nas.cli.output import print_json
from nas.errors import JobError
from nas.plugins.parts import require
from supernets.networks.formats.pretrained import GGUF, HUB, PACKAGE

if TYPE_CHECKING:
    from supernets.families.captured.inspection import Inspection
    from supernets.networks.capture.captured_model import CapturedModel
    from supernets.networks.capture.model_proof import Proof
    from supernets.networks.capture.space import SpaceOptions

Model = Annotated[
    str,
    argument(
        help="torchvision:NAME, timm:NAME, transformers:FOLDER, package.module:function, or a file that `nas capture` wrote."
    ),
]
Weights = Annotated[
    str | None,
    option(
        "--weights",
        help="A .safetensors file or a state_dict that torch.save wrote; package:NAME, the only one in a Python package; "
        "hub: the library's own weights.",
    ),
]
InputShape = Annotated[
    str | None, option("--input", help="The size of an input, e.g. 3x224x224; for tokens their number.")
]
Arguments = Annotated[
    str | None,
    option("--arguments", help='Of the function that makes the model, e.g. "{num_classes: 10}", as in a job.'),
]
Plot = Annotated[
    Path | None, option("--plot", help="Also draw the work of each layer, as a .png or .svg file of this name.")
]
_COLUMNS = 80
_SHAPE = re.compile(r"[1-9]\d{0,6}(x[1-9]\d{0,6})*")
_BAR, _MOST_LINES, _MOST_BARS = 36, 20, 48
"""Characters of a bar, and the most parts of the model that are shown in the terminal and in a picture."""
_MOST = 4


@app.command(epilog="Example: nas inspect torchvision:mobilenet_v3_small")
def inspect(
    model: Model,
    weights: Weights = None,
    input_shape: InputShape = None,
    arguments: Arguments = None,
    granularity: Annotated[
        str, typer.Option(help="One choice for each layer, stage, or for the whole model.")
    ] = "stage",
    keep: Annotated[
        list[str] | None,
        option("--keep", help='Axes and layers that stay as they are, e.g. "head.*"; may be repeated.'),
    ] = None,
    proof: Annotated[bool, typer.Option(help="Prove by permutations that the axes are right.")] = True,
    plot: Plot = None,
    as_json: Json = False,
) -> None:
    """Show what of a model is elastic.

    Prints the choices of the supernet that is made of it, what stays fixed and why, costs, and a proof; of a language model
    that is pretrained (package:NAME, hub:OWNER/NAME or a .gguf file), what a job on it searches, its costs and tokenizer.
    The exit status is 1 where the proof does not hold.
    """
    from supernets.families.captured.inspection import inspect_model
    from supernets.networks.capture.model_proof import unproved_error

    check_plot(plot, "nas inspect")
    if model.startswith((PACKAGE, HUB)) or model.endswith(GGUF):
        _inspect_language_model(model, as_json, others=(weights, input_shape, arguments, keep, plot))
        return
    options = _space_options(granularity, keep or [])
    found = inspect_model(_captured(model, weights, input_shape, arguments), options, proof=proof)
    write_plot(plot, found)
    print_json(found.to_json()) if as_json else print("\n".join(inspection_lines(found)))
    if found.proof is not None and not found.proof.holds:
        raise unproved_error(found.model.name, found.proof)


def _inspect_language_model(name: str, as_json: bool, *, others: Sequence[object]) -> None:
    """Shows what a job on a pretrained language model searches.

    Args:
        others: options that are for the user's own models.
    """
    if any(others):
        raise typer.BadParameter(
            f"{name} is a pretrained language model, whose layers are known; leave the options out"
        )
    from nas.jobs.planning.language_models import pretrained_language_model

    found = pretrained_language_model(name)
    return print_json(found.to_json()) if as_json else print("\n".join(found.lines()))


@app.command(epilog="Example: nas capture timm:resnet18 -o resnet18.capture")
def capture(
    model: Model,
    output: Annotated[Path, option("--output", "-o", help="The file to write.")],
    weights: Weights = None,
    input_shape: InputShape = None,
    arguments: Arguments = None,
    as_json: Json = False,
) -> None:
    """Write a model as data without code.

    The file has the operations of the model's forward, its weights and its preprocessing. Jobs name it in
    `supernet: {model: FILE}`, and need the model's package no more.
    """
    from supernets.networks.capture.captured_model import save_capture
    from supernets.networks.capture.model_proof import check_model
    from supernets.networks.capture.space import SpaceOptions

    found = _captured(model, weights, input_shape, arguments)
    check_model(found, SpaceOptions())
    save_capture(output, found)
    if as_json:
        return print_json(
            {"path": str(output), "model": found.name, "input": list(found.input_shape), "notes": list(found.notes)}
        )
    for note in found.notes:
        print(note)
    return print(f"wrote {output}: {len(found.program.calls)} operations, {len(found.tensors)} tensors")


def _captured(name: str, weights: str | None, input_shape: str | None, arguments: str | None) -> CapturedModel:
    """The model of a command's arguments, captured; raises `CaptureError`, `CheckpointError` or `JobError`."""
    from supernets.networks.capture.captured_model import captured_for
    from supernets.networks.capture.opening import open_model

    shape = None if input_shape is None else _shape(input_shape)
    return captured_for(open_model(name, _mapping(arguments), weights=weights), shape)


def _mapping(arguments: str | None) -> dict[str, Any]:
    """The arguments of a model's function as users write them, ``{num_classes: 10}``; raises `JobError`."""
    if arguments is None:
        return {}
    from nas.jobs.schema.strict_yaml import parse_mapping

    what = "mapping from arguments to values, e.g. {num_classes: 10}"
    return parse_mapping(arguments, source="--arguments", noun=what)


def _shape(text: str) -> tuple[int, ...]:
    """The size of an input as users write it, ``3x224x224``; raises `JobError`."""
    if _SHAPE.fullmatch(text) is None:
        raise JobError(
            f"--input {text}: expected sizes, e.g. 3x224x224, or the number of tokens", code="job.invalid-value"
        )
    return tuple(map(int, text.split("x")))


def _space_options(granularity: str, keep: Sequence[str]) -> SpaceOptions:
    """The options of a command; raises `JobError`."""
    from supernets.networks.capture.space import Granularity, SpaceOptions

    if granularity not in (options := get_args(Granularity)):
        expected = ", ".join(options)
        raise JobError(f"--granularity {granularity}: expected one of {expected}", code="job.invalid-value")
    return SpaceOptions(granularity=cast(Granularity, granularity), keep=tuple(keep))


def check_plot(path: Path | None, command: str) -> None:
    """Raises `NasError` for a path of a picture that cannot be written, before anything that takes longer."""
    if path is not None:
        require("plots", f"{command} --plot")
        from nas.results.plots.style import check_picture_path

        check_picture_path(path)


def write_plot(path: Path | None, found: Inspection) -> None:
    """Writes the picture of a model's layers, where a path is given."""
    if path is None:
        return
    from nas.results.plots.elastic_layers import layers_figure
    from nas.results.plots.style import write_picture

    rows = [(part.name, part.smallest, part.largest) for part in found.grouped(_MOST_BARS)]
    ends = f"{found.smallest.macs / 1e6:,.3g} to {found.largest.macs / 1e6:,.4g} million multiply-accumulates"
    line = f"{ends} · {found.share:.1%} elastic · {found.size:.3g} networks"
    write_picture(path, layers_figure(rows, title=found.model.name, line=line))
    print(f"wrote {path}", file=sys.stderr)


def inspection_lines(found: Inspection) -> list[str]:
    """The inspection as lines of at most 80 columns."""
    shape = " x ".join(map(str, found.model.input_shape))
    lines = _wrapped(f"{found.model.name}, for inputs of {shape}", indent="  ")
    lines += [f"  {'':12}{'smallest':>18}{'largest':>18}"]
    for name, one, other in (
        ("parameters", found.smallest.parameters, found.largest.parameters),
        ("MACs", found.smallest.macs, found.largest.macs),
    ):
        lines.append(f"  {name:12}{one:>18,}{other:>18,}")
    lines += ["", f"elastic: {found.share:.1%} of the MACs, {len(found.choices)} choices, {found.size:.3g} networks"]
    lines += _bars(found)
    lines += ["", f"  {'width of':44}{'units':24}axes"]
    for choice in found.choices:
        if choice.kind == "width":
            sizes = ", ".join(map(str, choice.sizes))
            lines.append(
                f"  {_cut(choice.name.removesuffix('.width'), 43):44}{_cut(sizes, 23):24}{len(choice.members)}"
            )
    if depths := [choice for choice in found.choices if choice.kind == "depth"]:
        lines.append(f"  {'layers that may be left out':44}{'kept':24}")
        for choice in depths:
            kept = ", ".join(f"{option:g}" for option in choice.options)
            lines.append(f"  {_cut(choice.name.removesuffix('.depth'), 43):44}{_cut(kept, 23):24}")
            lines += _wrapped(f"    {', '.join(choice.members)}", indent="    ")
    if found.fixed:
        lines += ["", "fixed, and why:"]
        for reason, names in found.fixed.items():
            lines += _wrapped(f"  {reason}: {_some(names)}", indent="    ")
    for title, some in (
        ("operations without a rule", [f"{name} ({n})" for name, n in found.unknown.items()]),
        ("parameters that the forward does not read", list(found.model.unused)),
        ("tied tensors", [f"{alias} = {name}" for alias, name in found.tied.items()]),
    ):
        if some:
            lines += ["", *_wrapped(f"{title}: {_some(some)}", indent="  ")]
    if found.model.notes:
        lines += ["", "notes:", *(line for note in found.model.notes for line in _wrapped(f"- {note}", indent="  "))]
    return lines + (["", *_proof_lines(found.proof)] if found.proof is not None else [])


def _bars(found: Inspection) -> list[str]:
    """The picture of the layers in characters: what every network has, and what may be left out."""
    parts = found.grouped(_MOST_LINES)
    most = max((part.largest for part in parts), default=0)
    if not most:
        return []
    lines = [f"  {'layer':26}{'█ in every network  ░ may be left out':{_BAR + 2}}{'MACs':>12}"]
    for part in parts:
        whole = max(1, round(_BAR * part.largest / most))
        full = min(whole, round(_BAR * part.smallest / most))
        lines.append(f"  {_cut(part.name, 25):26}{'█' * full + '░' * (whole - full):{_BAR + 2}}{part.largest:>12,}")
    return lines


def _proof_lines(proof: Proof) -> list[str]:
    rows = [
        ("all units permuted (float64)", proof.permuted, "about 0"),
        ("one tensor left out (control)", proof.control, "larger"),
    ]
    if proof.original is not None:
        rows.insert(0, ("largest network against the original", proof.original, "about 0"))
    lines = [f"proof: {'holds' if proof.holds else 'DOES NOT HOLD'}; change of the outputs, relative to their scale"]
    return lines + [f"  {name:40}{value:10.1e}  expected {want}" for name, value, want in rows if value is not None]


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more


def _cut(text: str, n: int) -> str:
    """A text of at most `n` characters; its end is kept, too."""
    return text if len(text) <= n else f"{text[: n // 2 - 1]}…{text[len(text) - (n - n // 2) :]}"


def _wrapped(text: str, *, indent: str) -> list[str]:
    return wrap(text, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False) or [""]
