"""All commands of the application. Importing a module registers its commands, in the order of the help text."""

from nas.cli import benchmarks, doctor, finetune, hardware, jobs, labels, remote, results, service, stored, worker  # noqa: F401
from nas.cli.app import app as app
