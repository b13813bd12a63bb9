"""Texts side by side without padding: one row of tokens, and attention that stays inside each text.

The texts of a batch lie in one row, shortest first, so that texts of one length are neighbours and
share an attention call. The attention functions of transformers are replaced through its
`AttentionInterface`; a mask over the whole row would be T * T, so none is made. On GPUs in 16 bit
it is `torch.nn.attention.varlen.varlen_attn` (FlashAttention), elsewhere PyTorch's SDPA once for
each length that occurs.

Shapes: N texts, T tokens in all, C texts of one length, L its tokens, H heads, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import torch
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "mbegu_packed"  # what transformers' `attn_implementation` calls it


@dataclass(frozen=True)
class Packed:
    """A batch of texts in one row of tokens, shortest first."""

    input_ids_T: torch.Tensor
    position_ids_T: torch.Tensor  # from 0 in each text
    cu_seqlens: torch.Tensor  # (N + 1) int32: text n of the row is tokens cu_seqlens[n : n + 1]
    places_N: torch.Tensor  # the place in the row of each text, by the order they were given in
    lengths: tuple[int, ...]  # of the texts, in the order of the row
    max_len: int

    @property
    def groups(self) -> tuple[tuple[int, int], ...]:
        """(number of texts, their length) for each length, in the order of the row."""
        return tuple((len(list(same)), length) for length, same in groupby(self.lengths))

    def to(self, device: torch.device | str) -> "Packed":
        """The same with its tensors on a device."""
        names = ("input_ids_T", "position_ids_T", "cu_seqlens", "places_N")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        return replace(self, **moved)


def pack(token_ids: Sequence[Sequence[int]]) -> Packed:
    """Lay texts side by side; each must have a token at least.

    Raises:
        ValueError: there is no text, or one without tokens.
    """
    if not token_ids or not all(token_ids):
        raise ValueError("packing takes texts of a token or more, and one text at least")
    order = sorted(range(len(token_ids)), key=lambda n: len(token_ids[n]))
    lengths = [len(token_ids[n]) for n in order]
    places_N = torch.empty(len(order), dtype=torch.long)
    places_N[torch.tensor(order)] = torch.arange(len(order))
    return Packed(
        input_ids_T=torch.tensor([token for n in order for token in token_ids[n]]),
        position_ids_T=torch.cat([torch.arange(length) for length in lengths]),
        cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).to(torch.int32),
        places_N=places_N,
        lengths=tuple(lengths),
        max_len=lengths[-1],
    )


def packed_attention(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1HTD: torch.Tensor,
    value_1HTD: torch.Tensor,
    attention_mask: None,
    *,
    packed: Packed,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Bidirectional attention within each text of a packed row -> (1, T, H, D).

    Keys and values may have fewer heads than queries (grouped-query attention). No dropout.
    """
    # transformers passes ModernBERT's window one too large, for FlashAttention's sake. Its masks
    # are made of the configuration's: |i - j| <= window.
    window = None if sliding_window is None else int(module.config.sliding_window)
    query, key, value = query_1HTD[0], key_1HTD[0], value_1HTD[0]
    if query.is_cuda and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        out_THD = varlen_attn(
            query.transpose(0, 1),
            key.transpose(0, 1),
            value.transpose(0, 1),
            packed.cu_seqlens,
            packed.cu_seqlens,
            packed.max_len,
            packed.max_len,
            scale=scaling,
            window_size=(-1, -1) if window is None else (window, window),
            enable_gqa=key.shape[0] != query.shape[0],
        )
    else:
        out_THD = _attention_by_length(query, key, value, packed.groups, scaling, window)
    return out_THD[None], None


def _attention_by_length(
    query_HTD: torch.Tensor,
    key_HTD: torch.Tensor,
    value_HTD: torch.Tensor,
    groups: Sequence[tuple[int, int]],
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Attention (T, H, D) by one call for all texts of a length."""
    sizes = [count * length for count, length in groups]
    outputs = []
    # One split of each tensor: its gradient is one concatenation, where slices would each cost a
    # tensor of T tokens.
    parts = zip(*(x.split(sizes, dim=1) for x in (query_HTD, key_HTD, value_HTD)), strict=True)
    for group, part in zip(groups, parts, strict=True):
        query, key, value = (x.unflatten(1, group).transpose(0, 1) for x in part)  # (C, H, L, D)
        out_CHLD = scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=_band(group[1], window, query.device),
            scale=scaling,
            enable_gqa=key.shape[1] != query.shape[1],
        )
        outputs.append(out_CHLD.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)


def _band(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Which tokens see which where only those within a window do, (L, L); None: all see all."""
    if window is None or length <= window + 1:
        return None
    position_L = torch.arange(length, device=device)
    return (position_L[:, None] - position_L[None, :]).abs() <= window


def _no_mask(*_: Any, **__: Any) -> None:
    """In place of transformers' masks, which would let packed texts see each other."""


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, _no_mask)
