"""Search spaces and what follows from them alone: choices and architectures, the axes of tensors, and costs.

A search space needs no torch; `supernets.space.axes`, which slices tensors, does.
"""

from supernets.space.choice_titles import SEPARATOR, title_of_place
from supernets.space.search_space import INACTIVE, Architecture, Choice, Option, SearchSpace, joint_levels

__all__ = ["INACTIVE", "SEPARATOR", "Architecture", "Choice", "Option", "SearchSpace", "joint_levels", "title_of_place"]
