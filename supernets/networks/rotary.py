"""Frequencies of rotary positions, and the scalings by which pretrained networks read longer texts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from supernets.errors import CheckpointError
from supernets.networks.formats.model_folder import Settings, unusable

Scaling = tuple[float, ...]
"""None as (); ``linear`` (arXiv 2306.15595) as (factor,); ``llama3`` (arXiv 2407.21783) as (factor, low, high, positions)."""
_KEYS: Mapping[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}
"""The library's keys for the numbers of each kind of scaling."""
_MAX_SETTING = 1e9


def frequencies(head_size: int, theta: float, scaling: Scaling = ()) -> tuple[float, ...]:
    """The angles by which neighbouring positions differ, one for each pair of channels of a head, in radians.

    They are computed in single precision, as by the transformers library.

    Args:
        theta: the base of the unscaled frequencies.
        scaling: the frequencies are divided by its factor; by ``llama3``, only those with fewer than `low` periods in texts of
            `positions` tokens, and partly those with up to `high`.
    """
    exponents = torch.arange(0, head_size, 2, device="cpu").float() / head_size
    unscaled = 1.0 / theta**exponents
    if not scaling:
        return tuple(unscaled.tolist())
    factor, *limits = scaling
    if not limits:
        return tuple((unscaled / factor).tolist())
    low, high, positions = limits
    periods = positions / (2 * math.pi / unscaled)
    unscaled_share = ((periods - low) / (high - low)).clamp(0, 1)
    return tuple(((1 - unscaled_share) * unscaled / factor + unscaled_share * unscaled).tolist())


def read_rotary(settings: Settings, *, theta: float = 1e4, partial: bool = False) -> tuple[float, Scaling]:
    """The base and the scaling of a network's frequencies.

    Args:
        theta: The base where the settings have none.
        partial: Whether they may turn a part of each head, see `rotary_share`.

    Raises:
        CheckpointError: they are of another kind, or a number is missing or out of range.
    """
    rotary_options = settings.data.get("rope_parameters") or settings.data.get("rope_scaling") or {}
    kind = rotary_options.get("rope_type", rotary_options.get("type", "default"))
    if kind not in _KEYS:
        kinds_text = ", ".join(map(repr, _KEYS))
        raise _refused(settings, f"are of the type {kind!r}; the family decoder reads {kinds_text}")
    if by_layer := [key for key, value in rotary_options.items() if isinstance(value, Mapping)]:
        raise _refused(
            settings, f"differ between layers ({', '.join(by_layer)}), which networks of this kind do not have"
        )
    if not partial and (share := rotary_share(settings)) != 1:
        raise _refused(settings, f"turn a part of each head ({share!r}); networks of this kind turn whole heads")
    n_positions = settings.data.get("max_position_embeddings", 0)
    rotary = Settings(
        settings.path,
        {"rope_theta": theta, "original_max_position_embeddings": n_positions, **settings.data, **rotary_options},
    )
    theta = rotary.number("rope_theta", default=theta, limit=1e12)
    scaling = tuple(rotary.number(key, default=0.0, limit=_MAX_SETTING) for key in _KEYS[kind])
    if not all(scaling) or (len(scaling) > 1 and scaling[1] >= scaling[2]):
        numbers_text = ", ".join(f"{key} {number:g}" for key, number in zip(_KEYS[kind], scaling, strict=True))
        rising = "" if len(scaling) < 2 else f", and {_KEYS[kind][2]} above {_KEYS[kind][1]}"
        raise _refused(settings, f"are scaled by {kind} with {numbers_text}; expected positive numbers{rising}")
    return theta, scaling


def rotary_share(settings: Settings) -> float:
    """The share of a head's channels that positions turn; raises `CheckpointError` for a value out of range."""
    rotary_options = settings.data.get("rope_parameters") or settings.data.get("rope_scaling") or {}
    return Settings(settings.path, {**settings.data, **rotary_options}).number(
        "partial_rotary_factor", default=1.0, limit=math.nextafter(1, 2)
    )


def _refused(settings: Settings, how: str) -> CheckpointError:
    return unusable(f"{settings.path}: its rotary positions {how}; give another network")


def rotary_settings(theta: float, scaling: Scaling) -> dict[str, Any]:
    """The settings that `read_rotary` reads, by keys that all versions of the library know."""
    kind = {len(keys): kind for kind, keys in _KEYS.items()}[len(scaling)]
    numbers = dict(zip(_KEYS[kind], scaling, strict=True))
    if (last := _KEYS["llama3"][-1]) in numbers:
        numbers[last] = int(numbers[last])
    return {"rope_theta": theta, "rope_scaling": {"rope_type": kind, **numbers} if numbers else None}
