"""Transformer operations on token ids and masks, as functions that `supernets.graph` finds in a trace."""

from __future__ import annotations

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
