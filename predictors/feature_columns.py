"""The meaning of the columns of a feature array."""

from __future__ import annotations

from dataclasses import dataclass

from predictors.errors import PredictorError


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """The meaning of the columns of a feature array.

    Attributes:
        macs: index of the total multiply-accumulates; None where no column is a total cost.
        aggregates: indices of the few analytic columns (totals, sums by block, estimates); the rest is the encoding.
        estimate: index of an estimate of the label, or of its logarithm, but for an offset and a factor: a lookup table's sum
            over the network for a latency, the energy that it lacks for the perplexity of a part of a pretrained network.
        groups: for each column the number of the gene that it encodes, -1 for none; empty where unknown.
        options: for each column the number of the option that it stands for, the same in all genes with equal options; -1 for
            none; empty where unknown.
    """

    macs: int | None
    aggregates: tuple[int, ...]
    estimate: int | None = None
    groups: tuple[int, ...] = ()
    options: tuple[int, ...] = ()

    def check(self, n_columns: int) -> None:
        """Raises `PredictorError` (code ``predictor.invalid-layout``) unless it fits features with `n_columns` columns.

        Args:
            n_columns: Number of columns of the feature array. Indices must be below it, and `groups` and `options` must have
                this length unless they are empty.
        """
        indices = [index for index in (self.macs, self.estimate, *self.aggregates) if index is not None]
        outside = [index for index in indices if not 0 <= index < n_columns]
        fault = ""
        if outside:
            fault = f"names column {outside[0]}; the features have columns 0 to {n_columns - 1}"
        elif not self.aggregates:
            fault = "names no aggregate columns; give at least the one of the MACs"
        elif self.groups and len(self.groups) != n_columns:
            fault = f"names genes of {len(self.groups)} columns; the features have {n_columns}"
        elif self.options and len(self.options) != n_columns:
            fault = f"names options of {len(self.options)} columns; the features have {n_columns}"
        if fault:
            raise PredictorError(f"the layout {fault}", code="predictor.invalid-layout")

    def encoding(self, n_columns: int) -> tuple[int, ...]:
        """Indices of the columns that are no aggregates and no estimate.

        Args:
            n_columns: Number of columns of the feature array.
        """
        analytic = {*self.aggregates, self.macs, self.estimate}
        return tuple(i for i in range(n_columns) if i not in analytic)
