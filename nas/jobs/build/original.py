"""The original of a job's networks: the user's model as it was, with which they are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nas.engine.store.folder import RunFolder
from nas.errors import JobError
from nas.jobs.build.job_data import JobData
from nas.jobs.evaluation.scoring import outputs_of
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from nas.search.problem.tasks import AGREEMENT, IMITATION
from supernets.data import Part
from supernets.networks.capture.captured_model import CapturedModel, load_capture
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.specialisation import specialised
from supernets.networks.network import Network
from supernets.tasks.agreement import OriginalOutputs


@dataclass(frozen=True)
class _RunOriginal:
    """Runs the original in ONNX Runtime.

    Attributes:
        model: The serialised ONNX model.
        together: Number of examples of each call.
    """

    model: bytes = field(repr=False)
    together: int

    def __call__(self, part: Part) -> Tensor:
        return torch.from_numpy(outputs_of(self.model, part, together=self.together))


def with_original(data: JobData, model: CapturedModel | None) -> JobData:
    """The data with a task that compares networks with the original, where the job names a metric or a task that does.

    Args:
        model: The model of the job's own supernet; None for that of the run that the job's supernet is of.

    Raises:
        JobError: there is no original, its last layer is a fresh one, or it has a single output, which is no class.
    """
    config, source = data.job.config, data.job.source
    compares = AGREEMENT in (*config.objectives, *config.constraints)
    if not compares and config.task != IMITATION:
        return data
    if model is None:
        stored = next((run.model_file for run in _origins(data.job) if run.model_file.is_file()), None)
        if stored is None:
            fault = "is with the model that a supernet is made of, and that of supernet.from is made of none"
            raise JobError(f"{source}: objectives: {AGREEMENT} {fault}; remove it", code="job.conflict")
        model = load_capture(stored)
    if model.fresh:
        fault = f"its last layer {model.fresh[0]} is fresh, so that it answers at random; remove {AGREEMENT}"
        raise JobError(f"{source}: objectives: {model.name}: {fault}", code="job.conflict")
    if compares and model.outputs[0].shape[1:2] in ((), (1,)):
        fault = f"is of classes, and {model.name} has one output; take r2"
        raise JobError(f"{source}: objectives: {AGREEMENT} {fault}", code="job.conflict")
    elastic = infer_axes(model.program)
    network = Network(specialised(elastic, elastic.full_sizes), model.tensors)
    original = _RunOriginal(network.onnx(), data.task.scored_together)
    return replace(data, task=data.task.with_original(OriginalOutputs(original)))


def _origins(job: ResolvedJob) -> Iterator[RunFolder]:
    """The run that a job's supernet is of, the run that that one's is of, and so on."""
    supernet, runs = job.config.supernet, job.runs
    while supernet.from_ is not None:
        folder = RunFolder(supernet.from_path) if supernet.from_path is not None else runs.get(supernet.from_)
        yield folder
        if not folder.holds_a_run:
            return
        supernet = load_job(folder.job_file, stored=True).supernet
