"""The other side of `algorithms`: imports one library alone, and nothing of this project; a JSON request and answer a line.

``python worker.py ALGORITHM`` prints the versions of its libraries. Without arguments, the first line has the algorithm, the
numbers of options and the seed; the following ones tell genes with minimised values, or ask for genes.
"""

from __future__ import annotations

import json
import random
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any

Rows = list[list[int]]
LIBRARIES = {"qnehvi": ("botorch", "gpytorch", "torch"), "morea": ("syne-tune",), "uniform": ()}
MC_SAMPLES = 64


class Uniform:
    """Uniform genes."""

    def __init__(self, levels: list[int], seed: int) -> None:
        self.levels, self.random = levels, random.Random(seed)

    def tell(self, rows: Rows, values: list[list[float]]) -> None:
        """Learns nothing."""

    def ask(self, n: int, candidates: Rows) -> Rows:
        """Up to `n` rows of genes."""
        return [[self.random.randrange(size) for size in self.levels] for _ in range(n)]


class QNEHVI(Uniform):
    """See `algorithms.QNEHVI`."""

    def __init__(self, levels: list[int], seed: int) -> None:
        super().__init__(levels, seed)
        self.torch: Any = import_module("torch")
        self.torch.set_num_threads(1)
        self.torch.manual_seed(seed)
        self.rows: Rows = []
        self.values: list[list[float]] = []

    def tell(self, rows: Rows, values: list[list[float]]) -> None:
        """Adds data."""
        self.rows += rows
        self.values += values

    def ask(self, n: int, candidates: Rows) -> Rows:
        """Up to `n` of the candidates."""
        if not candidates:
            return []
        x = self.torch.tensor(self.rows, dtype=self.torch.double)
        y = -self.torch.tensor(self.values, dtype=self.torch.double)
        choices = self.torch.tensor(candidates, dtype=self.torch.double)
        best = y[import_module("botorch.utils.multi_objective.pareto").is_non_dominated(y)]
        reference = import_module("botorch.utils.multi_objective.hypervolume").infer_reference_point(best)
        sampling = import_module("botorch.sampling.normal")
        sampler = sampling.SobolQMCNormalSampler(self.torch.Size([MC_SAMPLES]), seed=self.random.randrange(2**31))
        logei = import_module("botorch.acquisition.multi_objective.logei")
        acquisition = logei.qLogNoisyExpectedHypervolumeImprovement(
            self._model(x, y), ref_point=reference, X_baseline=x, sampler=sampler, prune_baseline=True
        )
        optimize = import_module("botorch.optim").optimize_acqf_discrete
        found, _ = optimize(acquisition, q=min(n, len(candidates)), choices=choices, max_batch_size=256, unique=True)
        return [[int(gene) for gene in row] for row in found.tolist()]

    def _model(self, x: Any, y: Any) -> Any:
        """Fitted processes, one for each objective, on genes as categories."""
        models = import_module("botorch.models")
        standardize = import_module("botorch.models.transforms").Standardize
        made = [
            models.MixedSingleTaskGP(x, y[:, i : i + 1], list(range(x.shape[1])), outcome_transform=standardize(m=1))
            for i in range(y.shape[1])
        ]
        model = models.ModelListGP(*made)
        likelihood = import_module("gpytorch.mlls").SumMarginalLogLikelihood(model.likelihood, model)
        import_module("botorch.fit").fit_gpytorch_mll(likelihood)
        return model


class MOREA(Uniform):
    """See `algorithms.MOREA`."""

    def __init__(self, levels: list[int], seed: int) -> None:
        super().__init__(levels, seed)
        choice = import_module("syne_tune.config_space").choice
        space = {f"gene_{i}": choice(list(range(size))) for i, size in enumerate(levels)}
        package = "syne_tune.optimizer.schedulers.multiobjective.multi_objective_regularized_evolution"
        self.searcher = import_module(package).MultiObjectiveRegularizedEvolution(
            space, points_to_evaluate=[], random_seed=seed
        )
        self.n_told = 0

    def tell(self, rows: Rows, values: list[list[float]]) -> None:
        """Adds members of the population; inactive genes are random."""
        for row, metrics in zip(rows, values, strict=True):
            genes = [self.random.randrange(n) if gene < 0 else gene for gene, n in zip(row, self.levels, strict=True)]
            config = {f"gene_{i}": gene for i, gene in enumerate(genes)}
            own = type(self.searcher)
            told = "on_trial_complete" if "on_trial_complete" in vars(own) else "on_trial_result"
            getattr(self.searcher, told)(self.n_told, config, metrics)
            self.n_told += 1

    def ask(self, n: int, candidates: Rows) -> Rows:
        """`n` suggestions, which may be known."""
        suggested = [self.searcher.suggest() for _ in range(n)]
        return [[int(config[f"gene_{i}"]) for i in range(len(self.levels))] for config in suggested]


def main() -> None:
    """Answers requests until there are no more."""
    if len(sys.argv) > 1:
        print("\n".join(f"{name} {version(name)}" for name in LIBRARIES[sys.argv[1]]))
        return
    out, sys.stdout = sys.stdout, sys.stderr  # libraries print
    start = json.loads(sys.stdin.readline())
    kinds = {"qnehvi": QNEHVI, "morea": MOREA, "uniform": Uniform}
    algorithm = kinds[start["algorithm"]](start["levels"], start["seed"])
    print("{}", file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = None
        if "ask" in request:
            answer = algorithm.ask(request["ask"], request["candidates"])
        else:
            algorithm.tell(request["rows"], request["values"])
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
