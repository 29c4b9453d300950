"""Supernets: search spaces, shared weights, training, extraction of subnets, and lowering to ONNX.

from pathlib import Path
from supernets import MOBILE_CNN, MobileCNNFamily, SandwichStrategy, TrainingSettings, head, load_data
from supernets import make_supernet, onnx_model, recalibrate, train

data = load_data("digits")
family = MobileCNNFamily(MOBILE_CNN["digits"], image_size=8, channels=1, n_classes=data.n_classes)
supernet = make_supernet(family)
train(supernet, data, SandwichStrategy(family.space), TrainingSettings(epochs=4), Path("digits"))
network = recalibrate(supernet.extract(family.space.largest), [head(data.train, 500).inputs])
accuracy = (network(data.test.inputs).argmax(1) == data.test.labels).float().mean()
Path("digits.onnx").write_bytes(onnx_model(network, data.test.inputs[:2]))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supernets.data import DataSet, ImageOptions, Part, TextOptions, head, load_data
    from supernets.errors import SupernetError
    from supernets.families.encoder.family import EncoderFamily
    from supernets.families.encoder.spec import ENCODER, EncoderSpec
    from supernets.families.mobile_cnn.family import MobileCNN, MobileCNNFamily
    from supernets.families.mobile_cnn.spec import MOBILE_CNN, CNNSpec, StageSpec
    from supernets.families.resnet.family import ResNetFamily
    from supernets.families.resnet.spec import RESNET, ResNetSpec
    from supernets.families.vit.family import ViTFamily
    from supernets.families.vit.spec import VIT, ViTSpec
    from supernets.networks.module_to_onnx import onnx_model
    from supernets.sharing.base import Family, Sharing, Supernet, TrainingStrategy
    from supernets.sharing.spec import MixtureSpec, SharingSpec
    from supernets.space import Architecture, Choice, SearchSpace
    from supernets.training.checkpoint import load_checkpoint, make_supernet, save_checkpoint
    from supernets.training.recalibration import recalibrate
    from supernets.training.strategies.attentive import AttentiveStrategy
    from supernets.training.strategies.progressive import ProgressiveStrategy
    from supernets.training.strategies.single_phase import (
        LargestStrategy,
        SandwichStrategy,
        SinglePathStrategy,
        SortedStrategy,
    )
    from supernets.training.trainer import train
    from supernets.training.training_loop import TrainingSettings

_HOMES = {
    name: module
    for module, names in {
        "sharing.base": "Family Sharing Supernet TrainingStrategy",
        "training.checkpoint": "load_checkpoint make_supernet save_checkpoint",
        "data": "DataSet ImageOptions Part TextOptions head load_data",
        "errors": "SupernetError",
        "families.encoder.family": "EncoderFamily",
        "families.encoder.spec": "ENCODER EncoderSpec",
        "families.mobile_cnn.family": "MobileCNN MobileCNNFamily",
        "families.mobile_cnn.spec": "MOBILE_CNN CNNSpec StageSpec",
        "families.resnet.family": "ResNetFamily",
        "families.resnet.spec": "RESNET ResNetSpec",
        "families.vit.family": "ViTFamily",
        "families.vit.spec": "VIT ViTSpec",
        "networks.module_to_onnx": "onnx_model",
        "training.recalibration": "recalibrate",
        "sharing.spec": "MixtureSpec SharingSpec",
        "space": "Architecture Choice SearchSpace",
        "training.trainer": "train",
        "training.training_loop": "TrainingSettings",
        "training.strategies.attentive": "AttentiveStrategy",
        "training.strategies.progressive": "ProgressiveStrategy",
        "training.strategies.single_phase": "LargestStrategy SandwichStrategy SinglePathStrategy SortedStrategy",
    }.items()
    for name in names.split()
}
"""The module of each public name."""

__all__ = [
    "ENCODER",
    "MOBILE_CNN",
    "RESNET",
    "VIT",
    "Architecture",
    "AttentiveStrategy",
    "CNNSpec",
    "Choice",
    "DataSet",
    "EncoderFamily",
    "EncoderSpec",
    "Family",
    "ImageOptions",
    "LargestStrategy",
    "MixtureSpec",
    "MobileCNN",
    "MobileCNNFamily",
    "Part",
    "ProgressiveStrategy",
    "ResNetFamily",
    "ResNetSpec",
    "SandwichStrategy",
    "SearchSpace",
    "Sharing",
    "SharingSpec",
    "SinglePathStrategy",
    "SortedStrategy",
    "StageSpec",
    "Supernet",
    "SupernetError",
    "TextOptions",
    "TrainingSettings",
    "TrainingStrategy",
    "ViTFamily",
    "ViTSpec",
    "head",
    "load_checkpoint",
    "load_data",
    "make_supernet",
    "onnx_model",
    "recalibrate",
    "save_checkpoint",
    "train",
]


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: search spaces need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'supernets' has no attribute {name!r}")
    return getattr(import_module(f"supernets.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
