"""The protocol of what stands between a detector's network and its boxes: losses for training, decoding for everything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class DetectionHead(ABC):
    """Assignment, losses and decoding of the raw outputs of a detector's networks, which have one tensor as output.

    That tensor is (n, locations, numbers): the locations of all levels of the feature pyramid, one level after another, row by
    row, and at each of them (or for each of its anchors) the same numbers. A head has no trained weights; it is a function of
    the size of the images and of constants, so that every subnet of a supernet, its training, its scoring and its export share
    one.
    """

    @abstractmethod
    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of each image, (n,), differentiable in the outputs.

        Args:
            outputs: (n, locations, numbers), raw.
            targets: (n, boxes, 8), see `supernets.tasks.detection.boxes`.
        """

    @abstractmethod
    def decoded(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """The boxes of raw outputs before suppression: corners in pixels of the network's input, (n, locations, 4), and scores
        from 0 to 1 of each class, (n, locations, classes).

        It is captured with the network, and so takes any batch size and only operations that have ONNX rules.
        """

    @abstractmethod
    def distance(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """The mean distance over a batch from a teacher's raw outputs, (), differentiable in the subnet's.

        Locations count by the teacher's confidence: almost all of them are background, and a sum over all of them drowns the
        objects.
        """

    def to_json(self) -> Mapping[str, Any]:
        """The facts of the head for manifests, JSON-able: its kind, its strides or anchors."""
        return {"kind": type(self).__name__}
