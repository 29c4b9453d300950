"""Operations of transformers on token ids, masks and caches: functions that are one call each in a captured program."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from supernets.networks.own_operations import own_operation

MASKED = -1e4
"""Added to the attention scores of padding: representable in half precision, and its exponential is 0 in every precision."""


def _mask_shapes(
    ids: Tensor,
    padding: Tensor | None = None,
    past: Tensor | None = None,
    filled: Tensor | None = None,
    window: int = 0,
) -> Tensor:
    total = ids.shape[1] + (0 if past is None else past.shape[2])
    return ids.new_empty((1 if padding is None else ids.shape[0], 1, ids.shape[1], total), dtype=torch.float32)


@own_operation(
    "(Tensor ids, int padding) -> Tensor",
    lambda ids, padding: ids.new_empty((ids.shape[0], 1, 1, ids.shape[1]), dtype=torch.float32),
)
def padding_mask(ids: Tensor, padding: int) -> Tensor:
    """A mask to add to attention scores, (n, 1, 1, tokens): 0 for tokens, `MASKED` for padding.

    Args:
        ids: (n, tokens), int64.
    """
    return (ids == padding)[:, None, None, :] * torch.tensor(MASKED)


@own_operation("(Tensor table, Tensor ids) -> Tensor")
def first_rows(table: Tensor, ids: Tensor) -> Tensor:
    """The rows of a table for a sentence's positions: (rows, width), (n, tokens) -> (tokens, width).

    Raises:
        IndexError: the sentence has more tokens than the table has rows.
    """
    if ids.shape[1] > table.shape[0]:
        raise IndexError(f"a sentence of {ids.shape[1]} tokens, and the network has {table.shape[0]} positions")
    return table[: ids.shape[1]]


@own_operation("(Tensor query, Tensor key, Tensor value, int head_size, Tensor? mask=None) -> Tensor")
def attend(query: Tensor, key: Tensor, value: Tensor, head_size: int, mask: Tensor | None = None) -> Tensor:
    """Attention of several heads.

    Args:
        query, key, value: (n, tokens, heads x head_size).
        mask: (n, 1, 1, tokens), added to the scores.

    Returns:
        (n, tokens, heads x head_size).
    """
    n, tokens, channels = query.shape
    shape = (n, tokens, channels // head_size, head_size)
    q, k, v = (part.reshape(shape).transpose(1, 2) for part in (query, key, value))
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))
    return mixed.transpose(1, 2).flatten(2)


@own_operation(
    "(Tensor ids, Tensor? padding=None, Tensor? past=None, Tensor? filled=None) -> Tensor",
    lambda ids, padding=None, *_: ids.new_empty((1 if padding is None else ids.shape[0], ids.shape[1])),
)
def token_positions(
    ids: Tensor, padding: Tensor | None = None, past: Tensor | None = None, filled: Tensor | None = None
) -> Tensor:
    """The positions of tokens in their texts, (1 or n, tokens), int64; 0 for padding.

    Args:
        ids: (n, tokens).
        padding: (n,), int64: tokens that pad each text at its beginning; None for none.
        past: (n, heads, past, channels) keys of the tokens before; None for none.
        filled: (1,), int64: how many of `past` these are, where that has room for more; None for all.
    """
    start = _start(past, filled)
    positions = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
    return positions if padding is None else (positions - padding[:, None]).clamp(min=0)


def _start(past: Tensor | None, filled: Tensor | None) -> int:
    """The number of tokens before."""
    if past is None:
        return 0
    return past.shape[2] if filled is None else int(filled)


@own_operation(
    "(Tensor ids, Tensor? padding=None, Tensor? past=None, Tensor? filled=None, int window=0) -> Tensor", _mask_shapes
)
def causal_mask(
    ids: Tensor,
    padding: Tensor | None = None,
    past: Tensor | None = None,
    filled: Tensor | None = None,
    window: int = 0,
) -> Tensor:
    """A mask to add to attention scores, (1 or n, 1, tokens, past + tokens): 0 for tokens that are seen, at most `MASKED`
    for padding, later tokens and those before a window.

    Args:
        ids, padding, past, filled: as of `token_positions`.
        window: number of tokens up to and with each one that it attends to; 0 for all.
    """
    start = _start(past, filled)
    keys = torch.arange(start + ids.shape[1], device=ids.device)
    mask = (keys[None, None, None] > keys[None, None, start:, None]) * torch.tensor(MASKED)
    if window:
        mask = mask + (keys[None, None, None] <= keys[None, None, start:, None] - window) * torch.tensor(MASKED)
    return mask if padding is None else mask + (keys < padding[:, None, None, None]) * torch.tensor(MASKED)


@own_operation(
    "(Tensor positions, float[] frequencies) -> (Tensor, Tensor)",
    lambda positions, frequencies: tuple(
        positions.new_empty((positions.shape[0], 1, positions.shape[1], len(frequencies)), dtype=torch.float32)
        for _ in range(2)
    ),
)
def rotation(positions: Tensor, frequencies: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles by which rotary embeddings (arXiv 2104.09864) turn, (1 or n, 1, tokens, frequencies)."""
    angles = positions[:, None, :, None].float() * torch.tensor(frequencies, device=positions.device)
    return angles.cos(), angles.sin()


