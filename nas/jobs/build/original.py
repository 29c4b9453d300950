"""The original of a job's networks: the user's model as it was, with which they are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.engine.store.folder import RunFolder
from nas.errors import JobError
from nas.jobs.build.job_data import JobData
from nas.jobs.evaluation.scoring import outputs_of
from nas.jobs.resolve.resolved_job import ResolvedJob
from nas.jobs.schema import load_job
from nas.search.problem.tasks import AGREEMENT, IMITATION
from supernets.data import Part
from supernets.data.targets import CLASSES
from supernets.networks.capture.captured_model import CapturedModel, load_capture
from supernets.networks.capture.elastic_program import infer_axes
from supernets.networks.capture.specialisation import specialised
from supernets.networks.network import Network
from supernets.tasks.agreement import OriginalOutputs

_MATCHED, _SHOWN = 0.2, 100
"""The gain of accuracy by another order that is no chance, and the characters that show it."""
_EXCHANGED, _ENOUGH = 0.05, 5
"""The gain where only some classes are exchanged, of each of which at least this number of examples has another's answer."""


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
        outputs = f"one for each of the {data.dataset.n_classes} classes of the data"
        fault = f"{model.name} has other outputs than {outputs}, so that {model.fresh[0]} is replaced"
        raise JobError(f"{source}: objectives: {AGREEMENT}: {fault}; take others", code="job.unfit-data")
    if len(model.outputs) != 1:
        fault = f"{model.name} has {len(model.outputs)} outputs; expected one, with which networks are compared"
        raise JobError(f"{source}: supernet.model: {fault}: return it alone", code="job.conflict")
    if compares and model.outputs[0].shape[1:2] in ((), (1,)):
        fault = f"is of classes, and {model.name} has one output; take r2"
        raise JobError(f"{source}: objectives: {AGREEMENT} {fault}", code="job.conflict")
    elastic = infer_axes(model.program)
    network = Network(specialised(elastic, elastic.full_sizes), model.tensors)
    original = _RunOriginal(network.onnx(), data.task.scored_together)
    return replace(data, task=data.task.with_original(OriginalOutputs(original)))


def check_class_order(data: JobData) -> None:
    """Raises `JobError` where the original knows the classes of the data, but has them in another order.

    Its answers are matched one to one with the classes, so that most examples are right (an assignment problem). In another
    order far more of them are right than as they are, or two classes or more have most answers of one another.
    """
    config, names = data.job.config, data.dataset.class_names
    if data.dataset.targets != CLASSES or AGREEMENT not in (*config.objectives, *config.constraints):
        return
    part = data.dataset.validation
    answers = data.task.examples(AGREEMENT, part).labels.argmax(1)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (answers.numpy(), part.labels.numpy()), 1)
    outputs, classes = scipy.optimize.linear_sum_assignment(-counts)
    as_they_are, matched = counts.trace() / len(part), counts[outputs, classes].sum() / len(part)
    others = [(o, c) for o, c in zip(outputs, classes, strict=True) if o != c and _is_most(counts, o, c)]
    if matched < 2 * as_they_are + _MATCHED and (len(others) < 2 or matched < as_they_are + _EXCHANGED):
        return
    pairs = sorted(zip(outputs, classes, strict=True), key=lambda pair: -counts[pair])
    examples = ", ".join(f"{o} for {names[o]!r} means {names[c]!r}" for o, c in pairs if o != c and counts[o, c])
    fault = f"the model is right for {as_they_are:.0%} of the validation part, and for {matched:.0%} with other classes"
    remedy = f"output {examples[:_SHOWN]}; rename the classes, so that they sort as the outputs"
    raise JobError(f"{data.job.source}: data: {fault}: {remedy}", code="job.unfit-data")


def _is_most(counts: NDArray[np.int64], output: int, class_index: int) -> bool:
    """Returns whether an output is most answers for a class, and these most of its answers, of enough examples."""
    n = int(counts[output, class_index])
    return n >= _ENOUGH and 2 * n > max(int(counts[output].sum()), int(counts[:, class_index].sum()))


def _origins(job: ResolvedJob) -> Iterator[RunFolder]:
    """The run that a job's supernet is of, the run that that one's is of, and so on."""
    supernet, runs = job.config.supernet, job.runs
    while supernet.from_ is not None:
        folder = RunFolder(supernet.from_path) if supernet.from_path is not None else runs.get(supernet.from_)
        yield folder
        if not folder.holds_a_run:
            return
        supernet = load_job(folder.job_file, stored=True).supernet
