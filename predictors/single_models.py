"""The predictors that a search can be asked for by name, each one model with the settings that suit searches."""

from __future__ import annotations

from predictors.candidate_models import process_of
from predictors.feature_columns import FeatureLayout
from predictors.kernel_process import KernelProcess
from predictors.label_scales import LabelScale
from predictors.lightgbm import LINEAR_LEAVES, LightGBMPredictor
from predictors.linear import RidgePredictor


def lightgbm(*, positive: bool, seed: int) -> LightGBMPredictor:
    """LightGBM with many rounds of very small trees.

    Args:
        positive: Labels are above zero, and their logarithms are fitted.
        seed: Seed of LightGBM.
    """
    return LightGBMPredictor(scale=LabelScale.LOG if positive else LabelScale.PLAIN, seed=seed)


def lightgbm_linear(*, positive: bool, seed: int) -> LightGBMPredictor:
    """LightGBM whose leaves are lines, see `LINEAR_LEAVES`; arguments as of `lightgbm`."""
    scale = LabelScale.LOG if positive else LabelScale.PLAIN
    return LightGBMPredictor(scale=scale, seed=seed, parameters=LINEAR_LEAVES)


def ridge(*, positive: bool) -> RidgePredictor:
    """Ridge regression on all columns; of positive labels with relative error."""
    return RidgePredictor(scale=LabelScale.RELATIVE if positive else LabelScale.PLAIN)


def gaussian_process(*, layout: FeatureLayout, n_columns: int, positive: bool) -> KernelProcess:
    """A Gaussian process on genes with lines in the aggregates; on all columns where no gene is encoded.

    Args:
        layout: Meaning of the columns.
        n_columns: Number of columns.
        positive: Labels are above zero, and their logarithms are fitted; else by their distance from the largest one.
    """
    return process_of(layout, n_columns, LabelScale.LOG if positive else LabelScale.BEST)
