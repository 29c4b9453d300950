"""Transformer operations on token ids, masks and caches, as functions that `supernets.graph` finds in a trace."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

MASKED = -1e4
"""Added to the attention scores of padding: representable in half precision, and its exponential is 0 in every precision."""


def padding_mask(ids: Tensor, padding: int) -> Tensor:
    """A mask to add to attention scores, (n, 1, 1, tokens): 0 for tokens, `MASKED` for padding.

    Args:
        ids: (n, tokens), int64.
    """
    if has_torch_function((ids,)):
        return handle_torch_function(padding_mask, (ids,), ids, padding)
    return (ids == padding)[:, None, None, :] * torch.tensor(MASKED)


def first_rows(table: Tensor, ids: Tensor) -> Tensor:
    """The rows of a table for a sentence's positions: (rows, width), (n, tokens) -> (tokens, width).

    Raises:
        IndexError: the sentence has more tokens than the table has rows.
    """
    if has_torch_function((table, ids)):
        return handle_torch_function(first_rows, (table, ids), table, ids)
    if ids.shape[1] > table.shape[0]:
        raise IndexError(f"a sentence of {ids.shape[1]} tokens, and the network has {table.shape[0]} positions")
    return table[: ids.shape[1]]


def attend(query: Tensor, key: Tensor, value: Tensor, head_size: int, mask: Tensor | None = None) -> Tensor:
    """Attention of several heads.

    Args:
        query, key, value: (n, tokens, heads x head_size).
        mask: (n, 1, 1, tokens), added to the scores.

    Returns:
        (n, tokens, heads x head_size).
    """
    if has_torch_function((query, key, value, mask)):
        return handle_torch_function(attend, (query, key, value, mask), query, key, value, head_size, mask)
    n, tokens, channels = query.shape
    shape = (n, tokens, channels // head_size, head_size)
    q, k, v = (part.reshape(shape).transpose(1, 2) for part in (query, key, value))
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))
    return mixed.transpose(1, 2).flatten(2)


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
    if has_torch_function((ids, padding, past, filled)):
        return handle_torch_function(token_positions, (ids, padding, past, filled), ids, padding, past, filled)
    start = _start(past, filled)
    positions = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
    return positions if padding is None else (positions - padding[:, None]).clamp(min=0)


def _start(past: Tensor | None, filled: Tensor | None) -> int:
    """The number of tokens before."""
    if past is None:
        return 0
    return past.shape[2] if filled is None else int(filled)


def causal_mask(
    ids: Tensor, padding: Tensor | None = None, past: Tensor | None = None, filled: Tensor | None = None
) -> Tensor:
    """A mask to add to attention scores, (1 or n, 1, tokens, past + tokens): `MASKED` for padding and for later tokens, else 0.

    Args: as of `token_positions`.
    """
    if has_torch_function((ids, padding, past, filled)):
        return handle_torch_function(causal_mask, (ids, padding, past, filled), ids, padding, past, filled)
    start = _start(past, filled)
    keys = torch.arange(start + ids.shape[1], device=ids.device)
    mask = (keys[None, None, None] > keys[None, None, start:, None]) * torch.tensor(MASKED)
    return mask if padding is None else mask + (keys < padding[:, None, None, None]) * torch.tensor(MASKED)


def rotation(positions: Tensor, frequencies: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles by which rotary embeddings (arXiv 2104.09864) turn, (1 or n, 1, tokens, frequencies)."""
    if has_torch_function((positions,)):
        found: tuple[Tensor, Tensor] = handle_torch_function(rotation, (positions,), positions, frequencies)
        return found
    angles = positions[:, None, :, None].float() * torch.tensor(frequencies, device=positions.device)
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Heads (n, heads, tokens, channels) turned by angles: each channel of the first half with its partner in the second."""
    if has_torch_function((x, cosine, sine)):
        return handle_torch_function(rotated, (x, cosine, sine), x, cosine, sine)
    first, second = x.chunk(2, dim=-1)
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def rows_at(table: Tensor, positions: Tensor) -> Tensor:
    """The rows of a table at positions: (rows, width), (m, tokens) -> (m, tokens, width).

    Raises:
        IndexError: a position is beyond the table.
    """
    if has_torch_function((table, positions)):
        return handle_torch_function(rows_at, (table, positions), table, positions)
    return functional.embedding(positions, table)


def by_head(x: Tensor, head_size: int) -> Tensor:
    """Channels divided among heads: (n, tokens, heads x head_size) -> (n, heads, tokens, head_size)."""
    if has_torch_function((x,)):
        return handle_torch_function(by_head, (x,), x, head_size)
    return x.view(*x.shape[:2], x.shape[2] // head_size, head_size).transpose(1, 2)


def appended(past: Tensor, new: Tensor) -> Tensor:
    """Keys or values of the tokens before and of new ones: (n, heads, past, size), (n, heads, tokens, size) -> all of them."""
    if has_torch_function((past, new)):
        return handle_torch_function(appended, (past, new), past, new)
    return torch.cat([past, new], dim=2)


def attend_grouped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """Attention in which a group of heads of queries shares one head of keys and values (arXiv 2305.13245).

    Args:
        query: (n, groups x heads of a group, tokens, head_size); those of a group follow each other.
        key, value: (n, groups, past + tokens, head_size).
        mask: (1 or n, 1, tokens, past + tokens), added to the scores.

    Returns:
        (n, tokens, heads x head_size).
    """
    if has_torch_function((query, key, value, mask)):
        return handle_torch_function(attend_grouped, (query, key, value, mask), query, key, value, mask)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype), enable_gqa=True)
    return mixed.transpose(1, 2).flatten(2)


def attend_filled(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, mask: Tensor, filled: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention of one more token to those in a cache with room for it, and the cache with its key and value.

    Args:
        query: (n, groups x heads of a group, 1, head_size), as of `attend_grouped`.
        key, value: (n, groups, 1, head_size), of the token.
        keys, values: (n, groups, room, head_size), of the tokens before, and after them anything.
        mask: (n, 1, 1, filled + 1), added to the scores.
        filled: (1,), int64: the number of tokens before, less than the room.

    Returns:
        (n, 1, heads x head_size), and twice (n, groups, room, head_size).
    """
    if has_torch_function((query, key, value, keys, values, mask, filled)):
        found: tuple[Tensor, Tensor, Tensor] = handle_torch_function(
            attend_filled,
            (query, key, value, keys, values, mask, filled),
            query,
            key,
            value,
            keys,
            values,
            mask,
            filled,
        )
        return found
    keys, values, end = keys.clone(), values.clone(), int(filled) + 1
    keys[:, :, end - 1], values[:, :, end - 1] = key[:, :, 0], value[:, :, 0]
    return attend_grouped(query, keys[:, :, :end], values[:, :, :end], mask), keys, values


