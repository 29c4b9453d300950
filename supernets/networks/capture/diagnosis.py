"""Checks a module before it is captured, and states torch's errors in terms of the user's code."""

from __future__ import annotations

import inspect
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from supernets.errors import CaptureError
from supernets.networks.capture.program import first_names

_NOT_OF_USERS = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parents[2]),
    sysconfig.get_paths()["stdlib"],
    "<",
)
"""Beginnings of the names of files that no user wrote; packages of models lie in the last but one, in `site-packages`."""
_PACKAGES = ("site-packages", "dist-packages")
_OF_DATA = (
    "GuardOnDataDependentSymNode",
    "DataDependentOutputException",
    "UserError",
)
"""Errors of torch for shapes or Python values that depend on a tensor's values."""
_NO_FAKE = re.compile(r"no fake impl registered for (?:<CustomOpDef\()?([\w:.]+)")
_LONGEST = 300


def check_module(module: nn.Module, example: Sequence[Tensor], *, is_called: bool) -> None:
    """Raises `CaptureError` for a module that is not ready to run on an example, or takes other inputs.

    Args:
        module: Module that is going to be captured.
        example: Its inputs, each with a batch.
        is_called: True if the module itself is called with the example.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise _unusable("it is a TorchScript module, which cannot be traced; pass the module that it was scripted from")
    tensors = [*module.named_parameters(), *module.named_buffers()]
    if lazy := [name for name, tensor in tensors if isinstance(tensor, UninitializedParameter)]:
        raise _unusable(
            f"{first_names(lazy, 3)} of lazy layers have no size yet; run the module once on an input first"
        )
    for name, tensor in tensors:
        if tensor.device.type == "meta":
            raise _unusable(f"{name} is on the device meta, which holds no values; make the module on the CPU")
        if tensor.device.type != "cpu":
            raise _unusable(f"{name} is on the device {tensor.device}; expected the CPU: pass module.cpu()")
    for tensor in example:
        if tensor.device.type != "cpu":
            raise CaptureError(
                f"the example is on the device {tensor.device}; expected the CPU", code="capture.example"
            )
    _check_precision(module, example)
    if is_called:
        _check_signature(module, example)


def _check_precision(module: nn.Module, example: Sequence[Tensor]) -> None:
    """Raises `CaptureError` for weights in half precision, or in another one than the example's."""
    kinds = {tensor.dtype for tensor in module.parameters() if tensor.is_floating_point()}
    if low := sorted(str(kind) for kind in kinds if kind not in (torch.float32, torch.float64)):
        raise _unusable(f"its weights are in {', '.join(low)}; expected float32: pass module.float()")
    for tensor in example:
        if tensor.is_floating_point() and kinds and tensor.dtype not in kinds:
            weights = ", ".join(sorted(map(str, kinds)))
            raise CaptureError(
                f"the example is in {tensor.dtype}, and the weights in {weights}", code="capture.example"
            )


def _check_signature(module: nn.Module, example: Sequence[Tensor]) -> None:
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # a forward that is not written in Python
        return
    try:
        signature.bind(*example)
    except TypeError as error:
        raise CaptureError(
            f"its forward takes {signature}, and is called with {len(example)} tensor{'s' * (len(example) != 1)}: {error}; "
            "wrap it in a module whose forward takes one tensor and makes the other arguments",
            code="capture.example",
        ) from None


def unregistered(module: nn.Module) -> list[str]:
    """Modules and parameters in lists, tuples or dictionaries of a module, which torch does not see there."""
    registered_ids = {id(member) for member in (*module.modules(), *module.parameters(), *module.buffers())}
    attribute_paths = []
    for path, owner in module.named_modules():
        for key, value in vars(owner).items():
            items = value.values() if isinstance(value, dict) else value
            if key.startswith("_") or not isinstance(items, list | tuple | type({}.values())):
                continue
            if any(isinstance(item, nn.Module | nn.Parameter) and id(item) not in registered_ids for item in items):
                attribute_paths.append(f"{path}.{key}".removeprefix("."))
    return attribute_paths


def reason(error: Exception, module: nn.Module, example: Sequence[Tensor]) -> CaptureError:
    """The error that states why a module cannot be traced, with the user's file and line.

    The module is run once, to tell an error of its own from one of the trace.
    """
    at = place_of(error)
    if type(error).__name__ == "DynamicOutputShapeException":
        return CaptureError(
            f"the size of a result depends on the values of the input{at}; a captured network has the same shapes for every "
            "input: use a mask or torch.where there",
            code="capture.data-dependent",
        )
    if type(error).__name__ in _OF_DATA or ".numpy() is not supported" in str(error):
        return depends_on_values(at)
    if custom := _NO_FAKE.search(str(error)):
        return CaptureError(
            f"the custom operation {custom[1]} has no register_fake{at}; add one, or use operations of torch",
            code="capture.unknown-operation",
        )
    try:
        module(*example)
    except Exception as forward_error:  # the user's forward may raise anything
        return raised(forward_error)
    return CaptureError(
        f"its forward runs, but cannot be traced{at}: {type(error).__name__}: {_summary(error)}; use operations of "
        "torch there, or leave the part out of the module",
        code="capture.failed",
    )


def depends_on_values(at: str) -> CaptureError:
    """The error of a forward that reads a value of a tensor."""
    return CaptureError(
        f"its forward depends on the values of its input{at}, which item(), float(), numpy() and conditions read; a captured "
        "network has the same operations and shapes for every input: leave it a tensor, use operations on whole tensors there, "
        "such as torch.where, or leave the part out of the module",
        code="capture.data-dependent",
    )


def raised(error: Exception) -> CaptureError:
    """The error that states what a user's forward raised, and where."""
    return CaptureError(
        f"its forward raised {type(error).__name__}{place_of(error)}: {_summary(error)}; correct it, or give an input of "
        "the size that it expects (in a job: data.image_size and data.channels)",
        code="capture.failed",
    )


def place_of(error: BaseException) -> str:
    """File and line of the innermost call in the user's code, ``" (at FILE:LINE)"``; "" where it is not known.

    The line of a model's package counts where no other one is there.
    """
    places = list(_places(error.__traceback__))
    user_places = [place for place in places if not any(part in place[0] for part in _PACKAGES)] or places
    return f" (at {user_places[-1][0]}:{user_places[-1][1]})" if user_places else ""


def _places(traceback: TracebackType | None) -> Iterator[tuple[str, int]]:
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        of_package = any(f"/{part}/" in file for part in _PACKAGES) and not file.startswith(_NOT_OF_USERS[0])
        if of_package or not file.startswith(_NOT_OF_USERS):
            yield file, traceback.tb_lineno
        traceback = traceback.tb_next


def _summary(error: BaseException) -> str:
    """The first paragraph of an error's text in one line."""
    text = " ".join(str(error).strip().split("\n\n")[0].split()).rstrip(".;")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _unusable(text: str) -> CaptureError:
    return CaptureError(text, code="capture.model-unusable")
