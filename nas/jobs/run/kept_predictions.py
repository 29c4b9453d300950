"""The predictions that a search keeps of its front and of the largest network, for pictures and charts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.engine.predictions import MAX_NETWORKS, Kind, Predictions
from nas.engine.store.base import RunStore
from nas.jobs.build.built_job import BuiltJob
from nas.jobs.evaluation.scoring import InlineScoring
from nas.search.problem.objectives import Evaluation, Fidelity, Objective
from nas.search.problem.pareto import non_dominated
from nas.search.problem.variants import Variants
from predictors.folds import evenly_spaced
from supernets.data import Part
from supernets.data.preprocessing import ImageFormat
from supernets.space import Architecture

_QUALITY, _MAX_SIDE = 90, 400
"""Quality of the JPEG files of images, and their largest side in pixels: six are at most some 300 kB."""


def measured_front(
    evaluations: Sequence[Evaluation],
    finalists: Sequence[Architecture],
    objectives: Sequence[Objective],
    variants: Variants,
    store: RunStore,
) -> list[Architecture]:
    """The finalists that no other one dominates by their final values, the cheapest first.

    Args:
        evaluations: Evaluations of the search, for the values of metrics that are measured once.
        finalists: Architectures that were measured again.
        objectives: Objectives of the search.
        variants: Variants of the search's candidates.
        store: Store with the final measurements.
    """
    searched = {e.architecture: e for e in evaluations}
    candidates = [a for a in finalists if a in searched]
    if not candidates:
        return []
    timed = [o for o in objectives if o.profile is not None]
    requests = {(a, o): variants.request(a, o, Fidelity.FINAL) for a in candidates for o in timed}
    measured = store.find(list(requests.values()))

    def value(candidate: Architecture, objective: Objective) -> float:
        again = measured.get(requests[candidate, objective]) if objective in timed else None
        return searched[candidate].value(objective) if again is None or again.value is None else again.value

    values = np.array([[o.sign * value(a, o) for o in objectives] for a in candidates])
    cost = next((i for i, o in enumerate(objectives) if not o.of_task), 0)
    order = np.argsort(values[:, cost], kind="stable")
    is_kept = non_dominated(values)
    return [candidates[i] for i in order if is_kept[i]]


def predictions_of(built_job: BuiltJob, front: Sequence[Architecture], scoring: InlineScoring) -> Predictions | None:
    """The predictions of the networks of a front and of the largest one; None for a task without pictures.

    Args:
        built_job: The job.
        front: Architectures, the cheapest first.
        scoring: Scoring on the validation part.
    """
    data, largest = built_job.data.dataset, built_job.space.largest
    is_shown = built_job.data.task.illustrates and data.targets in get_args(Kind)
    if not is_shown or not isinstance(data.format, ImageFormat):
        return None
    smaller = [a for a in front if a != largest]
    candidates = [*(smaller[i] for i in evenly_spaced(len(smaller), MAX_NETWORKS)), largest]
    illustrations = []
    for candidate in candidates:
        network, variant = built_job.job.variants.split(candidate)
        illustrations.append(scoring.illustrate(network, variant, data.n_classes))
    examples, names = illustrations[0].examples, data.validation.names
    labels: NDArray[np.generic] = data.validation.labels.numpy()[examples]
    return Predictions(
        kind=cast(Kind, data.targets),
        classes=data.class_names,
        side=data.format.image_size,
        n_examples=len(data.validation),
        networks=tuple(candidate.key for candidate in candidates),
        names=tuple(names[i] for i in examples) if names else (),
        images=tuple(_jpeg(data.validation, i, data.format) for i in examples.tolist()),
        labels=labels,
        outputs=np.stack([illustration.outputs for illustration in illustrations]),
        tables={
            name: np.stack([illustration.tables[name] for illustration in illustrations])
            for name in illustrations[0].tables
        },
    )


def _jpeg(part: Part, index: int, how: ImageFormat) -> bytes:
    """An image as a JPEG file, from the normalised input of a network."""
    mean, std = (np.reshape(numbers, (-1, 1, 1)) for numbers in (how.mean, how.std))
    levels = np.rint(255 * (part.inputs[index].numpy() * std + mean)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    file = io.BytesIO()
    image.save(file, "jpeg", quality=_QUALITY, subsampling=0)
    return file.getvalue()
