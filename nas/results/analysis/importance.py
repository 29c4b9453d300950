"""Importance of genes for each objective, by an additive model of the run's evaluations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.results.analysis.network_values import values_of
from nas.results.analysis.report import RunReport
from nas.search.problem.objectives import Goal
from predictors.folds import evenly_spaced
from supernets.space import INACTIVE, Option, SearchSpace

MIN_ROWS, MAX_ROWS = 20, 2000
_FOLDS = 5
_PENALTIES = (0.3, 3.0, 30.0, 300.0)
_SHUFFLES = 3
_SURE = 2.0
"""The model's held-out squared errors must be this many standard errors below those of the mean."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Importance:
    """Importance by an additive model: ridge regression on the options of each gene, without interactions.

    Attributes:
        n: Number of evaluations that the model was fitted to.
        r2: Share of the variance of held-out evaluations that it explains; NaN where there are too few.
        by_gene: Share of the variance that each gene accounts for, the largest first: half of the squared error added by
            shuffling its options among the held-out networks that have the gene. For independent genes, the shares add up
            to `r2`. Empty where `refused`; 0 for a gene with one option in all networks.
        effects: By gene and by option, the objective's difference from its mean over the networks that have the gene, in its
            unit, or as a share of the value for costs, which are modelled by their logarithm.
        relative: True if effects are shares.
        refused: The reason why there is no result; "" where there is one.
    """

    n: int
    r2: float
    by_gene: Mapping[str, float]
    effects: Mapping[str, Mapping[Option, float]]
    relative: bool
    refused: str = ""


def importance_of(report: RunReport, space: SearchSpace) -> dict[str, Importance]:
    """Importance by objective name, deterministic; of at most `MAX_ROWS` evaluations, evenly spaced."""
    n = len(report.evaluated)
    points = report.evaluated.take(evenly_spaced(n, MAX_ROWS))
    genes = np.array([p.architecture.genes for p in points], dtype=np.int64).reshape(-1, len(space))
    design = _Design.from_genes(genes, space) if len(points) >= MIN_ROWS else None
    importance_by_objective = {}
    for objective in report.objectives:
        values = values_of(points, objective.name)
        relative = objective.goal is Goal.MINIMIZE and bool((values > 0).all())
        nothing = Importance(len(points), math.nan, {}, {}, relative)
        if design is None:
            why = f"{len(points)} evaluations are too few; at least {MIN_ROWS} are needed"
            importance_by_objective[objective.name] = replace(nothing, refused=why)
        elif np.ptp(values) == 0:
            importance_by_objective[objective.name] = replace(nothing, refused="its values are all the same")
        else:
            importance_by_objective[objective.name] = _importance(
                design, np.log(values) if relative else values, nothing
            )
    return importance_by_objective


@dataclass(frozen=True)
class _Design:
    """The data that the models of all objectives share.

    Attributes:
        genes: (n, n_genes).
        columns: (n, d), see `_columns`; owner: gene of each, (d,).
        folds: Rows of each fold of cross-validation.
        solvers: Solvers for the rows outside each fold, and last for all rows.
    """

    space: SearchSpace
    genes: NDArray[np.int64]
    columns: Array
    owner: NDArray[np.int64]
    folds: list[NDArray[np.int64]]
    solvers: list[_Solver]

    @classmethod
    def from_genes(cls, genes: NDArray[np.int64], space: SearchSpace) -> _Design:
        columns, owner = _columns(genes, space)
        rows = np.arange(len(genes))
        folds = np.array_split(np.random.default_rng(0).permutation(rows), _FOLDS)
        solvers = [_Solver.from_rows(columns, np.setdiff1d(rows, fold)) for fold in [*folds, rows[:0]]]
        return cls(space, genes, columns, owner, folds, solvers)


@dataclass(frozen=True)
class _Solver:
    """Ridge regression of any labels on some rows of a design, for all penalties."""

    rows: NDArray[np.int64]
    x: Array
    normal: Array

    @classmethod
    def from_rows(cls, columns: Array, rows: NDArray[np.int64]) -> _Solver:
        x = columns[rows]
        return cls(rows, x, x.T @ x)

    def weights(self, y: Array) -> Array:
        """Weights for labels of all rows (n,), one row for each penalty, (n_penalties, d)."""
        labels = y[self.rows]
        projected = self.x.T @ (labels - labels.mean())
        identity = np.eye(len(projected))
        return np.array([np.linalg.solve(self.normal + penalty * identity, projected) for penalty in _PENALTIES])


