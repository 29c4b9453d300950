"""Writes scenes of Fashion-MNIST garments as data of boxes and of masks, for the benchmarks of detection and segmentation.

    python -m tests.benchmarks.scenes FOLDER [--train 1500] [--validation 300] [--test 300] [--seed 0]

Scenes of 128 to 160 pixels a side with 1 to 6 garments of scale 0.3 to 1.5 which overlap, before textured
backgrounds; photos with labels cannot be downloaded here. `FOLDER/coco/annotations` are boxes, `FOLDER/masks` masks.
"""

from __future__ import annotations

from pathlib import Path

import typer

from tests.dense_scenes import make_parts, write_coco, write_masks


def main(folder: Path, train: int = 1500, validation: int = 300, test: int = 300, seed: int = 0) -> None:
    """Writes the scenes of three parts."""
    parts = make_parts(train, validation, test, seed=seed)
    print(write_coco(parts, folder / "coco"))
    print(write_masks(parts, folder / "masks"))


if __name__ == "__main__":
    typer.run(main)
