"""A script for `test_kill`: forks writers of one run's database and kills each with SIGKILL at a random moment.

Usage: ``python -m tests.nas.engine.store.interrupted_writers PATH REPETITIONS SEED``. Prints, for each writer, the number of
measurements that it had counted, beginning with those of its predecessors. One process forks them all, because a fresh
interpreter takes a hundred times longer to start than a writer lives.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

from nas.engine.store.sql import SqlStore
from tests.contracts.store import architecture, measured

MOST_COUNTED = 40


def write_for_ever(path: Path, out: int) -> None:
    """Writes measurements, asks and facts; after each commit of a measurement its count goes out as a line."""
    store = SqlStore.open(path, create=True, driver=True)
    done = len(store.measurements())
    asked = len(store.asks())
    while True:
        if asked == done:  # otherwise the last writer was killed between its ask and its measurement
            store.record_ask(asked, [architecture(asked)])
            asked += 1
        store.add(measured(done, samples=bytes(3000)))
        done += 1
        store.update_state(epoch=done, searched_seconds=float(done))
        os.write(out, f"{done}\n".encode())


def kill_one(path: Path, rng: random.Random) -> int:
    """The last count of a writer that was killed after a random number of counts, at whatever it was doing then."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            write_for_ever(path, writing)
        finally:
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading, "rb") as counts:
        lines = [counts.readline() for _ in range(rng.randrange(1, MOST_COUNTED))]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        lines += counts.readlines()
    return int(lines[-1])  # fails on an empty line: the writer ended of itself


def main() -> None:
    path, repetitions, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = random.Random(seed)
    for _ in range(repetitions):
        print(kill_one(path, rng), flush=True)
        sys.stdin.readline()  # the test looks at the database, then lets the next writer start


if __name__ == "__main__":
    main()
