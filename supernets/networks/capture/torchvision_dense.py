"""torchvision's detectors and segmenters as modules with one output tensor, and what they are rebuilt from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from supernets.errors import CaptureError
from supernets.networks.capture.two_stage import TwoStageDetector, check_sides
from supernets.networks.capture.user_model import Preprocessing, library, unusable

ONE_STAGE = (
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
TWO_STAGE = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
)
SEGMENTERS = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet101",
    "deeplabv3_resnet50",
    "fcn_resnet101",
    "fcn_resnet50",
    "lraspp_mobilenet_v3_large",
)
_SEPARATE = ("weights", "weights_backbone", "progress")
"""Arguments of torchvision's functions that name weights."""
_EPS = 1e-5
_OLD_NAMES = (
    (r"(fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)", r"\1.0.\2"),
    (r"(rpn\.head\.conv)\.(weight|bias)", r"\1.0.0.\2"),
)
"""Names of tensors in torchvision's first files of weights, and those of today."""
_OLD_TOWER = re.compile(r"(head\.(?:classification|regression)_head\.conv)\.(\d+)\.(weight|bias)")


@dataclass(frozen=True)
class DenseModel:
    """The facts by which a detector or segmenter of torchvision is built again.

    Attributes:
        name: Name of torchvision's function, e.g. ``retinanet_resnet50_fpn``.
        classes: Number of classes of objects (without the background), or of pixels.
        arguments: Further arguments of the function: numbers, texts, and lists of them.
    """

    name: str
    classes: int
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_detector(self) -> bool:
        """True for detectors, which need labels of boxes; segmenters need masks."""
        return self.name not in SEGMENTERS

    @property
    def has_background(self) -> bool:
        """True if class 0 of the network is the background, so that it has one more class than the data."""
        return self.name.startswith("ssd") or self.has_two_stages

    @property
    def has_two_stages(self) -> bool:
        """True for the kinds of Faster R-CNN, whose raw outputs are those of a `TwoStageDetector`."""
        return self.name in TWO_STAGE

    @property
    def unused(self) -> tuple[str, ...]:
        """The first parts of the names of tensors that a file of its weights may have, and that nothing here reads."""
        branches = ("roi_heads.mask_", "roi_heads.keypoint_")
        return branches if self.has_two_stages else () if self.is_detector else ("aux_classifier.",)

    def build(self) -> nn.Module:
        """torchvision's own module, with random weights.

        Raises:
            CaptureError: torchvision is not installed, or rejects the arguments.
        """
        return _call(self.name, {**self.arguments, "num_classes": self.classes + self.has_background})

    def module(self, original: nn.Module) -> nn.Module:
        """The parts of torchvision's module that are trained, with their names, as a module with one output tensor."""
        if self.has_two_stages:
            return TwoStageDetector(original, self.name)
        return JoinedDetector(original, self.name) if self.is_detector else MapSegmenter(original)

    def renamed(self, tensors: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
        """The tensors of a file of its weights with the names of today's torchvision."""
        return {name if name in expected else _renamed(name): tensor for name, tensor in tensors.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it."""
        return {"name": self.name, "classes": self.classes, "arguments": dict(self.arguments)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DenseModel:
        """Raises `KeyError`, `TypeError` or `ValueError` for data that `to_json` has not written."""
        name, classes = data["name"], data["classes"]
        if not is_dense(name):
            raise ValueError(f"the model {str(name)[:100]!r}")
        if type(classes) is not int or not 0 < classes <= 2**16:
            raise ValueError(f"{classes} classes")
        return cls(name, classes, _plain_arguments(data["arguments"]))


class JoinedDetector(nn.Module):
    """The network of a one-stage detector: images (n, c, h, w) to raw outputs (n, locations, numbers).

    The numbers of a location (an anchor of it) are the four of its box, the centerness (FCOS), and the logits of all
    classes, the background first where there is one.
    """

    def __init__(self, detector: nn.Module, name: str) -> None:
        super().__init__()
        self.backbone: Any = detector.backbone
        self.head: Any = detector.head
        self._name = name

    def forward(self, images: Tensor) -> Tensor:
        if not self._name.startswith("ssd"):
            check_sides(self._name, images)
        outputs = self.head(list(self.backbone(images).values()))
        keys = ("bbox_regression", "bbox_ctrness", "cls_logits")
        return torch.cat([outputs[key] for key in keys if key in outputs], dim=-1)


class MapSegmenter(nn.Module):
    """The network of a segmenter: images (n, c, h, w) to the logits of each pixel, (n, classes, h, w)."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = segmenter.backbone
        self.classifier: Any = segmenter.classifier
        self._is_lite = type(segmenter).__name__ == "LRASPP"

    def forward(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        maps = self.classifier(features if self._is_lite else features["out"])
        return nn.functional.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)


def is_dense(name: str) -> bool:
    """Returns whether a function of torchvision's makes a detector or segmenter."""
    return name in (*ONE_STAGE, *TWO_STAGE, *SEGMENTERS)


def open_dense(
    name: str, arguments: Mapping[str, Any], *, pretrained: bool
) -> tuple[DenseModel, nn.Module, Preprocessing, tuple[str, ...]]:
    """A detector or segmenter of torchvision: its facts, its module, the preprocessing, and notes.

    Args:
        arguments: of torchvision's function, e.g. ``num_classes``, as torchvision counts them.
        pretrained: with the library's own weights, from its cache or from the internet.

    Raises:
        CaptureError: torchvision is not installed, or rejects the arguments, or they cannot be kept.
    """
    if separate := sorted(set(arguments) & set(_SEPARATE)):
        text = (
            f"torchvision:{name}: the argument {separate[0]} is not taken; name a file of weights in supernet.weights"
        )
        raise CaptureError(text, code="job.conflict", parameter="arguments")
    try:
        further = _plain_arguments({key: value for key, value in arguments.items() if key != "num_classes"})
    except (TypeError, ValueError) as error:
        text = f"torchvision:{name}: {error} cannot be kept with the model; expected numbers, texts and lists of them"
        raise CaptureError(text, code="job.conflict", parameter="arguments") from None
    original: Any = _call(name, arguments, pretrained=pretrained)
    notes = [_thawed(original)]
    people = 2 if name.startswith("keypoint") else 91
    n_outputs = arguments.get("num_classes") or (21 if name in SEGMENTERS else people)
    if name in SEGMENTERS:
        transforms = library("torchvision").models.get_model_weights(name).DEFAULT.transforms()
        size, mean, std = transforms.resize_size[0], transforms.mean, transforms.std
        if getattr(original, "aux_classifier", None) is not None:
            notes.append("the auxiliary classifier, which only torchvision's training reads, is left out")
    else:
        size, mean, std = original.transform.min_size[-1], original.transform.image_mean, original.transform.image_std
        if branch := next((kind for kind in ("mask", "keypoint") if name.startswith(kind)), None):
            notes.append(f"the branch of {branch}s is left out: the network detects boxes")
    preprocessing = Preprocessing(int(size), 3, tuple(map(float, mean)), tuple(map(float, std)))
    dense = DenseModel(name, n_outputs, further)
    dense = replace(dense, classes=n_outputs - dense.has_background)
    return dense, dense.module(original), preprocessing, tuple(filter(None, notes))


def _call(name: str, arguments: Mapping[str, Any], *, pretrained: bool = False) -> nn.Module:
    """What a function of torchvision's makes."""
    models = library("torchvision").models
    keywords = {"weights": "DEFAULT" if pretrained else None, "weights_backbone": None, **arguments}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that a detector fixes
            module: nn.Module = models.get_model(name, **keywords)
    except Exception as error:  # of the library, and of downloads
        raise unusable(f"torchvision:{name}", error, pretrained=pretrained) from error
    return module


def _thawed(module: nn.Module) -> str:
    """Replaces frozen batch norms by ordinary ones, whose statistics fit each subnet; a note if there were some."""
    frozen = library("torchvision").ops.FrozenBatchNorm2d
    count = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, frozen):
                norm = nn.BatchNorm2d(len(child.weight), eps=child.eps or _EPS)
                norm.load_state_dict(child.state_dict(), strict=False)
                setattr(parent, name, norm)
                count += 1
    return f"{count} frozen batch norms were replaced by ordinary ones, which are trained" if count else ""


def _plain_arguments(arguments: Any) -> dict[str, Any]:
    """Arguments that JSON holds as they are; raises `TypeError` or `ValueError` for others."""
    if not isinstance(arguments, Mapping) or len(arguments) > 100:
        raise ValueError("arguments")
    for key, value in arguments.items():
        parts = value if isinstance(value, list | tuple) and len(value) <= 1000 else [value]
        if type(key) is not str or key in (*_SEPARATE, "num_classes") or len(key) > 100:
            raise ValueError(f"the argument {str(key)[:100]!r}")
        if not all(part is None or type(part) in (bool, int, float, str) for part in parts):
            raise TypeError(f"the argument {key} is a {type(value).__name__}")
    return dict(arguments)


def _renamed(name: str) -> str:
    """A tensor's name in today's torchvision."""
    for old, new in _OLD_NAMES:
        name = re.sub(old + "$", new, name)
    if (tower := _OLD_TOWER.fullmatch(name)) is not None:
        return f"{tower[1]}.{int(tower[2]) // 2}.0.{tower[3]}"
    return name
