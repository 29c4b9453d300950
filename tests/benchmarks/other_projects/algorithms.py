"""Search algorithms of other projects as plug-ins; they run in the Python that NAS_OTHER_PYTHON names.

python -m venv others && others/bin/pip install botorch==0.18.1 syne-tune==0.16.0
export NAS_OTHER_PYTHON=others/bin/python
nas bench search TABLE.yaml ... --algorithms guided,tests.benchmarks.other_projects.algorithms:QNEHVI
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nas.search.history import ProposingSearch
from nas.search.problem.objectives import Constraint, Objective
from nas.search.problem.pareto import non_dominated
from supernets.space import Architecture, SearchSpace

PYTHON = "NAS_OTHER_PYTHON"
_WORKER = Path(__file__).with_name("worker.py")
_NEIGHBOURS, _RANDOM = 200, 100
_ROUNDS = 20
"""Rounds in which an algorithm may propose known architectures before random ones are drawn."""


class OtherProject(ProposingSearch):
    """An algorithm of `worker.py`, which is told genes and minimised values and proposes genes.

    Random architectures come first, as many as `first`, and where it proposes too few unknown ones. It keeps a state of its
    own, so that a replay after an interruption goes on with other random numbers.
    """

    algorithm: ClassVar[str]
    """Its name in the worker."""
    first: ClassVar[int] = 0

    def __init__(
        self, space: SearchSpace, objectives: Sequence[Objective], *, seed: int, constraints: Sequence[Constraint] = ()
    ) -> None:
        super().__init__(space, objectives, seed=seed, constraints=constraints)
        self._n_told = 0
        self._process = subprocess.Popen(
            [_python(), str(_WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )  # fmt: skip
        self._end = weakref.finalize(self, _end, self._process)
        levels = self._genes.levels.tolist()
        self._call({"algorithm": self.algorithm, "levels": levels, "seed": seed})

    @classmethod
    def versions(cls) -> list[str]:
        """What its results depend on beside this file: the worker and the versions of its libraries."""
        told = subprocess.run([_python(), str(_WORKER), cls.algorithm], capture_output=True, text=True, check=True)
        return [hashlib.sha256(_WORKER.read_bytes()).hexdigest()[:16], *told.stdout.split("\n")]

    def _propose(self, n: int, rng: np.random.Generator) -> list[Architecture]:
        known = self._history.architectures
        if len(known) < self.first:
            return []
        new = known[self._n_told :]
        self._n_told = len(known)
        rows, values = self._genes.rows(new).tolist(), self._history.values(new)[0].tolist()
        self._call({"rows": rows, "values": values})
        found: dict[Architecture, None] = {}
        for _ in range(_ROUNDS):
            asked = self._call({"ask": n - len(found), "candidates": self._candidates(rng)})
            proposed = np.array(asked, dtype=np.int64).reshape(len(asked), len(self._genes.levels))
            for architecture in self._genes.architectures(self._genes.canonical(proposed)):
                if architecture not in self._history.known:
                    found[architecture] = None
            if len(found) >= n:
                break
        return list(found)[:n]

    def _candidates(self, rng: np.random.Generator) -> list[list[int]]:
        """Genes from which it must choose; none if it proposes its own."""
        return []

    def _call(self, request: dict[str, Any]) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the worker has no pipes")
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the worker of {self.algorithm} ended; its error is above")
        return json.loads(answer)


class QNEHVI(OtherProject):
    """qLogNEHVI of BoTorch (Daulton et al. 2021, arXiv 2105.08195; Ament et al. 2023, arXiv 2310.20708).

    Gaussian processes on genes as categories (`MixedSingleTaskGP`), after 20 random architectures. A batch is chosen greedily
    from 300 unknown candidates: neighbours of the front and random ones.
    """

    algorithm = "qnehvi"
    first = 20

    def _candidates(self, rng: np.random.Generator) -> list[list[int]]:
        known = self._history.architectures
        front = [known[i] for i in np.flatnonzero(non_dominated(self._history.values(known)[0]))]
        near = self._genes.neighbours(self._genes.rows(front), _NEIGHBOURS, rng)
        rows = np.vstack([near, self._genes.random(_RANDOM, rng)])
        unknown = [a for a in dict.fromkeys(self._genes.architectures(rows)) if a not in self._history.known]
        found: list[list[int]] = self._genes.rows(unknown).tolist()
        return found


class MOREA(OtherProject):
    """MO-REA of syne-tune (Salinas et al. 2022): regularized evolution by non-dominated sorting, with its defaults."""

    algorithm = "morea"


class Uniform(OtherProject):
    """Uniform genes: the worker alone, for tests of the protocol."""

    algorithm = "uniform"


def _python() -> str:
    return os.environ.get(PYTHON, sys.executable)


def _end(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    process.wait(timeout=60)
