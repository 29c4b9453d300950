"""The jobs of drivers: started until the runner confirms it, stopped again where they do not end; and their output."""

from __future__ import annotations

import logging
import os
import re
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from nas.engine.formatting import without_ansi
from nas.engine.store.folder import RunFolder, RunsFolder
from nas.errors import ServiceError
from nas.service.jobs.job_runner import JobRunner, JobState
from nas.service.state import RequestedState, Submission

_STOP_AGAIN_S = 10.0
"""Before a job that has not ended is stopped again."""
_LOG_LINES, _LOG_CHARACTERS, _LOG_BYTES = 3, 600, 64 * 1024
"""Of its last output that the reason of a failed run has, and that is searched for lines."""

_BEGUN_COLOUR = re.compile(r"\x1b[^A-Za-z]{0,20}$")

logger = logging.getLogger(__name__)


class DriverJobs:
    """The drivers of submitted runs on a job runner, which may fail to answer.

    Args:
        runs: the folder of the runs, which keep their drivers' output.
        command: the command line of a submission's driver.
        warn: logs a warning about a run, once.
        clock: seconds, of any origin.

    Attributes:
        problem: the runner's last error; "" since it answered again, and has started all jobs.
    """

    def __init__(
        self,
        runner: JobRunner,
        runs: RunsFolder,
        command: Callable[[Submission], list[str]],
        *,
        warn: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner, self._runs, self._command, self._warn, self._clock = runner, runs, command, warn, clock
        self._unconfirmed: set[str] = set()  # jobs that are recorded as started, and may not have been
        self._stopped: dict[str, float] = {}  # when jobs were stopped, those of tasks included
        self.problem = ""

    def states(self, jobs: Collection[str]) -> Mapping[str, JobState] | None:
        """The states of these jobs; None where the runner does not answer."""
        try:
            states = self._runner.states(jobs)
        except ServiceError as error:
            if str(error) != self.problem:
                logger.warning("no job can be run now: %s", error)
            self.problem = str(error)
            return None
        if not self._unconfirmed:
            self.problem = ""
        return states

    def confirmed(self, submissions: Sequence[Submission], jobs: Mapping[str, JobState]) -> Mapping[str, JobState]:
        """The jobs, with those pending whose start is unconfirmed, and is tried again here: their drivers have not died."""
        wanted = {s.job: s for s in submissions if s.wanted is RequestedState.DRIVEN}
        self._unconfirmed = {job for job in self._unconfirmed if job in wanted and job not in jobs}
        states = {**jobs, **dict.fromkeys(self._unconfirmed, JobState.PENDING)}
        for job in sorted(self._unconfirmed):
            self.start(wanted[job])
        return states

    def start(self, submission: Submission) -> None:
        """Starts the job of a submission that is recorded as started; `confirmed` tries again where that fails."""
        job = str(submission.job)
        self._unconfirmed.add(job)
        try:
            self._runner.start(job, self._command(submission), new_log(self._folder(submission), job))
        except ServiceError as error:
            self.problem = str(error)
            self._warn(submission.run, f"not started yet: {error}")
            return
        self._unconfirmed.discard(job)
        if not self._unconfirmed:
            self.problem = ""

    def stop(self, job: str) -> bool:
        """Stops a job; False where that was done a moment ago.

        Raises:
            ServiceError: the runner does not answer.
        """
        now = self._clock()
        self._stopped = {stopped: at for stopped, at in self._stopped.items() if now < at + _STOP_AGAIN_S}
        if job in self._stopped:
            return False
        self._runner.stop(job)
        self._stopped[job] = now
        return True

    def why_died(self, submission: Submission, times: int) -> str:
        """The reason of a run that failed since its drivers died that many times in a row, with the last one's last lines."""
        reason = "its driver died" + (f" {times} times in a row without any progress" if times > 1 else "")
        output = tail(log_of(self._folder(submission), str(submission.job)), _LOG_BYTES)
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        last = " | ".join(lines[-_LOG_LINES:])[-_LOG_CHARACTERS:]
        return f"{reason}; it last wrote: {last}" if last else f"{reason}, without any output"

    def _folder(self, submission: Submission) -> RunFolder:
        return RunFolder(self._runs.root / submission.run)


def new_log(folder: RunFolder, job: str) -> Path:
    """The file for the output of a driver's job, in a folder that exists.

    Raises:
        ServiceError: the run's folder is gone or cannot be written.
    """
    try:
        folder.logs.mkdir(exist_ok=True)
    except OSError as error:
        raise ServiceError(f"{folder.logs} cannot be made: {error.strerror}", code="file.not-writable") from None
    return log_of(folder, job)


def log_of(folder: RunFolder, job: str) -> Path:
    """The file with the output of a driver's job, which may not exist."""
    return folder.logs / f"{job}.log"


def output_after(folder: RunFolder, after: int, n_bytes: int) -> tuple[str, int]:
    """The output of all drivers of a run after a number of its bytes, the oldest first, and the number of bytes up to its end,
    without colours of terminals.

    Args:
        after: Bytes that are left out; more than there are count as none.
        n_bytes: Largest number of bytes of the text, which are the last ones.
    """
    # By their last lines: the numbers of drivers begin again where the server has forgotten the run.
    paths = sorted(folder.logs.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    total = sum(path.stat().st_size for path in paths)
    begin, content = max(after if after <= total else 0, total - n_bytes), b""
    for path in paths:
        size = path.stat().st_size
        if begin < size:
            with path.open("rb") as file:
                file.seek(max(0, begin))
                content += file.read(size - max(0, begin))
        begin -= size
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(content)
    # What is not complete yet belongs to the next part: a character of several bytes, and a colour.
    begun_colour = _BEGUN_COLOUR.search(text)
    unfinished = "" if begun_colour is None else begun_colour[0]
    return without_ansi(text.removesuffix(unfinished)), total - len(decoder.getstate()[0]) - len(unfinished.encode())


def tail(path: Path, n_bytes: int) -> str:
    """The last bytes of a file as text; "" where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - n_bytes))
            return file.read(n_bytes).decode(errors="replace")
    except FileNotFoundError:
        return ""
