"""Which key blocks each block of queries visits: the certificate of ``alibi`` for a whole pack, in tensor operations.

A pack is cut into blocks that never cross a sequence. For row i of one sequence and head let c be the mean key, o_j = k_j -
c and R the largest |o_j| over the keys that are no outliers. With

    excess_i = scale * (|q_i| R - q_i . o_i),        T = ln(2 / ((1 - exp(-m)) eps)),        w_i = ceil((excess_i + T) / m)

the keys farther than w_i hold less than eps of the row's mass (proof in ``alibi``), so a block of queries visits the key
blocks [low, high) that cover all its rows' w_i.

One large key would make R, and with it every w_i, large. So the X = min(8, key blocks // 8) key blocks of the largest radius
r_J = max_{j in J} |o_j| are outliers: they stay out of R, and mass is shared out, eps / 2 to the ordinary keys (in T) and
eps / 2 to the outlier blocks. Key j of an outlier block J has s_ij - M_i <= scale * (|q_i| r_J - q_i . o_i) - m dist(i, J),
where M_i >= s_ii is the row's maximum; J holds BLOCK_N keys and there are at most X such blocks, so leaving out those with

    scale * (|q_i| r_J - q_i . o_i) - m dist(i, J) < -ln(2 BLOCK_N X / eps)        for all rows i of the query block

drops at most BLOCK_N X exp(...) <= eps / 2. The other outlier blocks outside [low, high) are listed and visited as well.

Everything is float64 on the differences o_j, and every sum has a fixed order, so that the plan of a sequence does not
depend on the pack it travels in, to the last bit. Nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

OUTLIER_BLOCKS = 8  # most outlier blocks of a sequence and head: separators and sinks of a model are a handful of tokens
OUTLIER_SHARE = 8  # and at most one key block in this many
CENTRE_BLOCK = 1024  # keys summed in one go for the mean key
CHUNK_ELEMENTS = 2**24  # float64 numbers of a temporary: 128 MiB, whatever the length of the pack


class Blocks(NamedTuple):
    """A pack cut into blocks of ``size`` rows that never cross a sequence, in order, then empty blocks.

    There are tokens // size + sequences of them, a number known without asking the device.

    Attributes:
        size: rows a block; the last one of a sequence may be shorter.
        lengths: (sequences,) int64, rows of each sequence.
        counts: (sequences,) int64, blocks of each sequence.
        first: (sequences,) int64, the sequence's first block.
        sequence: (blocks,) int64, the sequence that a block belongs to.
        start: (blocks,) int64, its first row, from the start of the sequence; an empty block's is not below the length.
    """

    size: int
    lengths: Tensor
    counts: Tensor
    first: Tensor
    sequence: Tensor
    start: Tensor


class RowStatistics(NamedTuple):
    """What the certificate needs to know of each row; (tokens, heads) float64 each.

    Attributes:
        norm: |q_i|.
        own: q_i . o_i.
        length: |o_i|.
    """

    norm: Tensor
    own: Tensor
    length: Tensor


class AttentionPlan(NamedTuple):
    """The (query block, key block) pairs of one attention, for forward and backward alike.

    Attributes:
        block_m, block_n: queries and keys of a block.
        cu_seqlens: (sequences + 1,) int32.
        head_order: (heads,) int32, flattest slope (most work) first.
        query_sequence, query_start: (query blocks,) int32, see ``Blocks``.
        key_sequence, key_start: (key blocks,) int32.
        key_first: (sequences,) int32, a sequence's first key block.
        low, high: (heads, query blocks) int32, range of key blocks, counted from the start of the sequence.
        extra: (heads, query blocks, X) int32, outlier key blocks outside the range that are visited too.
        extra_count: (heads, query blocks) int32, how many of them, from the first.
    """

    block_m: int
    block_n: int
    cu_seqlens: Tensor
    head_order: Tensor
    query_sequence: Tensor
    query_start: Tensor
    key_sequence: Tensor
    key_start: Tensor
    key_first: Tensor
    low: Tensor
    high: Tensor
    extra: Tensor
    extra_count: Tensor

    def kept_fraction(self) -> float:
        """Share of dense attention's block pairs that are computed; waits for the device."""
        lengths = self.cu_seqlens.diff().long()
        pairs = ((lengths + self.block_m - 1) // self.block_m) * ((lengths + self.block_n - 1) // self.block_n)
        computed = (self.high - self.low + self.extra_count).sum()
        return float(computed / (pairs.sum() * len(self.head_order)).clamp(min=1))


class KeyVisits(NamedTuple):
    """The pairs of a plan by key block.

    Attributes:
        bounds: (heads * key blocks + 1,) int32, where the list of each (head, key block) begins and ends in ``start``.
        start: (pairs,) int32, first row of each visiting query block, rising within a list.
    """

    bounds: Tensor
    start: Tensor


def fixed_order_sum(x: Tensor, dim: int) -> Tensor:
    """Sum over ``dim``, halves added element by element: the same bits whatever the other dimensions and the device are."""
    while (size := x.shape[dim]) > 1:
        half = size // 2
        rest = x.narrow(dim, 2 * half, size - 2 * half)
        x = x.narrow(dim, 0, half) + x.narrow(dim, half, half)
        if size % 2:
            x = torch.cat([x, rest], dim)
    return x.squeeze(dim)


def cut(cu_seqlens: Tensor, tokens: int, size: int) -> Blocks:
    """Blocks of ``size`` rows of a pack of ``tokens`` rows; cu_seqlens (sequences + 1,) int64, at least one sequence."""
    sequences = cu_seqlens.numel() - 1
    lengths = cu_seqlens.diff()
    counts = (lengths + size - 1) // size
    ends = counts.cumsum(0)
    first = ends - counts
    flat = torch.arange(tokens // size + sequences, device=cu_seqlens.device)
    sequence = torch.searchsorted(ends, flat, right=True).clamp(max=sequences - 1)
    return Blocks(size, lengths, counts, first, sequence, (flat - first[sequence]) * size)


def rows_of(blocks: Blocks, cu_seqlens: Tensor, tokens: int) -> Tensor:
    """The rows of the pack in each block, (blocks, size) int64; past the end of the sequence its last row again."""
    within = blocks.start.unsqueeze(1) + torch.arange(blocks.size, device=cu_seqlens.device)
    last = (blocks.lengths[blocks.sequence] - 1).unsqueeze(1)
    return (torch.minimum(within, last).clamp(min=0) + cu_seqlens[blocks.sequence].unsqueeze(1)).clamp(max=tokens - 1)


def occupied(blocks: Blocks) -> Tensor:
    """(blocks,) bool, whether a block has rows."""
    return blocks.start < blocks.lengths[blocks.sequence]


def mean_keys(k: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
    """Mean key of each sequence and head, (sequences, heads, d) float64; k (tokens, heads, d), cu_seqlens int64."""
    tokens, heads, d = k.shape
    blocks = cut(cu_seqlens, tokens, CENTRE_BLOCK)
    rows = rows_of(blocks, cu_seqlens, tokens)
    valid = blocks.start.unsqueeze(1) + torch.arange(CENTRE_BLOCK, device=k.device) < blocks.lengths[blocks.sequence, None]
    sums = [
        fixed_order_sum(torch.where(valid[part, :, None, None], k[rows[part]].double(), 0.0), 1)
        for part in _chunks(len(rows), CENTRE_BLOCK * heads * d)
    ]
    return sequence_means(torch.cat(sums), blocks, max_seqlen)


def sequence_means(sums: Tensor, blocks: Blocks, max_seqlen: int) -> Tensor:
    """(sequences, heads, d) from the sums over each block, (blocks, heads, d) float64, added up in a tree."""
    index = blocks.start // blocks.size  # within the sequence
    flat = torch.arange(len(index), device=sums.device)
    step = 1
    while step * blocks.size < max_seqlen:
        partner = flat + step
        wanted = (index + step < blocks.counts[blocks.sequence]) & (index % (2 * step) == 0)
        sums = torch.where(wanted[:, None, None], sums + sums[partner.clamp(max=len(flat) - 1)], sums)
        step *= 2
    return sums[blocks.first.clamp(max=len(flat) - 1)] / blocks.lengths.clamp(min=1)[:, None, None]


def row_statistics(q: Tensor, k: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> RowStatistics:
    """The rows' norms and products in PyTorch, on any device.

    Args:
        q, k: (tokens, heads, d), any float dtype.
        cu_seqlens: (sequences + 1,) int64.
        max_seqlen: length of the longest sequence or more.
    """
    tokens, heads, d = k.shape
    centres = mean_keys(k, cu_seqlens, max_seqlen)
    sequence = sequence_of_tokens(cu_seqlens, tokens)
    parts = []
    for rows in _chunks(tokens, heads * d):
        queries, offsets = q[rows].double(), k[rows].double() - centres[sequence[rows]]  # (rows, heads, d)
        squares = (queries * queries, queries * offsets, offsets * offsets)
        parts.append([fixed_order_sum(x, -1) for x in squares])
    norm, own, length = (torch.cat(column) for column in zip(*parts, strict=True))
    return RowStatistics(norm.sqrt(), own, length.sqrt())


def reach(statistics: RowStatistics, radius: Tensor, slopes: Tensor, share: Tensor, lengths: Tensor, scale: float) -> Tensor:
    """How far each row must look, in keys to either side: w_i of the module's docstring.

    Args:
        statistics: of the rows.
        radius: (tokens, heads) float64, R of the row's sequence and head.
        slopes: (heads,); a head whose slope is not positive sees every key.
        share: (tokens, 1) float64, mass that may be left out; where it is not positive the row sees every key.
        lengths: (tokens, 1) int64, length of the row's sequence.
        scale: factor of the dot product.

    Returns:
        (tokens, heads) int64 in [0, length].
    """
    slope = slopes.double()  # (heads,)
    excess = scale * (statistics.norm * radius - statistics.own)
    margin = math.log(2.0) - torch.log(-torch.expm1(-slope)) - torch.log(share)
    distance = torch.where((slope > 0) & (share > 0), (excess + margin) / slope, math.inf).ceil()
    return torch.minimum(distance.nan_to_num(nan=math.inf, posinf=math.inf), lengths.double()).clamp(min=0).to(torch.int64)


def attention_plan(
    statistics: RowStatistics | None,
    *,
    tokens: int,
    cu_seqlens: Tensor,
    max_seqlen: int,
    slopes: Tensor,
    epsilon: float,
    scale: float,
    block_m: int,
    block_n: int,
    dense_length: int,
) -> AttentionPlan:
    """The pairs to compute, for blocks of ``block_m`` queries and ``block_n`` keys.

    Args:
        statistics: of every row; None for dense attention.
        tokens: rows of the pack.
        cu_seqlens: (sequences + 1,) int, at least one sequence.
        max_seqlen: length of the longest sequence or more.
        slopes: (heads,).
        epsilon: share of a row's mass that may be left out.
        scale: factor of the dot product.
        block_m, block_n: rows of a query block and of a key block.
        dense_length: sequences up to this length see all their keys.
    """
    cu = cu_seqlens.long()
    queries, keys = cut(cu, tokens, block_m), cut(cu, tokens, block_n)
    if statistics is None:
        high = torch.where(occupied(queries), keys.counts[queries.sequence], 0).expand(len(slopes), -1)
        low = torch.zeros_like(high)
        return plan_of(cu, slopes, queries, keys, low, high, low.unsqueeze(2), low)
    most = most_outliers(max_seqlen, block_n)
    band = _Band(statistics, cu, queries, keys, slopes.double(), epsilon, scale, dense_length, most)
    low, high = band.ranges()
    return plan_of(cu, slopes, queries, keys, low, high, *band.extra_blocks(low, high))


def plan_of(
    cu_seqlens: Tensor, slopes: Tensor, queries: Blocks, keys: Blocks, low: Tensor, high: Tensor,
    extra: Tensor, extra_count: Tensor,
) -> AttentionPlan:  # fmt: skip
    """A plan from its parts, cast to what the kernels read."""
    order = slopes.argsort(stable=True)
    blocks = (queries.sequence, queries.start, keys.sequence, keys.start, keys.first)
    integers = (cu_seqlens, order, *blocks, low, high, extra, extra_count)
    return AttentionPlan(queries.size, keys.size, *(x.to(torch.int32).contiguous() for x in integers))


def most_outliers(max_seqlen: int, block_n: int) -> int:
    """Places for outlier blocks that the longest sequence needs, at least 1."""
    return max(1, min(OUTLIER_BLOCKS, -(-max_seqlen // block_n) // OUTLIER_SHARE))


def outlier_counts(keys: Blocks, dense_length: int, most: int) -> Tensor:
    """(sequences,) int64, X of each sequence; ``most`` places suffice unless ``max_seqlen`` was too small."""
    return torch.where(keys.lengths > dense_length, keys.counts // OUTLIER_SHARE, 0).clamp(max=min(OUTLIER_BLOCKS, most))


def by_radius(radius: Tensor, keys: Blocks) -> Tensor:
    """Each sequence's key blocks by falling radius, sequence after sequence: (heads, key blocks) int64, both ways."""
    falling = radius.argsort(dim=1, descending=True, stable=True)
    return falling.gather(1, keys.sequence[falling].argsort(dim=1, stable=True))


class _Band:
    """What the ranges and the extra blocks of a plan both need; arguments as for ``attention_plan``."""

    def __init__(
        self,
        statistics: RowStatistics,
        cu_seqlens: Tensor,
        queries: Blocks,
        keys: Blocks,
        slope: Tensor,
        epsilon: float,
        scale: float,
        dense_length: int,
        most: int,
    ) -> None:
        self.statistics, self.queries, self.keys = statistics, queries, keys
        self.slope, self.epsilon, self.scale = slope, epsilon, scale
        self.dense_length, self.most = dense_length, most
        tokens = len(statistics.norm)
        self.sequence = sequence_of_tokens(cu_seqlens, tokens)
        self.length = keys.lengths[self.sequence].unsqueeze(1)  # (tokens, 1)
        self.position = (torch.arange(tokens, device=cu_seqlens.device) - cu_seqlens[self.sequence]).unsqueeze(1)
        self.outliers = outlier_counts(keys, dense_length, most)
        self.query_rows = rows_of(queries, cu_seqlens, tokens)
        largest = statistics.length.nan_to_num(nan=math.inf, posinf=math.inf)[rows_of(keys, cu_seqlens, tokens)].amax(1)
        self.radius = torch.where(occupied(keys), largest.T, -1.0)  # (heads, key blocks), r_J
        self.ranked = by_radius(self.radius, keys)

    def ranges(self) -> tuple[Tensor, Tensor]:
        """[low, high) of each head and query block, (heads, query blocks) int64."""
        radius = self.radius.gather(1, self._of_rank(self.outliers)).T[self.sequence]  # (tokens, heads), R
        share = self.epsilon * torch.where(self.outliers > 0, 0.5, 1.0).double()[self.sequence].unsqueeze(1)
        distance = reach(self.statistics, radius, self.slope, share, self.length, self.scale)
        distance = torch.where(self.length > self.dense_length, distance, self.length)
        low = (self.position - distance).clamp(min=0)[self.query_rows].amin(1)  # (query blocks, heads)
        high = torch.minimum(self.position + distance + 1, self.length)[self.query_rows].amax(1)
        here = occupied(self.queries)
        return (
            torch.where(here, low.T // self.keys.size, 0),
            torch.where(here, (high.T + self.keys.size - 1) // self.keys.size, 0),
        )

    def extra_blocks(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Outlier blocks outside [low, high) without a proof: (heads, query blocks, most) int64, and how many count."""
        size, own, norm = self.keys.size, self.statistics.own.unsqueeze(1), self.statistics.norm.unsqueeze(1)
        rank = torch.arange(self.most, device=low.device)
        block = torch.stack([self._of_rank(one) for one in rank.unbind()], 1)  # (heads, most, sequences)
        radius = self.radius.unsqueeze(1).expand(-1, self.most, -1).gather(2, block)
        start = self.keys.start[block]
        last = torch.minimum(start + size, self.keys.lengths) - 1
        start, last, radius = (x.permute(2, 1, 0) for x in (start, last, radius))  # (sequences, most, heads)
        limit = -torch.log(2.0 * size * self.outliers / self.epsilon)[self.sequence, None, None]
        position, sequence = self.position.unsqueeze(1), self.sequence
        distance = torch.maximum(start[sequence] - position, position - last[sequence]).clamp(min=0)  # (tokens, most, heads)
        proven = self.scale * (norm * radius[sequence] - own) - self.slope * distance < limit
        needed = ~proven & (rank < self.outliers.unsqueeze(1))[sequence].unsqueeze(2)
        flagged = needed[self.query_rows].any(1).permute(2, 0, 1)  # (heads, query blocks, most)
        index = (start // size)[self.queries.sequence].permute(2, 0, 1)
        outside = (index < low.unsqueeze(2)) | (index >= high.unsqueeze(2))
        kept = flagged & outside & occupied(self.queries).unsqueeze(1)
        order = (~kept).to(torch.uint8).argsort(dim=-1, stable=True)
        return index.gather(-1, order), kept.sum(-1)

    def _of_rank(self, rank: Tensor) -> Tensor:
        """Key block (of the pack) with this rank by radius in its sequence; () or (sequences,) -> (heads, sequences)."""
        return self.ranked[:, (self.keys.first + rank).clamp(max=self.ranked.shape[1] - 1)]


def key_visits(plan: AttentionPlan) -> KeyVisits:
    """The plan's pairs by key block; asks the device once for their number."""
    heads, query_blocks, most = plan.extra.shape
    key_blocks = len(plan.key_start)
    span = (plan.high - plan.low).flatten().long()
    counts = span + plan.extra_count.flatten()
    total = int(counts.sum())
    owner = torch.repeat_interleave(counts, output_size=total)  # (pairs,) head and query block
    rank = torch.arange(total, device=owner.device) - (counts.cumsum(0) - counts)[owner]
    beyond = (rank - span[owner]).clamp(min=0, max=most - 1)
    in_range = rank < span[owner]
    block = torch.where(in_range, plan.low.flatten()[owner] + rank, plan.extra.flatten()[owner * most + beyond])
    head, query = owner // query_blocks, owner % query_blocks
    target = head * key_blocks + plan.key_first[plan.query_sequence[query]] + block
    target, order = target.sort(stable=True)
    bounds = torch.searchsorted(target, torch.arange(heads * key_blocks + 1, device=target.device))
    return KeyVisits(bounds.to(torch.int32), plan.query_start[query][order].contiguous())


def sequence_of_tokens(cu_seqlens: Tensor, tokens: int) -> Tensor:
    """(tokens,) int64, the sequence that each row of the pack belongs to."""
    return torch.searchsorted(cu_seqlens[1:].contiguous(), torch.arange(tokens, device=cu_seqlens.device), right=True)


def _chunks(total: int, elements: int) -> Iterator[slice]:
    """Slices of range(total) so that ``elements`` numbers an item stay within CHUNK_ELEMENTS."""
    step = max(1, CHUNK_ELEMENTS // elements)
    return (slice(first, min(first + step, total)) for first in range(0, total, step))
