"""``python -m tests.docs.python_session``: runs pieces of Python in one namespace, as a reader does who pastes them in turn.

Reads a JSON string of source from each line of stdin, and answers with a line: the traceback, or "" where there is none.
"""

from __future__ import annotations

import json
import os
import sys
import traceback

import pytest

from tests.nas import short_rounds


def main() -> None:
    """Runs until stdin ends; what the code prints goes to stderr. Latencies are measured in short rounds."""
    short_rounds.take_short_rounds(pytest.MonkeyPatch())
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    namespace = vars(sys.modules["__main__"])
    for line in sys.stdin:
        problem = ""
        try:
            exec(compile(json.loads(line), "block", "exec"), namespace)
        except BaseException:
            problem = traceback.format_exc()
        sys.stdout.flush()
        answers.write(json.dumps(problem) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
