"""All commands of the application. Importing a module registers its commands; `nas.cli.panels` has their order."""

from nas.cli import (  # noqa: F401
    benchmarks,
    compress,
    exports,
    hardware,
    installation,
    jobs,
    models,
    remote,
    results,
    service,
    stored,
    worker,
)
from nas.cli.app import app as app
