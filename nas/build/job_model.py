"""The user's model that a job's supernet is made of: found, captured for the job's data, and kept with the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas.build.user_model import loaded, opened
from nas.config import SearchJob
from nas.errors import JobError
from nas.store.folder import RunFolder
from supernets.capture.adoption import adopt
from supernets.capture.captured_model import CapturedModel, capture_model, check_operations, load_capture
from supernets.capture.classifier import with_outputs
from supernets.capture.model_names import FRACTIONS, is_file
from supernets.capture.proof import in_double, prove_permutations, randomised
from supernets.capture.sources import Preprocessing, UserModel
from supernets.capture.space import SpaceOptions
from supernets.data import DataSet
from supernets.errors import CaptureError, CheckpointError, SpaceError
from supernets.families.captured.family import CapturedFamily

_EXACT = 1e-8
"""The largest relative change of outputs under a permutation in double precision."""
_PREPROCESSING = ("image_size", "channels", "mean", "std")


@dataclass(frozen=True, eq=False, repr=False)
class JobModel:
    """The model of a job.

    Attributes:
        model: as its library or the user's function makes it, or captured.
        kept: whether it is the captured one in a run's folder, which was made for the run's data.
    """

    config: SearchJob
    model: UserModel | CapturedModel
    kept: bool
    source: str

    def fixed(self) -> dict[str, Any]:
        """The options of images that the model fixes; those that it does not know are left out."""
        found: dict[str, Any] = {key: getattr(self.model.preprocessing, key) for key in _PREPROCESSING}
        if isinstance(self.model, CapturedModel):
            found |= _sizes(self.model, source=self.source)
        elif self.config.data.image_size is not None:
            del found["image_size"]  # another size than its default may do
        return {key: value for key, value in found.items() if value is not None}

    def captured(self, data: DataSet, n_outputs: int) -> CapturedModel:
        """The model as data, with an output for each class, and its axes proved.

        Raises:
            JobError: it cannot be captured with images of this size, or has other outputs.
        """
        if self.kept and isinstance(self.model, CapturedModel):
            return self.model
        size = data.images.image_size
        shape = (data.images.channels, size, size)
        where = f"{self.source}: supernet.model"
        try:
            own_model = self.model
            found = (
                capture_model(own_model, own_model.example(shape)) if isinstance(own_model, UserModel) else own_model
            )
            if found.input_shape != shape or found.of_tokens:
                own = " x ".join(map(str, found.input_shape))
                raise JobError(
                    f"{where}: {found.name} was captured for inputs of {own}, and the images are "
                    f"{' x '.join(map(str, shape))}; change data.image_size and data.channels, or capture it again",
                    code="job.unfit-data",
                )
            check_operations(found)
            found = with_outputs(found, n_outputs, seed=self.config.seed)
            _prove(found)
        except CaptureError as error:
            raise JobError(f"{where}: {error}", code=error.code) from error
        return found


def load_model(config: SearchJob, run: RunFolder | None, *, source: str) -> JobModel | None:
    """The model that the job's supernet is made of; None where it names none.

    Args:
        run: the run that the job belongs to, where it has begun: it keeps the captured model.

    Raises:
        JobError: there is no such model, or its weights are of another one.
    """
    supernet = config.supernet
    if (name := supernet.model) is None:
        return None
    try:
        if run is not None and run.model_file.is_file():
            return JobModel(config, load_capture(run.model_file), True, source)
        model: UserModel | CapturedModel
        if is_file(name):
            model = loaded(Path(name), weights=supernet.weights)
        else:
            model = opened(name, supernet.arguments, weights=supernet.weights, seed=config.seed)
    except CaptureError as error:
        raise JobError(f"{source}: supernet.model: {error}", code=error.code) from error
    except CheckpointError as error:
        raise JobError(f"{source}: supernet.weights: {error}", code=error.code) from error
    return JobModel(config, model, False, source)


def family_of(model: CapturedModel, config: SearchJob, *, source: str) -> CapturedFamily:
    """The family of the captured model's subnets.

    Raises:
        JobError: nothing in it is elastic with the job's options.
    """
    supernet = config.supernet
    options = SpaceOptions(supernet.granularity or "stage", supernet.widths or FRACTIONS, supernet.keep or ())
    try:
        return CapturedFamily(model.program, options, tensors=model.tensors)
    except SpaceError as error:
        raise JobError(f"{source}: supernet: {error}", code=error.code) from None


def kept_preprocessing(run: RunFolder) -> Mapping[str, Any]:
    """The options of images that the model kept in a run's folder fixes; empty without one."""
    if not run.model_file.is_file():
        return {}
    model = load_capture(run.model_file)
    found: Preprocessing = model.preprocessing
    own = {key: getattr(found, key) for key in _PREPROCESSING} | _sizes(model, source=str(run.model_file))
    return {key: value for key, value in own.items() if value is not None}


def _sizes(model: CapturedModel, *, source: str) -> dict[str, int]:
    """Channels and size of a captured model's images."""
    shape = model.input_shape
    if model.of_tokens or len(shape) != 3 or shape[1] != shape[2] or len(model.program.inputs) != 1:
        own = " x ".join(map(str, shape))
        text = f"{model.name} takes {own}; expected one input of square images, channels x size x size"
        raise JobError(f"{source}: supernet.model: {text}", code="job.unfit-data")
    return {"channels": shape[0], "image_size": shape[1]}


def _prove(model: CapturedModel) -> None:
    """Raises `CaptureError` if a permutation of all units changes the outputs."""
    generator = torch.Generator().manual_seed(0)
    tensors = in_double(randomised(dict(model.tensors), generator))
    x = torch.randn(2, *model.input_shape, generator=generator, dtype=torch.float64)
    if (change := prove_permutations(adopt(model.program), tensors, [x], controls=0).permuted) > _EXACT:
        raise CaptureError(
            f"{model.name}: the outputs change by {change:.1e} when units are permuted, so that its axes are not understood; "
            "`nas inspect` shows them; name the layers that it must keep in supernet.keep",
            code="capture.unproved",
        )
