"""Latency on a new device, from the costs of a network's parts on other devices and a few measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.base import Array, Prediction, query_array, training_arrays
from predictors.errors import PredictorError

_CENTRES = np.array([-7.0, -1.5, -4.0, -5.5, -4.0, -4.5])
"""Logarithms of the prior variances: of the offset, and along the five kinds of direction in `_directions`."""
_REACH = 2.0
"""Deviation of those logarithms: devices differ in how they differ."""
_NOISE, _NOISE_REACH = -6.0, 3.0
"""The same for the variance of relative errors of measurements; some published tables have 2 %, others 20 %."""
_RIDGE = 1e-2
"""The penalty with which costs of parts are taken from whole networks, which need not determine each part alone."""
_DRAWS = 4000
_KEPT = 64
"""Draws from the posterior with which deviations are computed."""
_JITTER = 1e-7
_FREEDOM = 4.0
"""Degrees of freedom of Student's t distribution of noise: published latencies of phones have errors of several deviations."""
_UPDATES, _COST_UPDATES = 4, 8
"""Updates of the precisions of measurements; and of the weights of networks on known devices."""
_NORMAL_MEDIAN = 2.198
"""The variance of a normal distribution over the median of its square."""
_LEAST_LEVEL = 0.02
"""Least latency of a network on the other devices, relative to the mean one, in the scale of its noise."""
_INTERVAL = 1.645
"""Half the central 90 % interval of a normal distribution, in deviations."""


@dataclass(frozen=True, eq=False)
class KnownDevices:
    """Random networks of a space on the devices that are known.

    Attributes:
        networks: (n, parts), how many times each network has each part; for genes, their one-hot encoding.
        latencies: (n, devices), above zero, each device in any unit; measured or estimated.
        groups: two ways in which parts are of one kind, each an array (parts,) of numbers: by operation, by position.
        costs: (parts, devices), the cost that each part adds to a network, in the unit of the device's latencies; None where
            only networks were measured.
    """

    networks: Array
    latencies: Array
    groups: tuple[NDArray[np.int64], NDArray[np.int64]]
    costs: Array | None = None

    def __post_init__(self) -> None:
        """Raises `PredictorError` for arrays whose shapes do not fit each other, and for latencies that are none."""
        n, parts = query_array(self.networks, self.networks.shape[-1]).shape
        if self.latencies.ndim != 2 or len(self.latencies) != n or not self.latencies.size:
            fault = f"have shape {self.latencies.shape} for {n} networks; expected ({n}, devices)"
            raise PredictorError(f"latencies on known devices {fault}", code="predictor.invalid-labels")
        for column in self.latencies.T:
            training_arrays(self.networks, column, minimum=2, positive=True)
        devices = self.latencies.shape[1]
        if self.costs is not None and (self.costs.shape != (parts, devices) or not np.isfinite(self.costs).all()):
            fault = f"have shape {self.costs.shape}; expected finite numbers, ({parts}, {devices})"
            raise PredictorError(f"costs of parts {fault}", code="predictor.invalid-features")
        if any(group.shape != (parts,) for group in self.groups):
            fault = f"have shapes {[group.shape for group in self.groups]}; expected ({parts},) each"
            raise PredictorError(f"groups of parts {fault}", code="predictor.invalid-layout")

    def relative_costs(self) -> Array:
        """The cost that each part adds, (parts, devices), relative to the mean latency of the device."""
        means = self.latencies.mean(axis=0)
        if self.costs is not None:
            relative: Array = self.costs / means
            return relative
        rows = np.column_stack([self.networks, np.ones(len(self.networks))])
        solutions: Array = np.stack([_robust_solution(rows, column) for column in (self.latencies / means).T], axis=1)
        return solutions[:-1]


