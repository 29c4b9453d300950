"""Diagnoses an installation: software, machine, runs, and server, with remedies."""

from nas.doctor.examination import Targets, examine
from nas.doctor.finding import Finding, State

__all__ = ["Finding", "State", "Targets", "examine"]
