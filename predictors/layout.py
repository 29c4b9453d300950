"""What the columns of a feature array are."""

from __future__ import annotations

from dataclasses import dataclass

from predictors.errors import PredictorError


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """What the columns of a feature array are.

    Attributes:
        macs: index of the total multiply-accumulates; None where no column is a total cost.
        aggregates: indices of the few analytic columns (totals, sums by block, lookup sums); the rest is the encoding.
        lookup: index of a lookup table's sum over the network: a latency but for an offset and a factor.
        groups: for each column the number of the gene that it encodes, -1 for none; empty where that is not known.
    """

    macs: int | None
    aggregates: tuple[int, ...]
    lookup: int | None = None
    groups: tuple[int, ...] = ()

    def check(self, n_columns: int) -> None:
        """Raises `PredictorError` where an index is no column of features with `n_columns`."""
        named = [index for index in (self.macs, self.lookup) if index is not None]
        for index in (*named, *self.aggregates):
            if not 0 <= index < n_columns:
                raise PredictorError(f"the layout names column {index}; the features have columns 0 to {n_columns - 1}")
        if not self.aggregates:
            raise PredictorError("the layout names no aggregate columns; give at least the one of the MACs")
        if self.groups and len(self.groups) != n_columns:
            raise PredictorError(f"the layout names genes of {len(self.groups)} columns; the features have {n_columns}")

    def encoding(self, n_columns: int) -> tuple[int, ...]:
        """Indices of the columns that are no aggregates and no lookup sum."""
        other = {*self.aggregates, self.macs, self.lookup}
        return tuple(i for i in range(n_columns) if i not in other)
