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
    from supernets.base import Family as Family
    from supernets.base import Sharing as Sharing
    from supernets.base import Supernet as Supernet
    from supernets.base import TrainingStrategy as TrainingStrategy
    from supernets.checkpoint import load_checkpoint as load_checkpoint
    from supernets.checkpoint import make_supernet as make_supernet
    from supernets.checkpoint import save_checkpoint as save_checkpoint
    from supernets.data import DataSet as DataSet
    from supernets.data import ImageOptions as ImageOptions
    from supernets.data import Part as Part
    from supernets.data import TextOptions as TextOptions
    from supernets.data import head as head
    from supernets.data import load_data as load_data
    from supernets.errors import SupernetError as SupernetError
    from supernets.families.encoder.family import EncoderFamily as EncoderFamily
    from supernets.families.encoder.spec import ENCODER as ENCODER
    from supernets.families.encoder.spec import EncoderSpec as EncoderSpec
    from supernets.families.mobile_cnn.family import MobileCNN as MobileCNN
    from supernets.families.mobile_cnn.family import MobileCNNFamily as MobileCNNFamily
    from supernets.families.mobile_cnn.spec import MOBILE_CNN as MOBILE_CNN
    from supernets.families.mobile_cnn.spec import CNNSpec as CNNSpec
    from supernets.families.mobile_cnn.spec import StageSpec as StageSpec
    from supernets.families.resnet.family import ResNetFamily as ResNetFamily
    from supernets.families.resnet.spec import RESNET as RESNET
    from supernets.families.resnet.spec import ResNetSpec as ResNetSpec
    from supernets.families.vit.family import ViTFamily as ViTFamily
    from supernets.families.vit.spec import VIT as VIT
    from supernets.families.vit.spec import ViTSpec as ViTSpec
    from supernets.module_to_onnx import onnx_model as onnx_model
    from supernets.recalibration import recalibrate as recalibrate
    from supernets.sharing.spec import MixtureSpec as MixtureSpec
    from supernets.sharing.spec import SharingSpec as SharingSpec
    from supernets.space import Architecture as Architecture
    from supernets.space import Choice as Choice
    from supernets.space import SearchSpace as SearchSpace
    from supernets.trainer import train as train
    from supernets.training_loop import TrainingSettings as TrainingSettings
    from supernets.training_strategies.attentive import AttentiveStrategy as AttentiveStrategy
    from supernets.training_strategies.progressive import ProgressiveStrategy as ProgressiveStrategy
    from supernets.training_strategies.single_phase import LargestStrategy as LargestStrategy
    from supernets.training_strategies.single_phase import SandwichStrategy as SandwichStrategy
    from supernets.training_strategies.single_phase import SinglePathStrategy as SinglePathStrategy
    from supernets.training_strategies.single_phase import SortedStrategy as SortedStrategy

_HOMES = {
    "ENCODER": "families.encoder.spec",
    "MOBILE_CNN": "families.mobile_cnn.spec",
    "RESNET": "families.resnet.spec",
    "VIT": "families.vit.spec",
    "Architecture": "space",
    "AttentiveStrategy": "training_strategies.attentive",
    "CNNSpec": "families.mobile_cnn.spec",
    "Choice": "space",
    "DataSet": "data",
    "EncoderFamily": "families.encoder.family",
    "EncoderSpec": "families.encoder.spec",
    "Family": "base",
    "ImageOptions": "data",
    "LargestStrategy": "training_strategies.single_phase",
    "MixtureSpec": "sharing.spec",
    "MobileCNN": "families.mobile_cnn.family",
    "MobileCNNFamily": "families.mobile_cnn.family",
    "Part": "data",
    "ProgressiveStrategy": "training_strategies.progressive",
    "ResNetFamily": "families.resnet.family",
    "ResNetSpec": "families.resnet.spec",
    "SandwichStrategy": "training_strategies.single_phase",
    "SearchSpace": "space",
    "Sharing": "base",
    "SharingSpec": "sharing.spec",
    "SinglePathStrategy": "training_strategies.single_phase",
    "SortedStrategy": "training_strategies.single_phase",
    "StageSpec": "families.mobile_cnn.spec",
    "Supernet": "base",
    "SupernetError": "errors",
    "TextOptions": "data",
    "TrainingSettings": "training_loop",
    "TrainingStrategy": "base",
    "ViTFamily": "families.vit.family",
    "ViTSpec": "families.vit.spec",
    "head": "data",
    "load_checkpoint": "checkpoint",
    "load_data": "data",
    "make_supernet": "checkpoint",
    "onnx_model": "module_to_onnx",
    "recalibrate": "recalibration",
    "save_checkpoint": "checkpoint",
    "train": "trainer",
}
"""The module of each public name."""

__all__ = [
    "ENCODER", "MOBILE_CNN", "RESNET", "VIT", "Architecture", "AttentiveStrategy", "CNNSpec", "Choice", "DataSet",
    "EncoderFamily", "EncoderSpec", "Family", "ImageOptions", "LargestStrategy", "MixtureSpec", "MobileCNN",
    "MobileCNNFamily", "Part", "ProgressiveStrategy", "ResNetFamily", "ResNetSpec", "SandwichStrategy", "SearchSpace",
    "Sharing", "SharingSpec", "SinglePathStrategy", "SortedStrategy", "StageSpec", "Supernet", "SupernetError", "TextOptions",
    "TrainingSettings", "TrainingStrategy", "ViTFamily", "ViTSpec", "head", "load_checkpoint", "load_data", "make_supernet",
    "onnx_model", "recalibrate", "save_checkpoint", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The names above, imported when they are first used: search spaces need no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'supernets' has no attribute {name!r}")
    return getattr(import_module(f"supernets.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