def gated_heads(x: Tensor, gates: Tensor, key: Tensor) -> Tensor:
    """Attended heads, each times the gate of its expert.

    Args:
        x: (n, tokens, groups x experts x channels).
        gates: (n, tokens, experts).
        key: (n, groups, all tokens, head_size), of which only the number of groups is used.
    """
    if has_torch_function((x, gates, key)):
        return handle_torch_function(gated_heads, (x, gates, key), x, gates, key)
    by_expert = x.view(*x.shape[:2], key.shape[1], gates.shape[2], -1)
    return (by_expert * gates[:, :, None, :, None]).flatten(2)


def last_token(x: Tensor) -> Tensor:
    """What belongs to the last token of each text: (n, tokens, channels) -> (n, channels)."""
    if has_torch_function((x,)):
        return handle_torch_function(last_token, (x,), x)
    return x[:, -1]


def divided(ids: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The first tokens of each text, and the others: (n, tokens) -> (n, first), (n, tokens - first)."""
    if has_torch_function((ids,)):
        found: tuple[Tensor, Tensor] = handle_torch_function(divided, (ids,), ids, first)
        return found
    return ids[:, :first], ids[:, first:]


def joined(parts: Sequence[Tensor], dim: int) -> Tensor:
    """One to three tensors of one shape, along the dimension of their tokens."""
    if has_torch_function(tuple(parts)):
        return handle_torch_function(joined, tuple(parts), parts, dim)
    return torch.cat(list(parts), dim=dim)


def token_losses(logits: Tensor, ids: Tensor) -> Tensor:
    """The negative logarithm of the probability of each token after the first, (n, tokens - 1).

    Args:
        logits: (n, tokens, vocabulary), of the token after each.
        ids: (n, tokens).
    """
    if has_torch_function((logits, ids)):
        return handle_torch_function(token_losses, (logits, ids), logits, ids)
    return -logits[:, :-1].log_softmax(2).gather(2, ids[:, 1:, None]).squeeze(2)
