"""What an ssh host runs first, sent to it and not installed there: looks at its Python, then becomes the worker.

It is executed with the interpreter's input standing behind itself, and reads one more command: the worker's source.
Written so that any Python 3 reads it, and can say that it is too old.
"""

import importlib
import json
import sys

_OLDEST = (3, 9)
_NEEDED = ("numpy", "onnxruntime")


def lacking() -> "tuple[str, str]":
    """The module that this Python lacks and the worker needs ("python" where it is too old itself), and what happened.

    Both are empty where nothing is missing.
    """
    if sys.version_info < _OLDEST:
        return "python", "Python %d.%d or newer is needed" % _OLDEST  # noqa: UP031
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:  # a build for another processor or numpy raises whatever it likes
            told = " ".join(str(error).split())
            return name, "`import %s` fails (%s: %s)" % (name, type(error).__name__, told)  # noqa: UP031
    return "", ""


def main() -> None:
    """Tells what is missing and ends, or runs the worker."""
    if sys.path[:1] == [""]:
        del sys.path[0]  # files that lie in the home folder are no modules
    module, message = lacking()
    about = {
        "event": "lacking" if module else "here",
        "module": module,
        "message": message,
        "python": "%d.%d.%d" % sys.version_info[:3],  # noqa: UP031
    }
    sys.stdout.write(json.dumps(about) + "\n")
    sys.stdout.flush()
    if module:
        return
    (length,) = json.loads(sys.stdin.buffer.readline())["payloads"]
    source = sys.stdin.buffer.read(length)
    exec(compile(source, "worker.py", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
