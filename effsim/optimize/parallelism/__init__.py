"""How to split a training job: every combination of ranks, schedule, recomputation and sharding, ranked."""

from effsim.optimize.parallelism.explain import Comparison, compare
from effsim.optimize.parallelism.result import ParallelismSearch
from effsim.optimize.parallelism.search import optimize_training, search_parallelism
from effsim.optimize.parallelism.space import OBJECTIVES, Job, Space

__all__ = ["OBJECTIVES", "Comparison", "Job", "ParallelismSearch", "Space", "compare", "optimize_training", "search_parallelism"]