@own_operation("(Tensor x, Tensor cosine, Tensor sine) -> Tensor")
def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Heads (n, heads, tokens, channels) turned by angles: each channel of the first half with its partner in the second.

    With fewer angles than pairs of channels, the first channels are turned, and the others stay.
    """
    n = cosine.shape[-1]
    first, second = x[..., :n], x[..., n : 2 * n]
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, x[..., 2 * n :]], dim=-1)


@own_operation("(Tensor x, int head_size) -> Tensor")
def by_head(x: Tensor, head_size: int) -> Tensor:
    """Channels divided among heads: (n, tokens, heads x head_size) -> (n, heads, tokens, head_size)."""
    return x.view(*x.shape[:2], x.shape[2] // head_size, head_size).transpose(1, 2)


@own_operation("(Tensor past, Tensor new) -> Tensor")
def appended(past: Tensor, new: Tensor) -> Tensor:
    """Keys or values of the tokens before and of new ones: (n, heads, past, size), (n, heads, tokens, size) -> all of them."""
    return torch.cat([past, new], dim=2)


@own_operation("(Tensor query, Tensor key, Tensor value, Tensor mask, float cap=0.0) -> Tensor")
def attend_grouped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, cap: float = 0.0) -> Tensor:
    """Attention in which a group of heads of queries shares one head of keys and values (arXiv 2305.13245).

    Args:
        query: (n, groups x heads of a group, tokens, head_size); those of a group follow each other.
        key, value: (n, groups, past + tokens, head_size).
        mask: (1 or n, 1, tokens, past + tokens), added to the scores.
        cap: bound of the scores, which are softly capped as in Gemma 2 (arXiv 2408.00118) before the mask is added: ``cap *
            tanh(score / cap)``; 0 for none.

    Returns:
        (n, tokens, heads x head_size).
    """
    mask = mask.to(query.dtype)
    if cap:
        grouped = query.unflatten(1, (key.shape[1], -1)) * query.shape[-1] ** -0.5
        scores = cap * torch.tanh(grouped @ key[:, :, None].transpose(-1, -2) / cap) + mask[:, :, None]
        mixed = (scores.softmax(-1) @ value[:, :, None]).flatten(1, 2)
    else:
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    return mixed.transpose(1, 2).flatten(2)


@own_operation(
    "(Tensor query, Tensor key, Tensor value, Tensor keys, Tensor values, Tensor mask, Tensor filled, float cap=0.0)"
    " -> (Tensor, Tensor, Tensor)",
    lambda query, key, value, keys, values, *_: (
        query.new_empty((query.shape[0], 1, query.shape[1] * query.shape[3])),
        torch.empty_like(keys),
        torch.empty_like(values),
    ),
)
def attend_filled(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor,
    filled: Tensor,
    cap: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of one more token to those in a cache with room for it, and the cache with its key and value.

    Args:
        query: (n, groups x heads of a group, 1, head_size), as of `attend_grouped`.
        key, value: (n, groups, 1, head_size), of the token.
        keys, values: (n, groups, room, head_size), of the tokens before, and after them anything.
        mask: (n, 1, 1, filled + 1), added to the scores.
        filled: (1,), int64: the number of tokens before, less than the room.
        cap: as of `attend_grouped`.

    Returns:
        (n, 1, heads x head_size), and twice (n, groups, room, head_size).
    """
    keys, values, end = keys.clone(), values.clone(), int(filled) + 1
    keys[:, :, end - 1], values[:, :, end - 1] = key[:, :, 0], value[:, :, 0]
    return attend_grouped(query, keys[:, :, :end], values[:, :, :end], mask, cap), keys, values


