"""All commands of the application. Importing a module registers its commands; `nas.cli.panels` has their order."""

from nas.cli import benchmarks, doctor, finetune, hardware, jobs, labels, remote, results, service, stored, worker  # noqa: F401
from nas.cli.app import app as app
