from .predictor import PredictorRow as PredictorRow
from .predictor import bench_predictor as bench_predictor
from .search import Replay as Replay
from .search import bench_search as bench_search
from .search import quartiles as quartiles
from .search_chart import search_chart as search_chart
from .table import Table as Table
