"""Data sets of boxes and masks by their names."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from supernets.data.dense.class_table import read_class_table
from supernets.data.dense.coco import read_coco
from supernets.data.dense.faults import Faults
from supernets.data.dense.labelled_images import LabelledImage, boxes_source, masks_source
from supernets.data.dense.masks import MaskReader, find_masks
from supernets.data.dense.voc import read_voc
from supernets.data.dense.yolo import read_yolo
from supernets.data.image_folder import some_of, spread
from supernets.data.labelled_examples import OnProgress, Source, invalid_option, no_progress, wrong_kind
from supernets.data.options import ImageOptions
from supernets.data.targets import BOXES, CLASSES, MASKS

COCO, YOLO, VOC, SEGMENTATION = "coco", "yolo", "voc", "segmentation-folder"
TARGETS = {COCO: BOXES, YOLO: BOXES, VOC: BOXES, SEGMENTATION: MASKS}
"""The kind of the labels of each data set, by its name."""


def dense_source(
    name: str, path: Path, options: ImageOptions, targets: str = CLASSES, *, on_progress: OnProgress = no_progress
) -> Source:
    """The letterboxed images of a data set with their boxes or masks, by its own parts, or all to train on.

    All faults of images and labels are listed at once; with `skip_unreadable` images with faults are left out instead. Images
    without objects are kept. Labels are grouped by the rarest class of each image.

    Args:
        name: One of `TARGETS`.
        path: File or folder of the data set, see `read_coco`, `read_yolo`, `read_voc` and `find_masks`.
        options: Without an `image_size` the side is `supernets.data.dense.labelled_images.DEFAULT_SIZE`; `crop` and
            `interpolation` are of other data sets.
        targets: The kind of labels that a task needs, ``boxes`` or ``masks``; ``classes`` for those of the data set.
        on_progress: Called about once a second while files are read.

    Raises:
        DataError: files are missing, damaged or wrong; a task needs other labels; or the images would take too much memory.
    """
    if targets not in (CLASSES, TARGETS[name]):
        raise wrong_kind(f"{name} has {TARGETS[name]}, and the task needs {targets}; choose another data set or task")
    if options.crop is not None or options.interpolation is not None:
        raise invalid_option(f"crop and interpolation: {name} takes whole images, resized (bilinear); leave them out")
    faults = Faults(path)
    if name != SEGMENTATION:
        class_names, images = _boxes(name, path, options.images, faults)
        if not class_names or not images:
            faults.stop(skip=False)
            raise invalid_option(f"{path}: has no object of any class; expected at least one box")
        return boxes_source(path, class_names, images, options, faults, on_progress)
    images, masks = find_masks(path, faults)
    reader = MaskReader(read_class_table(path), masks, faults)
    return masks_source(path, reader.class_names, images, reader, options, faults, on_progress)


def dense_images(name: str, path: Path, *, images: Path | None, channels: int, n: int) -> list[Image.Image]:
    """At most `n` images of a data set, decoded but not resized, spread over its training part, without those that cannot be
    read.

    Args:
        images: Folder of the images that annotations of ``coco`` name; see `read_coco`.
        channels: 1 (grey) or 3 (colour).
    """
    faults = Faults(path)
    labelled = find_masks(path, faults)[0] if name == SEGMENTATION else _boxes(name, path, images, faults)[1]
    files = [image.file for image in labelled if image.part == "train"]
    return some_of([files[i] for i in spread(len(files), n)] if files else [], channels=channels)


def _boxes(name: str, path: Path, images: Path | None, faults: Faults) -> tuple[tuple[str, ...], list[LabelledImage]]:
    if name == COCO:
        return read_coco(path, images, faults)
    return read_yolo(path, faults) if name == YOLO else read_voc(path, faults)