@own_operation("(Tensor x, Tensor gates, Tensor key) -> Tensor")
def gated_heads(x: Tensor, gates: Tensor, key: Tensor) -> Tensor:
    """Attended heads, each times the gate of its expert.

    Args:
        x: (n, tokens, groups x experts x channels).
        gates: (n, tokens, experts).
        key: (n, groups, all tokens, head_size), of which only the number of groups is used.
    """
    by_expert = x.view(*x.shape[:2], key.shape[1], gates.shape[2], -1)
    return (by_expert * gates[:, :, None, :, None]).flatten(2)


@own_operation("(Tensor x) -> Tensor")
def last_token(x: Tensor) -> Tensor:
    """The channels of the last token of each text: (n, tokens, channels) -> (n, channels)."""
    return x[:, -1]


@own_operation("(Tensor ids, int first) -> (Tensor, Tensor)")
def divided(ids: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The first tokens of each text, and the others: (n, tokens) -> (n, first), (n, tokens - first)."""
    return ids[:, :first], ids[:, first:]


@own_operation(
    "(Tensor[] encoded, Tensor key, Tensor value, Tensor attended, int head_size) -> (Tensor, Tensor)",
)
def cross_memory(
    encoded: Sequence[Tensor], key: Tensor, value: Tensor, attended: Tensor, head_size: int
) -> tuple[Tensor, Tensor]:
    """Keys and values of the outputs of an encoder's last layers, (n, heads, layers read x tokens, head_size) each.

    Args:
        encoded: the outputs of layers, (n, tokens, width) each, of which the last ones are read.
        key, value: weights (heads x head_size, width).
        attended: (layers read,), of which only the length is used.
    """
    layers = encoded[-len(attended) :]
    keys, values = (
        torch.cat([by_head(functional.linear(x, weight), head_size) for x in layers], dim=2) for weight in (key, value)
    )
    return keys, values


@own_operation("(Tensor mask, Tensor attended) -> Tensor")
def repeated_mask(mask: Tensor, attended: Tensor) -> Tensor:
    """A mask of sources for each of several layers, (n, 1, 1, tokens) -> (n, 1, 1, layers x tokens).

    Args:
        attended: (layers,), of which only the length is used.
    """
    return torch.cat([mask] * len(attended), dim=3)


@own_operation("(Tensor logits, Tensor ids) -> Tensor")
def token_losses(logits: Tensor, ids: Tensor) -> Tensor:
    """The negative logarithm of the probability of each token after the first, (n, tokens - 1).

    Args:
        logits: (n, tokens, vocabulary), of the token after each.
        ids: (n, tokens).
    """
    return -logits[:, :-1].log_softmax(2).gather(2, ids[:, 1:, None]).squeeze(2)
