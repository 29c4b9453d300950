"""The optional parts of the installation: what each brings, and the error where one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from nas.errors import PartError

PARTS: Mapping[str, tuple[str, ...]] = {
    "ray": ("ray",),
    "service": ("fastapi", "uvicorn", "jinja2", "prometheus_client"),
    "oidc": ("joserfc",),
    "plots": ("matplotlib", "plotly"),
    "onnx-dynamo": ("onnxscript",),
    "openvino": ("openvino",),
    "optuna": ("optuna",),
    "qr": ("segno",),
    "text": ("tokenizers",),
    "gguf": ("gguf",),
    "mlflow": ("mlflow",),
    "tensorboard": ("tensorboardX",),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}
"""The modules that the features of a part import, by its name: an extra of `pyproject.toml`."""


def has(part: str) -> bool:
    """Returns True if the modules of a part are installed; they are not imported."""
    return all(map(_is_there, PARTS[part]))


def require(part: str, feature: str, *, parameter: str = "") -> None:
    """Raises `PartError` (code ``part.missing``) if a part is not installed.

    Args:
        part: The name of the part, a key of `PARTS`.
        feature: The feature that needs it; begins the message.
        parameter: name of the argument that asks for it, where the feature begins with it.
    """
    lacking = [module for module in PARTS[part] if not _is_there(module)]
    if lacking:
        *all_but_last, last = lacking
        listed = f"{', '.join(all_but_last)} and {last}" if all_but_last else last
        raise PartError(f"{feature} needs {listed}; install it with: {install(part)}", parameter=parameter)


def install(part: str) -> str:
    """The command that installs a part."""
    return f"pip install 'subnet-nas[{part}]'"


def missing_part(error: ModuleNotFoundError) -> PartError | None:
    """The error for a failed import of a part's module; None for any other module."""
    name = (error.name or "").partition(".")[0]
    part = next((part for part, modules in PARTS.items() if name in modules), None)
    return None if part is None else PartError(f"this needs {name}; install it with: {install(part)}")


def _is_there(module: str) -> bool:
    return find_spec(module) is not None
