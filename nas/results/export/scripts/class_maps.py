"""Finds the class of each pixel of the image files on its command line, by the network beside it.

Needs numpy, Pillow and onnxruntime. Prints the share of each class; --maps writes the classes of pixels as images, whose levels
are the classes' positions, and --pictures the images with their classes in colour.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.results.export.scripts.images import inputs_of
from nas.results.export.scripts.prediction import Network, described_parser, network_beside
from supernets.data.class_colours import colour_of
from supernets.data.preprocessing import decode, letterbox_window


def class_map(network: Network, image: Image.Image) -> NDArray[np.uint8]:
    """The class of each pixel of a decoded image, (height, width)."""
    size = network.how["size"][0]
    classes, _ = network.answer(inputs_of(network.how, image))
    left, top, width, height = letterbox_window(*image.size, size)
    part = Image.fromarray(classes.astype(np.uint8)[top : top + height, left : left + width])
    return np.asarray(part.resize(image.size, Image.Resampling.NEAREST))


def painted(image: Image.Image, classes: NDArray[np.uint8]) -> Image.Image:
    """The image under the colours of its classes; those of the first class, often the background, are left out."""
    table = np.array([colour_of(label) for label in range(256)], dtype=np.uint8)
    pixels = np.asarray(image.convert("RGB"))
    mixed = np.where(classes[..., None] > 0, pixels // 2 + table[classes] // 2, pixels)
    return Image.fromarray(mixed.astype(np.uint8))


def save(picture: Image.Image, path: Path) -> None:
    """Writes a picture, into a new folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def main(script: Path) -> int:
    """Runs the command line; 1 if an image could not be read."""
    parser = described_parser(__doc__, "FILE")
    parser.add_argument("--maps", metavar="FOLDER", type=Path, help="write the classes of pixels as grey images")
    parser.add_argument("--pictures", metavar="FOLDER", type=Path, help="write the images with their classes in colour")
    options = parser.parse_args()
    network, failed = network_beside(script), False
    for index, file in enumerate(options.examples):
        try:
            with Image.open(file) as opened:
                image = decode(opened, len(network.how["mean"]))
        except (OSError, ValueError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            failed = True
            continue
        classes = class_map(network, image)
        shares = np.bincount(classes.ravel(), minlength=len(network.classes)) / classes.size
        shown = [i for i in shares.argsort()[::-1] if shares[i] > 0]
        print(f"{file}: {', '.join(f'{network.classes[i]} {shares[i]:.1%}' for i in shown)}")
        if options.maps is not None:
            save(Image.fromarray(classes), options.maps / f"{index}-{Path(file).stem}.png")
        if options.pictures is not None:
            save(painted(image, classes), options.pictures / f"{index}-{Path(file).stem}.painted.png")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(Path(__file__)))
