from .all_checks import Targets as Targets
from .all_checks import examine as examine
