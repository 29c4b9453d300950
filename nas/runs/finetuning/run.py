"""Fine-tunes one network of a run in a run of its own."""

from __future__ import annotations

from typing import Unpack

from nas.jobs.run.passed_objects import PassedPlugins, check_passed, resumed_with
from nas.jobs.run.run_options import RunOptions
from nas.runs.driver import run as search
from nas.runs.finetuning.job import finetuning_job
from nas.runs.run import Run


def finetune(
    run: Run,
    options: RunOptions | None = None,
    *,
    epochs: int,
    select: str | None = None,
    index: int | None = None,
    learning_rate: float | None = None,
    **passed: Unpack[PassedPlugins],
) -> Run:
    """The run that fine-tuned one network of a run, taught by its supernet's largest, and measured it as the run did.

    Args:
        run: Search or training whose network is fine-tuned.
        options: Folder of the runs, Ray cluster, store and observer of the new run; None for the defaults, in the runs folder
            of `run`.
        epochs, select, index, learning_rate: see `nas.runs.finetuning.job.finetuning_job`.
        passed: the data set and the metrics that the run was started with from Python, see `nas.run`.

    Raises:
        SelectionError: there is no such network.
        PluginError: an object that the run was started with is not passed again, or is of another class.
    """
    job = finetuning_job(run, epochs=epochs, select=select, index=index, learning_rate=learning_rate)
    options = resumed_with(options or RunOptions(run.runs), passed)
    recorded = run.facts.plugins if run.facts else ()
    call = f"nas.finetune(nas.open_run({run.id!r}), epochs={epochs}"
    check_passed(run.id, job, recorded, options.objects, call=call)
    return search(job, options, source=f"run {run.id}")
