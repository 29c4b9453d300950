"""Finds objects in the image files on its command line, by the network beside it.

Needs numpy, Pillow and onnxruntime. Prints the objects of each image, with boxes in pixels of the image (left, top, right,
bottom); --json writes them in COCO's result format, --pictures draws them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nas.results.export.scripts.images import inputs_of
from nas.results.export.scripts.prediction import Network, described_parser, network_beside
from supernets.data.class_colours import colour_of
from supernets.data.preprocessing import decode, letterbox_window

SHOWN = 0.3
"""Default of the smallest score of an object that is printed and drawn."""


def detected(network: Network, image: Image.Image) -> NDArray[np.float32]:
    """The objects of a decoded image by descending score, (k, 6): corners of the box in pixels of the image, score, class.

    Boxes may reach out of the image, as those do that the network's average precision was scored on.
    """
    size = network.how["size"][0]
    rows, _ = network.answer(inputs_of(network.how, image))
    rows = rows[rows[:, 4] > 0].copy()
    left, top, width, height = letterbox_window(*image.size, size)
    rows[:, [0, 2]] = (rows[:, [0, 2]] - left) * (image.width / width)
    rows[:, [1, 3]] = (rows[:, [1, 3]] - top) * (image.height / height)
    return rows


def as_results(file: str, index: int, rows: NDArray[np.float32], classes: Sequence[str]) -> list[dict[str, Any]]:
    """The objects of an image in COCO's result format; the image's id is the number in its name, else its place."""
    stem = Path(file).stem
    image_id = int(stem) if stem.isdecimal() else index
    return [
        {
            "image_id": image_id,
            "file_name": file,
            "category_id": int(label) + 1,
            "category": classes[int(label)],
            "bbox": [round(float(x), 4) for x in (left, top, right - left, bottom - top)],
            "score": round(float(score), 6),
        }
        for left, top, right, bottom, score, label in rows
    ]


def drawn(image: Image.Image, rows: NDArray[np.float32], classes: Sequence[str]) -> Image.Image:
    """The image with the boxes of objects, their classes and scores."""
    picture = image.convert("RGB")
    draw, width = ImageDraw.Draw(picture), max(1, round(min(image.size) / 160))
    for *corners, score, label in rows[::-1]:  # the likeliest on top
        left, top, right, bottom = np.clip(corners, 0, [*image.size, *image.size])
        colour, text = colour_of(int(label)), f"{classes[int(label)]} {score:.0%}"
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)
        place = (left, max(0, top - 12))
        draw.rectangle(draw.textbbox(place, text), fill=colour)
        draw.text(place, text, fill="white")
    return picture


def main(script: Path) -> int:
    """Runs the command line; 1 if an image could not be read."""
    parser = described_parser(__doc__, "FILE")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all objects in COCO's result format")
    parser.add_argument("--pictures", metavar="FOLDER", type=Path, help="write the images with their objects")
    parser.add_argument("--score", type=float, default=SHOWN, help=f"smallest score that is shown (default {SHOWN})")
    options = parser.parse_args()
    network, results, failed = network_beside(script), [], False
    for index, file in enumerate(options.examples):
        try:
            with Image.open(file) as opened:
                image = decode(opened, len(network.how["mean"]))
        except (OSError, ValueError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            failed = True
            continue
        rows = detected(network, image)
        results += as_results(file, index, rows, network.classes)
        shown = rows[rows[:, 4] >= options.score]
        texts = (
            f"{network.classes[int(label)]} {score:.1%} [{left:.1f}, {top:.1f}, {right:.1f}, {bottom:.1f}]"
            for left, top, right, bottom, score, label in shown
        )
        print(f"{file}: {'; '.join(texts) or 'no object'}")
        if options.pictures is not None:
            options.pictures.mkdir(parents=True, exist_ok=True)
            drawn(image, shown, network.classes).save(options.pictures / f"{index}-{Path(file).stem}.png")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(Path(__file__)))
