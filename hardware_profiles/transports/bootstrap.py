"""The first program on an ssh host: checks the host's Python, then runs the worker. It is sent, not installed.

It continues to read the interpreter's input, whose next command has an archive of the worker's package. Its syntax is that of
any Python 3, so that an old one can report its version.
"""

import importlib
import json
import os
import sys
import tempfile

_OLDEST = (3, 9)
_NEEDED = ("numpy", os.environ.get("MEASURED_PACKAGE", "onnxruntime"))


def lacking() -> "tuple[str, str]":
    """The module that the worker needs and this Python lacks ("python" if it is too old itself), and the reason.

    Both are empty if nothing is missing.
    """
    if sys.version_info < _OLDEST:
        return "python", "Python %d.%d or newer is needed" % _OLDEST  # noqa: UP031
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:  # a build for another processor or numpy may raise anything
            message = " ".join(str(error).split())
            return name, "`import %s` fails (%s: %s)" % (name, type(error).__name__, message)  # noqa: UP031
    return "", ""


def run_worker(archive: bytes) -> None:
    """Runs the worker of an archive, which is a file only while the worker's modules are loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "worker.pyz")
        with open(path, "wb") as file:
            file.write(archive)
        sys.path.insert(0, path)
        worker = importlib.import_module("worker.main")
        del sys.path[0]
    worker.main()


def main() -> None:
    """Reports what is missing and ends, or runs the worker."""
    if sys.path[:1] == [""]:
        del sys.path[0]  # files in the home folder are not modules
    module, message = lacking()
    about = {
        "event": "lacking" if module else "ready",
        "module": module,
        "message": message,
        "python": "%d.%d.%d" % sys.version_info[:3],  # noqa: UP031
    }
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()
    if module:
        return
    (length,) = json.loads(sys.stdin.buffer.readline())["payloads"]
    run_worker(sys.stdin.buffer.read(length))


if __name__ == "__main__":
    main()
