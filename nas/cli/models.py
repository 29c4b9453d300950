"""Commands on users' models: inspect, capture."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any, cast, get_args

import typer

import nas.jobs
import nas.results
import supernets.families.captured
import supernets.networks.capture
from nas.cli.app import Json, app, argument, option
from nas.cli.output import print_json
from nas.cli.remedies import CAPTURE
from nas.errors import JobError, attach_remedy
from nas.plugins.parts import require
from supernets.errors import CaptureError
from supernets.networks.capture.model_names import is_captured
from supernets.networks.formats.pretrained import GGUF, HUB, PACKAGE

Model = Annotated[
    str,
    argument(
        help="torchvision:NAME, timm:NAME, transformers:FOLDER, package.module:function, or a file: an ONNX model, "
        "or what `nas capture` wrote."
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
    option(
        "--arguments",
        help='Of the function that makes the model, e.g. "{num_classes: 10}", as in a job; '
        'of an ONNX file, "{dequantize: true}".',
    ),
]
Plot = Annotated[
    Path | None, option("--plot", help="Also draw the work of each layer, as a .png or .svg file of this name.")
]
Proof = Annotated[bool, typer.Option(help="Prove by permutations that the axes are right.")]
_COLUMNS = 80
_SHAPE = re.compile(r"[1-9]\d{0,6}(x[1-9]\d{0,6})*")
_BAR, _MAX_LINES, _MAX_BARS = 36, 20, 48
"""Characters of a bar, and the most parts of the model that are shown in the terminal and in a picture."""
_MAX_NAMES = 4


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
    proof: Proof = True,
    plot: Plot = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="List the layers and axes of each choice, as --keep names them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what of a model is elastic.

    Prints the choices of the supernet that is made of it, what stays fixed and why, costs, and a proof; of a language model
    that is pretrained (package:NAME, hub:OWNER/NAME or a .gguf file), what a job on it searches, its costs and tokenizer.
    The exit status is 1 where the proof does not hold.
    """
    check_plot(plot, "nas inspect")
    if model.startswith((PACKAGE, HUB)) or model.endswith(GGUF):
        _inspect_language_model(model, as_json, other_options=(weights, input_shape, arguments, keep, plot))
        return
    options = _space_options(granularity, keep or [])
    try:
        captured_model = _captured(model, weights, input_shape, arguments)
    except CaptureError as error:
        if error.code == "capture.unknown-model" and is_captured(model) and (Path(model).suffix or "/" in model):
            attach_remedy(error, CAPTURE)
        raise
    inspection = supernets.families.captured.inspect_model(captured_model, options, proof=proof)
    write_plot(plot, inspection)
    print_json(inspection.to_json()) if as_json else print("\n".join(inspection_lines(inspection, has_layers=layers)))
    if inspection.proof is not None and not inspection.proof.holds:
        raise supernets.networks.capture.unproved_error(inspection.model.name, inspection.proof)


def _inspect_language_model(name: str, as_json: bool, *, other_options: Sequence[object]) -> None:
    """Shows what a job on a pretrained language model searches.

    Args:
        other_options: Values of the options that are for the user's own models.
    """
    if any(other_options):
        raise typer.BadParameter(
            f"{name} is a pretrained language model, whose layers are known; leave the options out"
        )
    language_model = nas.jobs.pretrained_language_model(name)
    return print_json(language_model.to_json()) if as_json else print("\n".join(language_model.lines()))


@app.command(epilog="Example: nas capture timm:resnet18 -o resnet18.capture")
def capture(
    model: Model,
    output: Annotated[Path, option("--output", "-o", help="The file to write.")],
    weights: Weights = None,
    input_shape: InputShape = None,
    arguments: Arguments = None,
    proof: Proof = True,
    as_json: Json = False,
) -> None:
    """Write a model as data without code.

    The file has the operations of the model's forward, its weights and its preprocessing. Jobs name it in
    `supernet: {model: FILE}`, and need the model's package no more.
    """
    captured = _captured(model, weights, input_shape, arguments)
    if proof:
        supernets.networks.capture.check_model(captured, supernets.networks.capture.SpaceOptions())
    supernets.networks.capture.save_capture(output, captured)
    if as_json:
        return print_json(
            {
                "path": str(output),
                "model": captured.name,
                "input": list(captured.input_shape),
                "notes": list(captured.notes),
            }
        )
    for note in captured.notes:
        print(note)
    unproved = "" if proof else "; its axes were not proved"
    return print(f"wrote {output}: {len(captured.program.calls)} operations, {len(captured.tensors)} tensors{unproved}")


def _captured(
    name: str, weights: str | None, input_shape: str | None, arguments: str | None
) -> supernets.networks.capture.CapturedModel:
    """The model of a command's arguments, captured; raises `CaptureError`, `CheckpointError` or `JobError`."""
    shape = None if input_shape is None else _shape(input_shape)
    return supernets.networks.capture.captured_for(
        supernets.networks.capture.open_model(name, parse_arguments(arguments, "--arguments"), weights=weights), shape
    )


def parse_arguments(text: str | None, option_name: str) -> dict[str, Any]:
    """The mapping of an option as users write it, ``{num_classes: 10}``, empty without one; raises `JobError`."""
    if text is None:
        return {}
    return nas.jobs.parse_mapping(text, source=option_name, noun="mapping from names to values, e.g. {num_classes: 10}")


def _shape(text: str) -> tuple[int, ...]:
    """The size of an input as users write it, ``3x224x224``; raises `JobError`."""
    if _SHAPE.fullmatch(text) is None:
        raise JobError(
            f"--input {text}: expected sizes, e.g. 3x224x224, or the number of tokens", code="job.invalid-value"
        )
    return tuple(map(int, text.split("x")))


