"""Dimensions of the elastic encoder-decoder of texts (no torch)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from supernets.errors import DimensionError
from supernets.families.shared.spec import Number, Options, Spec

MAX_ATTENDED = 3
"""Maximum number of the encoder's last layers that a layer attends to, as in HAT."""


@dataclass(frozen=True)
class EncoderDecoderSpec(Spec):
    """A whole space of the family: that of HAT (Wang et al. 2020, arXiv 2005.14187).

    Depths and widths are chosen once for the encoder and once for the decoder, all others anew for each layer. Departure: heads
    have one size, so that fewer of them are fewer weights.

    Attributes:
        head_size: channels of a head.
        encoder_depth: numbers of layers of the encoder; smaller depths keep the first.
        encoder_width: channels of a token of the source.
        encoder_heads: numbers of heads of a layer's attention.
        encoder_hidden: channels of a layer's MLP.
        decoder_depth: numbers of layers of the decoder; smaller depths keep the first.
        decoder_width: channels of a token of the target.
        decoder_heads: numbers of heads of a layer's attention to the target.
        decoder_cross_heads: numbers of heads of a layer's attention to the encoder.
        decoder_hidden: channels of a layer's MLP.
        decoder_attended: how many of the encoder's last layers a layer attends to, concatenated along the tokens.
    """

    head_size: Annotated[int, Number(512, "a number of channels")]
    encoder_depth: Annotated[tuple[int, ...], Options(64)]
    encoder_width: Annotated[tuple[int, ...], Options(8192)]
    encoder_heads: Annotated[tuple[int, ...], Options(128)]
    encoder_hidden: Annotated[tuple[int, ...], Options(65536)]
    decoder_depth: Annotated[tuple[int, ...], Options(64)]
    decoder_width: Annotated[tuple[int, ...], Options(8192)]
    decoder_heads: Annotated[tuple[int, ...], Options(128)]
    decoder_cross_heads: Annotated[tuple[int, ...], Options(128)]
    decoder_hidden: Annotated[tuple[int, ...], Options(65536)]
    decoder_attended: Annotated[tuple[int, ...], Options(MAX_ATTENDED)] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_size % 2:
            raise DimensionError(
                "head_size", f"rotary positions turn pairs of channels; expected an even number, got {self.head_size}"
            )
        if (attended := self.decoder_attended[-1]) > (depth := self.encoder_depth[0]):
            raise DimensionError(
                "decoder_attended",
                f"a layer would read {attended} encoder layers, and encoders may have {depth}; expected at "
                f"most {depth}, or a larger encoder_depth",
            )


ENCODER_DECODER: Mapping[str, EncoderDecoderSpec] = {
    # For some thousands of short pairs and random weights, on a CPU.
    "tiny": EncoderDecoderSpec(
        head_size=16,
        encoder_depth=(2, 3),
        encoder_width=(64, 96, 128),
        encoder_heads=(2, 4),
        encoder_hidden=(64, 128, 256),
        decoder_depth=(1, 2, 3),
        decoder_width=(64, 96, 128),
        decoder_heads=(2, 4),
        decoder_cross_heads=(2, 4),
        decoder_hidden=(64, 128, 256),
        decoder_attended=(1, 2),
    ),
}
