"""The command line. Data go to stdout, progress and errors to stderr."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys

from hardware_profiles.errors import ProfilingError
from nas.cli.interruption import INTERRUPTED, INTERRUPTION
from nas.errors import NasError
from nas.plugins.parts import missing_part
from predictors.errors import PredictorError
from supernets.errors import SupernetError

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE)
_LONGEST_WORD, _EDGE = 400, 60
"""Characters of a word in a message: paths may be long, but a message is to be read."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters by which the name of a file would command a terminal."""


def main() -> None:
    """The entry point of the command ``nas``."""
    # Before the commands are imported, which takes longer than a user's second thought.
    INTERRUPTION.handle(signal.SIGINT)
    _keep_stdout_for_data()
    with INTERRUPTION.quiet():
        try:
            try:
                from nas.cli.commands import app

                app()
            except ModuleNotFoundError as error:
                raise missing_part(error) or error from None
            finally:
                if sys.stdout is not None:  # it is None where the caller has closed it
                    sys.stdout.flush()  # Python's own flush at the end cannot report an error
        except BaseException as error:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            if INTERRUPTION.noted or isinstance(error, KeyboardInterrupt):
                print("interrupted", file=sys.stderr)
                sys.exit(INTERRUPTED)
            if isinstance(error, OSError) and error.errno in _UNWRITABLE:
                _end_unwritable(error)
            if not isinstance(error, Exception) or not _is_user_error(error):
                raise
            print(shortened("\n".join([f"error: {error}", *getattr(error, "__notes__", ())])), file=sys.stderr)
            sys.exit(1)


def _keep_stdout_for_data() -> None:
    """Leaves stdout to Python: what libraries print from C goes to stderr, as it would end a script that reads JSON.

    HiGHS, for one, prints a line in some solutions, whatever its options say.
    """
    out = sys.stdout
    if not isinstance(out, io.TextIOWrapper):  # replaced by the caller, or closed
        return
    # A terminal may lack ±, and names of files may be no text.
    errors = "backslashreplace" if out.errors == "strict" else out.errors
    if sys.stderr is None or out is not sys.__stdout__:
        out.reconfigure(errors=errors)
        return
    line_buffering = out.line_buffering or out.write_through
    sys.stdout = os.fdopen(os.dup(1), "w", 1 if line_buffering else -1, encoding=out.encoding, errors=errors)
    os.dup2(2, 1)


def _is_user_error(error: Exception) -> bool:
    return isinstance(error, NasError | SupernetError | ProfilingError | PredictorError)


def shortened(text: str) -> str:
    """A message without control characters, with the ends alone of overlong words, such as of a name pasted by mistake."""

    def ends(word: re.Match[str]) -> str:
        return f"{word[0][:_EDGE]}... ({len(word[0]) - 2 * _EDGE:,} more characters) ...{word[0][-_EDGE:]}"

    text = _CONTROL.sub(lambda character: repr(character[0])[1:-1], text)
    return re.sub(rf"\S{{{_LONGEST_WORD},}}", ends, text)


def _end_unwritable(error: OSError) -> None:
    """Ends the command after output that cannot be written; says so, unless its reader has left."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
    if error.errno != errno.EPIPE:
        where = error.filename or "the output"
        print(f"error: {where} cannot be written: {error.strerror}; free space there", file=sys.stderr)
    sys.exit(1)
