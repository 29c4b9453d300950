"""Neural architecture search: joins supernets, predictors and hardware profiles into jobs, runs and fronts.

import nas
run = nas.run(nas.load_job("digits-cnn.yaml"))
run.export("digits.onnx", select="latency_ms<=0.02")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.config import load_job as load_job
    from nas.engine.driver import resume as resume
    from nas.engine.driver import search as run
    from nas.engine.driver import train as train
    from nas.engine.run import open_run as open_run
    from nas.engine.run_options import RunOptions as RunOptions

__all__ = ["RunOptions", "load_job", "open_run", "resume", "run", "train"]

_HOMES = {
    "RunOptions": ("nas.engine.run_options", "RunOptions"),
    "load_job": ("nas.config", "load_job"),
    "open_run": ("nas.engine.run", "open_run"),
    "resume": ("nas.engine.driver", "resume"),
    "run": ("nas.engine.driver", "search"),
    "train": ("nas.engine.driver", "train"),
}


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: the command's help needs no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return __all__
