"""ALiBi attention by the flash-attn library (2.4.1 or newer), with the windows that the certificate allows.

flash-attn adds the symmetric ALiBi bias itself, but skips blocks only for a sliding window, one a call (Dao 2023; its
``window_size``). So each head gets the smallest window that covers the certified reach of all its rows in the pack
(``alibi``; no outliers are set apart), and heads with similar windows share a call. The windows are those of the whole pack:
a row may change with the pack it travels in, by what epsilon allows.

The library is optional and imported on use. The adapter was tested against its documented contract, never run on a GPU.
"""

from __future__ import annotations

import importlib.util
from itertools import pairwise

import torch
from torch import Tensor

from dnagrinder_kernels.gpu.plan import reach, row_statistics, sequence_of_tokens

DTYPES = (torch.float16, torch.bfloat16)
MOST_HEAD_WIDTH = 256
MOST_CALLS = 6  # 12 ALiBi heads have windows in a geometric row; more calls only split the work of the steep, cheap ones
STEP = 128  # windows are multiples of it: flash-attn's key blocks are 64 to 128 keys
UNBOUNDED = -1


def available() -> bool:
    """Whether flash-attn is installed; says nothing of a GPU."""
    return importlib.util.find_spec("flash_attn") is not None


def alibi_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor,
    max_seqlen: int,
    slopes: Tensor,
    epsilon: float,
) -> Tensor:
    """softmax(q k^T / sqrt(d) - slope * |i - j|) v within each sequence of a pack, differentiable.

    Args:
        q, k, v: (tokens, heads, d), float16 or bfloat16 alike; d a multiple of 8 up to 256.
        cu_seqlens: (sequences + 1,) int, first token of each sequence, then ``tokens``.
        max_seqlen: length of the longest sequence or more.
        slopes: (heads,) float32, positive.
        epsilon: share of a row's softmax mass that may be left out; 0 computes every key, in one call.

    Returns:
        (tokens, heads, d), dtype of ``q``.

    Raises:
        ValueError: shapes that do not fit each other, another dtype, or a head width that flash-attn has no kernel for.
        ImportError: flash-attn is not installed.
    """
    _check(q, k, v, slopes)
    from flash_attn import flash_attn_varlen_func

    slopes = slopes.to(q.device, torch.float32)
    starts = cu_seqlens.to(q.device, torch.int32)
    parts, order = [], []
    for window, heads in _groups(q, k, starts, max_seqlen, slopes, epsilon):
        index = torch.tensor(heads, device=q.device)
        every = len(heads) == q.shape[1]
        mine = [x if every else x.index_select(1, index) for x in (q, k, v)]
        parts.append(
            flash_attn_varlen_func(
                *mine,
                starts,
                starts,
                max_seqlen,
                max_seqlen,
                dropout_p=0.0,
                softmax_scale=q.shape[-1] ** -0.5,
                causal=False,
                window_size=(window, window),
                alibi_slopes=slopes if every else slopes.index_select(0, index),
                deterministic=True,
            )
        )
        order += heads
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts, 1).index_select(1, torch.tensor(order, device=q.device).argsort())


def certified_windows(
    q: Tensor, k: Tensor, *, cu_seqlens: Tensor, max_seqlen: int, slopes: Tensor, epsilon: float
) -> Tensor:
    """Keys to either side that each head must see, over all rows of the pack: (heads,) int64, at most the longest length.

    q, k (tokens, heads, d), epsilon above 0; scores are scaled by d**-0.5.
    """
    cu = cu_seqlens.long()
    tokens, heads, d = q.shape
    with torch.no_grad():
        statistics = row_statistics(q, k, cu, max_seqlen)
        sequence = sequence_of_tokens(cu, tokens)
        lengths = statistics.length.nan_to_num(nan=torch.inf, posinf=torch.inf)
        radius = lengths.new_zeros((len(cu) - 1, heads)).scatter_reduce(
            0, sequence.unsqueeze(1).expand(-1, heads), lengths, "amax"
        )  # (sequences, heads)
        share = torch.full((tokens, 1), epsilon, dtype=torch.float64, device=q.device)
        limits = cu.diff()[sequence].unsqueeze(1)
        return reach(statistics, radius[sequence], slopes, share, limits, d**-0.5).amax(0)


def head_groups(windows: list[int], max_seqlen: int) -> list[tuple[int, list[int]]]:
    """Heads that share a call, and its window: (window, heads), narrow first, at most MOST_CALLS.

    Windows are rounded up to multiples of STEP; one that covers ``max_seqlen`` is UNBOUNDED. While there are too many
    groups, the one whose heads lose least by taking the next wider window joins it.
    """
    shared: dict[int, list[int]] = {}
    for head, window in enumerate(windows):
        rounded = max(STEP, -(-window // STEP) * STEP)
        shared.setdefault(min(rounded, max_seqlen), []).append(head)
    groups = sorted(shared.items())
    while len(groups) > MOST_CALLS:
        losses = [len(heads) * (wider - window) for (window, heads), (wider, _) in pairwise(groups)]
        least = losses.index(min(losses))
        (_, joining), (window, heads) = groups[least : least + 2]
        groups[least : least + 2] = [(window, joining + heads)]
    return [(window if window + 1 < max_seqlen else UNBOUNDED, heads) for window, heads in groups]


def _groups(
    q: Tensor, k: Tensor, cu_seqlens: Tensor, max_seqlen: int, slopes: Tensor, epsilon: float
) -> list[tuple[int, list[int]]]:
    if epsilon <= 0 or max_seqlen <= STEP + 1 or not q.shape[0]:
        return [(UNBOUNDED, list(range(q.shape[1])))]
    windows = certified_windows(
        q, k, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, slopes=slopes, epsilon=epsilon
    ).tolist()  # the one look at the device
    return head_groups(windows, max_seqlen)


def _check(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> None:
    if not q.shape == k.shape == v.shape or q.dim() != 3:
        raise ValueError(f"q, k, v are (tokens, heads, d) alike, got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
    if slopes.shape != (q.shape[1],):
        raise ValueError(f"one slope a head: {q.shape[1]} heads, slopes {tuple(slopes.shape)}")
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"flash-attn takes float16 and bfloat16, got {q.dtype}, {k.dtype}, {v.dtype}")
    if q.shape[2] % 8 or not 8 <= q.shape[2] <= MOST_HEAD_WIDTH:
        raise ValueError(f"flash-attn takes heads 8, 16, ... {MOST_HEAD_WIDTH} wide, got {q.shape[2]}")
