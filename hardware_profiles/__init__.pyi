from .base import (
    Deployment as Deployment,
)
from .base import (
    Graph as Graph,
)
from .base import (
    HardwareProfile as HardwareProfile,
)
from .base import (
    LatencyFailure as LatencyFailure,
)
from .base import (
    LatencyMeasurement as LatencyMeasurement,
)
from .base import (
    LatencyProfiler as LatencyProfiler,
)
from .catalog import known_profiles as known_profiles
from .catalog import load_profile as load_profile
from .comparison import LatencyComparison as LatencyComparison
from .comparison import compare_latency as compare_latency
from .errors import ProfilingError as ProfilingError
from .model_file import measure_latency as measure_latency
from .profiler_factory import open_profiler as open_profiler
