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

import lazy_loader

# The names of `__init__.pyi` are imported when they are first used: search spaces need no torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
