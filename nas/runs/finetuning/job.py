"""Makes the job that fine-tunes one network of a run."""

from __future__ import annotations

import nas.results
from nas.errors import REPEAT, Remedy, SelectionError
from nas.jobs.schema import SearchJob, job_of
from nas.jobs.schema.section import names_of_stored_jobs
from nas.results.analysis.network_selection import choose
from nas.runs.run import Run
from nas.search.problem.objectives import Variant
from supernets.space import Architecture

DEFAULT_RATE_SHARE = 0.1
"""Share of the supernet's learning rate: the weights are near an optimum already."""
_INHERITED_KEYS = (
    "batch_size",
    "accumulate",
    "activation_checkpointing",
    "precision",
    "adapters",
    "top_k",
    "weight_decay",
    "class_weights",
    "clip_norm",
    "augment",
    "threads",
    "device",
)
"""Keys of the supernet's training that fine-tuning keeps."""


def finetuning_job(
    run: Run,
    *,
    epochs: int,
    select: str | None = None,
    index: int | None = None,
    learning_rate: float | None = None,
    job: SearchJob | None = None,
) -> SearchJob:
    """The job that fine-tunes one network of a run, taught by its supernet's largest, and measures it as the run did.

    A network that was fine-tuned already keeps its teacher.

    Args:
        run: The run of the network.
        epochs: Number of epochs.
        select, index: The network, as in `nas.results.export.onnx_export.export_onnx`.
        learning_rate: The peak; None for a tenth of the supernet's.
        job: The run's job with other paths, such as those that the client of a server wrote; None for the stored one.

    Raises:
        SelectionError: there is no such network.
        JobError: a number is out of its range.
    """
    network, variant = _select(run, select, index)
    job = job or run.job
    data = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    training = {key: data["training"][key] for key in _INHERITED_KEYS if key in data["training"]}
    rate = job.training.learning_rate * DEFAULT_RATE_SHARE if learning_rate is None else learning_rate
    data |= {
        "name": f"{job.name[:54]}-finetuned",
        "supernet": {"family": job.supernet.family, "from": run.id, "network": network.key},
        "training": {
            "strategy": "largest",
            "distill": "teacher",
            "teacher": _teacher(run),
            "keep": "best",
            "epochs": epochs,
            "learning_rate": rate,
            **training,
        },
        "precisions": [variant.precision],
        "runtimes": [variant.runtime],
        "search": {"algorithm": "random", "evaluations": 2},
    }
    for key in ("constraints", "lookup_tables", "warm_start"):
        data.pop(key, None)
    wanted = {name.partition("@")[0] for name in data["objectives"]}
    data["metrics"] = {name: spec for name, spec in data["metrics"].items() if name in wanted}  # none of the limits'
    with names_of_stored_jobs():  # of objects from Python, too, which are passed again
        return job_of(data, source=f"the job of run {run.id}")


def _teacher(run: Run) -> str:
    """The run, or the folder, of the supernet whose largest network is the teacher.

    A run of one fine-tuned network has no larger one: its teacher is used again, or the supernet that the network is of.
    """
    supernet, teacher = run.job.supernet, run.job.training.teacher
    if supernet.network is not None and teacher is not None:
        return teacher
    if supernet.from_ is None or (supernet.network is None and supernet.trains):
        return run.id
    return str(supernet.from_path) if supernet.from_path is not None else _teacher(Run.open(run.runs, supernet.from_))


def _select(run: Run, select: str | None, index: int | None) -> tuple[Architecture, Variant]:
    """The network of a run, and the variant that it is deployed in."""
    if run.kind == "training":
        if select is None:
            raise SelectionError(
                f"run {run.id!r} is a training and has no front; select a network by limits, e.g. 'macs<=2e6', or search it",
                code="run.not-a-search",
                remedy=Remedy(REPEAT, options={"select": "LIMITS"}),
            )

        return nas.results.networks_by_cost(run).satisfying(select)[-1][0], run.job.first_variant
    point = choose(run.report, select, index)
    with run.store() as store:
        return store.search_facts().variants.split(point.architecture)
