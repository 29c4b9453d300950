from .driver import drive as drive
from .driver import start as start
from .finetuning.improvement import improvement_of as improvement_of
from .finetuning.improvement import is_finetuning as is_finetuning
from .finetuning.job import finetuning_job as finetuning_job
from .solving import solve as solve
