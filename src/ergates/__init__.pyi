from ergates.conductor.finished_experiment import open_experiment as open_experiment
from ergates.functions.cluster_executor import ClusterExecutor as ClusterExecutor
from ergates.functions.executor import Executor as Executor
from ergates.functions.parallel_map import parallel_map as map  # noqa: A004

__version__: str
__all__ = ["ClusterExecutor", "Executor", "map", "open_experiment"]
