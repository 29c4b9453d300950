"""The runtime of the documentation, ncnn: a class of another module, which converts models, measured by the real process."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from hardware_profiles.runtimes.base import Runtime
from nas.plugins.testing import RuntimeContract

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "extending" / "runtime.md"


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's module, importable."""
    pytest.importorskip("ncnn")
    pytest.importorskip("pnnx")
    found = re.search(r'```python title="ncnn_runtime.py"\n(.*?)```', PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    folder = tmp_path_factory.mktemp("ncnn")
    (folder / "ncnn_runtime.py").write_text(found[1], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield
        sys.modules.pop("ncnn_runtime", None)


@pytest.mark.slow
class TestNcnn(RuntimeContract):
    @staticmethod
    def make() -> Runtime:
        made: Runtime = import_module("ncnn_runtime").Ncnn()
        return made
