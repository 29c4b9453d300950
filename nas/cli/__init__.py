"""The command line. Data go to stdout, progress and errors to stderr."""

from __future__ import annotations

import sys

# Importing a module registers its commands, in the order of the help text.
from nas.cli import benchmarks, doctor, finetune, hardware, jobs, remote, results, service, worker  # noqa: F401
from nas.cli.app import INTERRUPTED, app


def is_user_error(error: Exception) -> bool:
    from hardware_profiles.errors import ProfilingError
    from nas.errors import NasError
    from predictors.errors import PredictorError
    from supernets.errors import SupernetError

    return isinstance(error, NasError | SupernetError | ProfilingError | PredictorError)


def main() -> None:
    """The entry point of the command ``nas``."""
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("interrupted; all finished measurements are kept", file=sys.stderr)
        raise
    except Exception as error:
        if not is_user_error(error):
            raise
        print("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        sys.exit(1)