class TransferPredictor:
    """A Gaussian process on the costs of parts whose prior comes from other devices.

    A network's latency is an offset and the sum of its parts' costs. The costs on a new device are, a priori, mostly a
    combination of those on known devices; less so for each kind of part by itself; and a little for each part alone. How
    much of each is not chosen but averaged over: `_DRAWS` draws of the variances, weighted by a lower bound of the likelihood
    of the measurements. Their noise has Student's t distribution: a normal one with a precision of its own for each
    measurement, inferred by a mean-field approximation (Tipping and Lawrence 2005, "Variational inference for Student-t
    models"). Few-shot transfer of latency predictors is the setting of HELP (Lee et al. 2021, arXiv 2106.08630), which trains a
    network on many devices for it.

    Features are those of `KnownDevices.networks`.

    Args:
        devices: Networks on other devices, for the prior.
        seed: Seed of the draws; equal measurements and seed give equal predictions.
    """

    minimum_rows = 3

    def __init__(self, devices: KnownDevices, *, seed: int = 0) -> None:
        self._centre = devices.networks.mean(axis=0)
        costs = devices.relative_costs()
        self._costs = _differences(costs, devices.networks, devices.groups[1])
        self._common = (costs - self._costs).mean(axis=1)
        self._directions = _directions(self._costs, devices.groups, devices.networks - self._centre)
        self._seed = seed
        self._n_columns: int | None = None

    def choose(self, networks: Array, n: int, *, measured: Array | None = None) -> list[int]:
        """The rows of (m, parts) whose measurement would tell most about all of them, the best first.

        Each next row lowers the sum of the relative variances most, given those before it (A-optimal design).

        Args:
            networks: (m, parts), the networks to choose from, in the terms of `KnownDevices.networks`; finite.
            n: Number of networks to choose, at most m.
            measured: (k, parts), rows that are measured already.

        Raises:
            PredictorError: there are fewer than n rows.
        """
        rows = query_array(networks, len(self._centre))
        if n > len(rows):
            raise PredictorError(
                f"{n} networks to choose from {len(rows)}; give at least as many", code="predictor.too-few-rows"
            )
        before = 0 if measured is None else len(measured)
        if measured is not None:
            rows = np.concatenate([query_array(measured, len(self._centre)), rows])
        parts, levels = self._features(rows), self._levels(rows)
        kernel = np.array(sum(np.exp(c) * part @ part.T for c, part in zip(_CENTRES, parts, strict=True)))
        noise, weight = np.exp(_NOISE) * levels**2, 1 / levels**2
        weight[:before] = 0
        chosen: list[int] = []
        while len(chosen) < before + n:
            gain = weight @ kernel**2 / (np.diag(kernel) + noise)
            gain[chosen] = -1
            best = len(chosen) if len(chosen) < before else before + int(np.argmax(gain[before:]))
            chosen.append(best)
            kernel = kernel - np.outer(kernel[:, best], kernel[best]) / (kernel[best, best] + noise[best])
        return [row - before for row in chosen[before:]]

    def fit(self, features: Array, labels: Array) -> None:
        """Learns (n, parts) -> (n,) latencies of the new device.

        Args:
            features: (n, parts), the measured networks in the terms of `KnownDevices.networks`; finite, at least 3 rows.
            labels: (n,), their latencies on the new device in any unit; above 0.

        Raises:
            PredictorError: as `training_arrays` does.
        """
        x, y = training_arrays(features, labels, minimum=self.minimum_rows, positive=True)
        query_array(x, len(self._centre))
        levels = self._levels(x)
        self._scale = float(np.mean(y / levels))
        targets = y / self._scale - 1
        self._rows = self._features(x)
        grams = np.stack([block @ block.T for block in self._rows])
        rng = np.random.default_rng(self._seed)
        draws = np.array([*_CENTRES, _NOISE]) + rng.standard_normal((_DRAWS, len(_CENTRES) + 1)) * np.array(
            [_REACH] * len(_CENTRES) + [_NOISE_REACH]
        )
        variances = np.exp(draws)
        solved, inverses, fits = _solved_robustly(
            np.einsum("mb,bij->mij", variances[:, :-1], grams), variances[:, -1, None] * levels**2, targets
        )
        weights = np.exp(fits - fits.max())
        weights /= weights.sum()
        selected = np.searchsorted(np.cumsum(weights), (np.arange(_KEPT) + 0.5) / _KEPT).clip(max=_DRAWS - 1)
        self._variances, self._inverse = variances[selected], inverses[selected]
        self._solved = solved[selected]
        mean = np.einsum("m,mb,mi->bi", weights, variances[:, :-1], solved)
        self._offset = float((mean[0] @ self._rows[0]).item())
        self._part_costs = sum(
            (
                direction @ (rows.T @ m)
                for direction, rows, m in zip(self._directions, self._rows[1:], mean[1:], strict=True)
            ),
            np.zeros(len(self._centre)),
        )
        self._n_columns = x.shape[1]

    def predict(self, features: Array) -> Prediction:
        """Predictions for (m, parts): the mean over the draws, and the deviation of a new measurement from it.

        Args:
            features: (m, parts), networks in the terms of `KnownDevices.networks`; finite.
        """
        x = query_array(features, self._n_columns)
        mean = 1 + self._offset + (x - self._centre) @ self._part_costs
        mean = np.maximum(mean, _LEAST_LEVEL)
        std = self._deviations(self._features(x), self._levels(x))
        low = np.maximum(mean - _INTERVAL * std, _LEAST_LEVEL / 10)
        return Prediction(*(self._scale * values for values in (mean, std, low, mean + _INTERVAL * std)))

    def part_costs(self) -> tuple[float, Array, Array]:
        """The latency of a network without parts; the cost that each part adds, and its deviation, (parts,), in the labels'
        unit.

        Where each network has equally many parts of a position, networks tell their differences alone; the position's mean
        is then that of the known devices.

        Raises:
            PredictorError: no fit yet.
        """
        query_array(self._centre[None], self._n_columns)
        costs = self._part_costs + self._common
        offset = 1 + self._offset - float(self._centre @ costs)
        parts = [np.zeros((len(self._centre), 1)), *self._directions]
        return self._scale * offset, self._scale * costs, self._scale * self._deviations(parts)

    def _deviations(self, features: list[Array], levels: Array | float = 0.0) -> Array:
        """Square roots of the variances (m,): within draws and between them.

        Args:
            levels: Levels of networks (m,), whose measurements have noise.
        """
        crossed = np.stack([block @ rows.T for block, rows in zip(features, self._rows, strict=True)])
        squares = np.stack([(block**2).sum(axis=1) for block in features])
        means, inner = [], np.zeros(len(features[0]))
        for variances, inverse, solved in zip(self._variances, self._inverse, self._solved, strict=True):
            cross = np.tensordot(variances[:-1], crossed, axes=1)
            inner += variances[:-1] @ squares - np.einsum("ij,ij->i", cross @ inverse, cross)
            inner += variances[-1] * np.square(levels)
            means.append(cross @ solved)
        deviations: Array = np.sqrt(np.maximum(inner / _KEPT, 0) + np.var(means, axis=0))
        return deviations

    def _features(self, x: Array) -> list[Array]:
        centred = x - self._centre
        return [np.ones((len(x), 1)), *(centred @ direction for direction in self._directions)]

    def _levels(self, x: Array) -> Array:
        """Latencies relative to the mean network's, on average over the known devices, (m,)."""
        centred = (x - self._centre) @ self._costs
        levels: Array = np.maximum(1 + centred.mean(axis=1), _LEAST_LEVEL)
        return levels


