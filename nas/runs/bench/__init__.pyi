from .predictor import PredictorRow as PredictorRow
from .predictor import bench_predictor as bench_predictor
from .search import Replay as Replay
from .search import bench_search as bench_search
from .search import quartiles as quartiles
from .search_plot import search_figure as search_figure
from .table import Table as Table
