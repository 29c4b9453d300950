"""Looks at an installation, the machine, the runs and the server, and says what is wrong and what to do."""

from nas.doctor.examination import Asked, examine
from nas.doctor.finding import Finding, State

__all__ = ["Asked", "Finding", "State", "examine"]
