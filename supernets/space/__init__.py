"""Search spaces and what follows from them alone: choices and architectures, the axes of tensors, and costs.

A search space needs no torch; `supernets.space.axes`, which slices tensors, does.
"""

from supernets.space.search_space import INACTIVE, Architecture, Choice, Option, SearchSpace, joint_levels

__all__ = ["INACTIVE", "Architecture", "Choice", "Option", "SearchSpace", "joint_levels"]
