"""The colours of charts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour on a light page and on a dark one."""

    light: str
    dark: str


# Okabe and Ito (2008): distinguishable with every common colour blindness, and by lightness; on a dark page, the lighter ones.
FRONT = Colour("#0072B2", "#56B4E9")
JOINT_FRONT = Colour("#7B4FA3", "#B79BE0")
"""Of several profiles: beside the blue of one profile's front, told apart by hue and by lightness."""
MEASURED = Colour("#9AA3AD", "#9AA3AD")
PREDICTED = Colour("#D55E00", "#E69F00")
SMALLEST = Colour("#009E73", "#2FC49A")
LARGEST = Colour("#CC79A7", "#E0A3C4")
FINETUNED = Colour("#E69F00", "#F0E442")
NEAREST = Colour("#22262B", "#E8EBEE")
SOFT = Colour("#5F6770", "#A3ACB6")
PALETTE = (
    FRONT,
    PREDICTED,
    SMALLEST,
    LARGEST,
    Colour("#E69F00", "#F0733A"),
    Colour("#56B4E9", "#5B9BE0"),
    SOFT,
)
"""Of several series side by side; without the yellow, which fades on white."""
PRECISION_GREYS = {
    "int4": Colour("#2B3038", "#F2F4F6"),
    "int8": Colour("#4D5560", "#D5DBE1"),
    "fp16": Colour("#6F6455", "#C7BDAE"),
    "bf16": Colour("#556F64", "#AEC7BD"),
}
"""Of networks off the front, by precision; `MEASURED` for the others."""
OTHER_RUNTIME = Colour("#B08D57", "#D9BE91")
OTHER_RUNTIME_GREYS = {"int8": Colour("#7A5C2E", "#EAD9BC")}
"""The same of networks in another runtime than the first of the job; `OTHER_RUNTIME` for the others."""
OLD_TO_NEW = tuple(Colour(shade, shade) for shade in ("#FDE725", "#5EC962", "#21918C", "#3B528B", "#440154"))
"""Of predictions in five equal parts, the oldest first: from viridis (Smith and van der Walt 2015)."""
REMOVABLE = Colour("#A9CDE6", "#A9CDE6")
