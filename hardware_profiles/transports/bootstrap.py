"""The first program on an ssh host: checks the host's Python, then runs the worker. It is sent, not installed.

It continues to read the interpreter's input, whose next command is the worker's source. Its syntax is that of any
Python 3, so that an old one can report its version.
"""

import importlib
import json
import os
import sys

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
    worker, runtime = (sys.stdin.buffer.read(n) for n in json.loads(sys.stdin.buffer.readline())["payloads"])
    exec(
        compile(worker, "worker.py", "exec"),
        {"__name__": "__main__", "RUNTIME_SOURCE": runtime},
    )


if __name__ == "__main__":
    main()