def _space_options(granularity: str, keep: Sequence[str]) -> supernets.networks.capture.SpaceOptions:
    """The options of a command; raises `JobError`."""
    if granularity not in (options := get_args(supernets.networks.capture.Granularity)):
        expected = ", ".join(options)
        raise JobError(f"--granularity {granularity}: expected one of {expected}", code="job.invalid-value")
    return supernets.networks.capture.SpaceOptions(
        granularity=cast(supernets.networks.capture.Granularity, granularity), keep=tuple(keep)
    )


def check_plot(path: Path | None, command: str) -> None:
    """Raises `NasError` for a path of a picture that cannot be written, before anything that takes longer."""
    if path is not None:
        require("plots", f"{command} --plot")
        nas.results.check_picture_path(path)


def write_plot(path: Path | None, inspection: supernets.families.captured.Inspection) -> None:
    """Writes the picture of a model's layers, where a path is given."""
    if path is None:
        return
    rows = [(part.name, part.smallest, part.largest) for part in inspection.grouped(_MAX_BARS)]
    ends = f"{inspection.smallest.macs / 1e6:,.3g} to {inspection.largest.macs / 1e6:,.4g} million multiply-accumulates"
    line = f"{ends} · {inspection.share:.1%} elastic · {inspection.size:.3g} networks"
    nas.results.write_picture(path, nas.results.layers_chart(rows, title=inspection.model.name, line=line))
    print(f"wrote {path}", file=sys.stderr)


def inspection_lines(inspection: supernets.families.captured.Inspection, *, has_layers: bool = False) -> list[str]:
    """The inspection as lines of at most 80 columns.

    Args:
        inspection: The inspection.
        has_layers: True to list the layers and axes of each choice.
    """
    shape = " x ".join(map(str, inspection.model.input_shape))
    lines = _wrapped(f"{inspection.model.name}, for inputs of {shape}", indent="  ")
    lines += [f"  {'':12}{'smallest':>18}{'largest':>18}"]
    for name, smallest, largest in (
        ("parameters", inspection.smallest.parameters, inspection.largest.parameters),
        ("MACs", inspection.smallest.macs, inspection.largest.macs),
    ):
        lines.append(f"  {name:12}{smallest:>18,}{largest:>18,}")
    lines += [
        "",
        f"elastic: {inspection.share:.1%} of the MACs, {len(inspection.choices)} choices, {inspection.size:.3g} networks",
    ]
    lines += _bars(inspection)
    for kind, title, unit in (("depth", "layers that may be left out", "kept"), ("width", "width of", "units")):
        if choices := [choice for choice in inspection.choices if choice.kind == kind]:
            lines += ["", f"  {title:52}{unit}"]
            for choice in choices:
                options = ", ".join(f"{option:g}" for option in choice.sizes or choice.options)
                lines.append(f"  {_shortened(choice.title, 51):52}{_shortened(options, 26)}")
                if has_layers:
                    lines += _wrapped(f"    {', '.join(choice.members)}", indent="    ")
    if inspection.fixed:
        lines += ["", "fixed, and why:"]
        for reason, names in inspection.fixed.items():
            lines += _wrapped(f"  {reason}: {_first_names(names)}", indent="    ")
    for title, some in (
        ("operations without a rule", [f"{name} ({n})" for name, n in inspection.unknown.items()]),
        ("parameters that the forward does not read", list(inspection.model.unused)),
        ("tied tensors", [f"{alias} = {name}" for alias, name in inspection.tied.items()]),
    ):
        if some:
            lines += ["", *_wrapped(f"{title}: {_first_names(some)}", indent="  ")]
    if inspection.model.notes:
        lines += [
            "",
            "notes:",
            *(line for note in inspection.model.notes for line in _wrapped(f"- {note}", indent="  ")),
        ]
    return [*lines, "", *(["proof: left out"] if inspection.proof is None else _proof_lines(inspection.proof))]


def _bars(inspection: supernets.families.captured.Inspection) -> list[str]:
    """The picture of the layers in characters: what every network has, and what may be left out."""
    parts = inspection.grouped(_MAX_LINES)
    max_macs = max((part.largest for part in parts), default=0)
    if not max_macs:
        return []
    lines = [f"  {'layer':26}{'█ in every network  ░ may be left out':{_BAR + 2}}{'MACs':>12}"]
    for part in parts:
        length = max(1, round(_BAR * part.largest / max_macs))
        full = min(length, round(_BAR * part.smallest / max_macs))
        lines.append(
            f"  {_shortened(part.name, 25):26}{'█' * full + '░' * (length - full):{_BAR + 2}}{part.largest:>12,}"
        )
    return lines


def _proof_lines(proof: supernets.networks.capture.Proof) -> list[str]:
    rows = [
        ("all units permuted (float64)", proof.permuted, "about 0"),
        ("one tensor left out (control)", proof.control, "larger"),
    ]
    if proof.original is not None:
        rows.insert(0, ("largest network against the original", proof.original, "about 0"))
    lines = [f"proof: {'holds' if proof.holds else 'DOES NOT HOLD'}; change of the outputs, relative to their scale"]
    return lines + [f"  {name:40}{value:10.1e}  expected {want}" for name, value, want in rows if value is not None]


def _first_names(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _shortened(text: str, n: int) -> str:
    """A text of at most `n` characters; its end is kept, too."""
    return text if len(text) <= n else f"{text[: n // 2 - 1]}…{text[len(text) - (n - n // 2) :]}"


def _wrapped(text: str, *, indent: str) -> list[str]:
    return wrap(text, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False) or [""]
