"""Runs the measuring process from this folder, without the modules of other folders."""

import importlib.util
import sys
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("worker", Path(__file__).with_name("__init__.py"))
assert _SPEC is not None and _SPEC.loader is not None  # noqa: PT018 - for the type checker
_SPEC.loader.exec_module(sys.modules.setdefault("worker", importlib.util.module_from_spec(_SPEC)))
importlib.import_module("worker.main").main()