def _importance(design: _Design, y: Array, nothing: Importance) -> Importance:
    """Importance for labels (n,) that are not all equal; `nothing` is filled in."""
    weights = [solver.weights(y) for solver in design.solvers]
    held_out = [
        (fold, y[fold] - y[solver.rows].mean(), ws)
        for fold, solver, ws in zip(design.folds, design.solvers, weights, strict=False)
    ]
    errors = sum(((deviations - ws @ design.columns[fold].T) ** 2).sum(axis=1) for fold, deviations, ws in held_out)
    best = int(np.argmin(errors))
    by_mean = sum(float((deviations**2).sum()) for _, deviations, _ in held_out)
    reduction = np.concatenate(
        [deviations**2 - (deviations - design.columns[f] @ ws[best]) ** 2 for f, deviations, ws in held_out]
    )
    r2 = float(reduction.sum()) / by_mean
    if reduction.mean() <= _SURE * reduction.std(ddof=1) / math.sqrt(len(y)):
        why = f"a model of the genes predicts it no better than its mean does (R² {r2:.2f}, cross-validated)"
        return replace(nothing, r2=r2, refused=why)
    rng = np.random.default_rng(0)
    losses = np.zeros(len(design.space))
    for fold, deviations, ws in held_out:
        parts = _parts(design.columns[fold], design.owner, ws[best], len(design.space))
        losses += _shuffling_losses(parts, design.genes[fold], deviations, rng)
    order = np.argsort(-losses, kind="stable").tolist()
    names = [choice.name for choice in design.space.choices]
    effects = {names[j]: _effects(design, weights[-1][best], j, relative=nothing.relative) for j in order}
    by_gene = {names[j]: max(float(losses[j]) / by_mean, 0.0) for j in order}
    return replace(nothing, r2=r2, by_gene=by_gene, effects=effects)


def _columns(genes: NDArray[np.int64], space: SearchSpace) -> tuple[Array, NDArray[np.int64]]:
    """One column per option, centred over the networks that have its gene and 0 elsewhere, (n, d); their genes, (d,).

    So the effect of having a gene at all is attributed to the gene that decides about it (a stage's depth).
    """
    columns, owner = [], []
    for j, choice in enumerate(space.choices):
        active = genes[:, j] != INACTIVE
        for level in range(len(choice.options)):
            column = (genes[:, j] == level).astype(np.float64)
            columns.append(np.where(active, column - column[active].mean() if active.any() else 0.0, 0.0))
            owner.append(j)
    return np.column_stack(columns), np.array(owner)


def _parts(columns: Array, owner: NDArray[np.int64], weights: Array, n_genes: int) -> Array:
    """The contribution of each gene to each prediction, (n, n_genes)."""
    parts = np.zeros((len(columns), n_genes))
    for j in range(n_genes):
        gene_columns = owner == j
        parts[:, j] = columns[:, gene_columns] @ weights[gene_columns]
    return parts


def _shuffling_losses(parts: Array, genes: NDArray[np.int64], y: Array, rng: np.random.Generator) -> Array:
    """Half of the squared error added by shuffling each gene, (n_genes,), mean over shuffles.

    Permutation importance (Breiman 2001, "Random forests", section 10) on held-out rows.
    """
    residual = y - parts.sum(axis=1)
    losses = np.zeros(parts.shape[1])
    for j in range(parts.shape[1]):
        active = np.flatnonzero(genes[:, j] != INACTIVE)
        for _ in range(_SHUFFLES):
            moved = parts[active, j] - parts[rng.permutation(active), j]
            added = (residual[active] + moved) ** 2 - residual[active] ** 2
            losses[j] += float(added.sum()) / 2 / _SHUFFLES
    return losses


def _effects(design: _Design, weights: Array, j: int, *, relative: bool) -> dict[Option, float]:
    """Effects of the options that occur, centred over the networks that have the gene."""
    gene_weights, levels = weights[design.owner == j], design.genes[:, j]
    options = design.space.choices[j].options
    counts = np.bincount(levels[levels != INACTIVE], minlength=len(options))
    mean = float(counts @ gene_weights) / max(int(counts.sum()), 1)
    effect_by_option = {option: float(gene_weights[i]) - mean for i, option in enumerate(options) if counts[i]}
    return {option: math.expm1(effect) if relative else effect for option, effect in effect_by_option.items()}
