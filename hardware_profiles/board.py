"""What an ssh host runs first, sent to it and not installed there: looks at its Python, then becomes the worker.

It is executed with the interpreter's input standing behind itself, and reads one more command: the worker's source.
Written so that any Python 3 reads it, and can say that it is too old.
"""

import importlib
import json
import sys

_OLDEST = (3, 9)
_NEEDED = ("numpy", "onnxruntime")


def lacking() -> str:
    """What this Python has not and the worker needs; empty where nothing is missing."""
    if sys.version_info < _OLDEST:
        return "Python %d.%d or newer is needed" % _OLDEST  # noqa: UP031
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:  # a build for another processor or numpy raises whatever it likes
            return "`import %s` fails (%s: %s)" % (name, type(error).__name__, " ".join(str(error).split()))  # noqa: UP031
    return ""


def main() -> None:
    """Tells what is missing and ends, or runs the worker."""
    if sys.path[:1] == [""]:
        del sys.path[0]  # files that lie in the home folder are no modules
    found = lacking()
    version = "%d.%d.%d" % sys.version_info[:3]  # noqa: UP031
    sys.stdout.write(json.dumps({"event": "lacking" if found else "here", "message": found, "python": version}) + "\n")
    sys.stdout.flush()
    if found:
        return
    (length,) = json.loads(sys.stdin.buffer.readline())["payloads"]
    source = sys.stdin.buffer.read(length)
    exec(compile(source, "worker.py", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    main()
