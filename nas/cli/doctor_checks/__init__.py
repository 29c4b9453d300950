"""Diagnoses an installation: software, machine, runs, and server, with remedies."""

from nas.cli.doctor_checks.all_checks import Targets, examine
from nas.cli.doctor_checks.finding import Finding, State

__all__ = ["Finding", "State", "Targets", "examine"]
