from .base import Prediction as Prediction
from .base import Predictor as Predictor
from .errors import PredictorError as PredictorError
from .feature_columns import FeatureLayout as FeatureLayout
from .kernel_process import KernelProcess as KernelProcess
from .lightgbm import LightGBMPredictor as LightGBMPredictor
from .linear import (
    ColumnLinearPredictor as ColumnLinearPredictor,
)
from .linear import (
    MeanPredictor as MeanPredictor,
)
from .linear import (
    RidgePredictor as RidgePredictor,
)
from .model_selection import AutoPredictor as AutoPredictor
from .quality import Quality as Quality
from .transfer import KnownDevices as KnownDevices
from .transfer import TransferPredictor as TransferPredictor