def _robust_solution(rows: Array, labels: Array) -> Array:
    """The solution (k,) of least squares of (n, k) rows and (n,) labels, by weights of noise with Student's t distribution."""
    weights: Array = np.ones(len(rows))
    for _ in range(_COST_UPDATES):
        weighted = weights[:, None] * rows
        gram = weighted.T @ rows + _RIDGE * np.eye(rows.shape[1])
        solution = np.asarray(np.linalg.solve(gram, weighted.T @ labels), dtype=np.float64)
        squares = (labels - rows @ solution) ** 2
        variance = max(_NORMAL_MEDIAN * float(np.median(squares)), _JITTER**2)
        weights = (_FREEDOM + 1) / (_FREEDOM + squares / variance)
    return solution


def _solved_robustly(kernels: Array, noise: Array, targets: Array) -> tuple[Array, Array, Array]:
    """Gaussian processes of measurements whose noise has Student's t distribution.

    Args:
        kernels: (draws, n, n), covariances without noise.
        noise: (draws, n), squared scales of the noise.
        targets: (n,).

    Returns:
        The inverses of the covariances with noise times the targets, (draws, n); these inverses, (draws, n, n); and the lower
        bounds of the logarithms of the likelihoods, up to a constant, (draws,).
    """
    diagonal, noise = np.arange(len(targets)), noise + _JITTER
    shape, prior = (_FREEDOM + 1) / 2, _FREEDOM / 2  # of the gamma distributions of precisions
    precisions: Array = np.ones_like(noise)
    for update in range(_UPDATES + 1):
        weighted_noise, covariances = noise / precisions, kernels.copy()
        covariances[:, diagonal, diagonal] += weighted_noise
        inverses = np.asarray(np.linalg.inv(covariances), dtype=np.float64)
        solved = inverses @ targets
        if update < _UPDATES:
            variances = weighted_noise - weighted_noise**2 * inverses[:, diagonal, diagonal]
            precisions = shape / (prior + ((weighted_noise * solved) ** 2 + variances) / (2 * noise))
    divergences = prior * (precisions - np.log(precisions)).sum(axis=1)  # of the precisions from their prior
    bounds: Array = -0.5 * (solved @ targets) - 0.5 * np.linalg.slogdet(covariances)[1] - divergences
    return solved, inverses, bounds


def _differences(costs: Array, networks: Array, positions: NDArray[np.int64]) -> Array:
    """Costs less the mean of their position where each network has equally many parts: only differences matter there."""
    differences = costs.copy()
    for position in np.unique(positions):
        in_position = positions == position
        if np.ptp(networks[:, in_position].sum(axis=1)) == 0:
            differences[in_position] -= costs[in_position].mean(axis=0)
    return differences


def _directions(costs: Array, groups: tuple[NDArray[np.int64], NDArray[np.int64]], centred: Array) -> list[Array]:
    """The directions along which the costs of a new device vary, each (parts, directions).

    The costs on each known device; the same for each kind of part alone, by both ways of grouping; each part's own; and a
    constant for each kind of the first way, of the size of the others.
    """
    masks = [(group[:, None] == np.unique(group)).astype(float) for group in groups]
    by_kind = [np.concatenate([costs * mask[:, [k]] for k in range(mask.shape[1])], axis=1) for mask in masks]
    spread = (centred @ masks[0]).std()
    constant = masks[0] * ((centred @ costs).std() / spread if spread > 0 else 0.0)
    return [costs, *by_kind, np.diag(np.sqrt((costs**2).mean(axis=1))), constant]
