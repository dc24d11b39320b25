# mypy: disable-error-code=no-untyped-def
# ruff: noqa: N803, N806
"""ALiBi attention on a GPU: the Triton kernels. ``gpu.attention`` launches them and says how they work together.

Names: a program reads ``q``, ``k``, ``v`` and the incoming ``gradient`` by a stride a token and a stride a head; ``first``
is the first row of its sequence in the pack and ``n`` the sequence's length; blocks and rows are counted from ``first``.
Scores are kept in powers of two: ``scale2`` and ``slope2`` carry log2(e), ``log_sum`` is the logarithm of a row's
denominator.

Compile-time constants are in capitals, as in all Triton code, and kernels carry no types: hence the two lines above. Numbers
that change from pack to pack are not specialised on, or kernels would be compiled again for every other pack.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _load_rows(pointer, first, stride, rows, valid, D: tl.constexpr, DIM: tl.constexpr):
    """Rows ``first + rows`` of a (., D) matrix as a (rows, DIM) tile, zeros beyond D and where not ``valid``."""
    columns = tl.arange(0, DIM)
    places = pointer + first.to(tl.int64) * stride + rows[:, None] * stride + columns[None, :]
    if D == DIM:
        return tl.load(places, mask=valid[:, None], other=0.0)
    return tl.load(places, mask=valid[:, None] & (columns[None, :] < D), other=0.0)


@triton.jit
def _store_rows(pointer, first, stride, rows, valid, tile, D: tl.constexpr, DIM: tl.constexpr):
    columns = tl.arange(0, DIM)
    places = pointer + first.to(tl.int64) * stride + rows[:, None] * stride + columns[None, :]
    if D == DIM:
        tl.store(places, tile.to(pointer.dtype.element_ty), mask=valid[:, None])
    else:
        tl.store(places, tile.to(pointer.dtype.element_ty), mask=valid[:, None] & (columns[None, :] < D))


@triton.jit
def _product(a, b, acc, PRECISION: tl.constexpr):
    """a b (+ acc) in float32; ``a`` takes the dtype of ``b``."""
    if PRECISION == "wide":
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc)
    return tl.dot(a.to(b.dtype), b, acc, input_precision=PRECISION)


@triton.jit
def _attend(
    q, peak, mass, acc, k, v, k_token, v_token, first, block, rows, n, scale2, slope2,
    D: tl.constexpr, DIM: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One key block of the online softmax: running maximum, sum and product with the values."""
    within = tl.arange(0, BLOCK_N)
    keys = block * BLOCK_N + within
    valid = keys < n
    key = _load_rows(k, first + block * BLOCK_N, k_token, within, valid, D, DIM)
    distance = tl.abs(rows[:, None] - keys[None, :]).to(tl.float32)
    scores = _product(q, tl.trans(key), None, PRECISION) * scale2 - slope2 * distance
    scores = tl.where(valid[None, :], scores, float("-inf"))
    highest = tl.maximum(peak, tl.max(scores, 1))
    weights = tl.exp2(scores - highest[:, None])
    shrink = tl.exp2(peak - highest)
    value = _load_rows(v, first + block * BLOCK_N, v_token, within, valid, D, DIM)
    acc = _product(weights, value, acc * shrink[:, None], PRECISION)
    return highest, mass * shrink + tl.sum(weights, 1), acc


@triton.jit(do_not_specialize=["tokens", "most"])
def forward_kernel(
    q, k, v, out, log_sum, slopes, cu_seqlens, head_order, block_sequence, block_start, low, high, extra, extra_count,
    q_token, q_head, k_token, k_head, v_token, v_head, tokens, most, scale,
    D: tl.constexpr, DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Grid (query blocks, heads); ``most`` is the last dimension of ``extra``."""
    sequence, start = tl.load(block_sequence + tl.program_id(0)), tl.load(block_start + tl.program_id(0))
    first = tl.load(cu_seqlens + sequence)
    n = tl.load(cu_seqlens + sequence + 1) - first
    if start >= n:
        return
    head = tl.load(head_order + tl.program_id(1))
    slope2 = tl.load(slopes + head) * LOG2E
    scale2 = scale * LOG2E
    within = tl.arange(0, BLOCK_M)
    rows = start + within
    query = _load_rows(q + head * q_head, first + start, q_token, within, rows < n, D, DIM)
    peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
    mass = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, DIM], tl.float32)
    place = head * tl.num_programs(0) + tl.program_id(0)
    for block in range(tl.load(low + place), tl.load(high + place)):
        peak, mass, acc = _attend(
            query, peak, mass, acc, k + head * k_head, v + head * v_head, k_token, v_token, first,
            block, rows, n, scale2, slope2, D, DIM, BLOCK_N, PRECISION,
        )  # fmt: skip
    for index in tl.range(tl.load(extra_count + place), num_stages=1):
        peak, mass, acc = _attend(
            query, peak, mass, acc, k + head * k_head, v + head * v_head, k_token, v_token, first,
            tl.load(extra + place * most + index), rows, n, scale2, slope2, D, DIM, BLOCK_N, PRECISION,
        )  # fmt: skip
    heads = tl.num_programs(1)
    _store_rows(out + head * D, first + start, heads * D, within, rows < n, acc / mass[:, None], D, DIM)
    tl.store(log_sum + head.to(tl.int64) * tokens + first + rows, peak + tl.log2(mass), mask=rows < n)


@triton.jit(do_not_specialize=["tokens"])
def delta_kernel(
    out, gradient, delta, g_token, g_head, tokens,
    D: tl.constexpr, DIM: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """delta = rowsum(out * gradient), (heads, tokens) float32; grid (row blocks, heads)."""
    first, head = tl.program_id(0) * ROWS, tl.program_id(1)
    within = tl.arange(0, ROWS)
    valid = first + within < tokens
    mine = _load_rows(out + head * D, first, tl.num_programs(1) * D, within, valid, D, DIM).to(tl.float32)
    theirs = _load_rows(gradient + head * g_head, first, g_token, within, valid, D, DIM).to(tl.float32)
    tl.store(delta + head.to(tl.int64) * tokens + first + within, tl.sum(mine * theirs, 1), mask=valid)


@triton.jit(do_not_specialize=["tokens"])
def key_gradient_kernel(
    q, k, v, gradient, dk, dv, log_sum, delta, slopes, cu_seqlens, head_order, block_sequence, block_start, bounds, visits,
    q_token, q_head, k_token, k_head, v_token, v_head, g_token, g_head, tokens, scale,
    D: tl.constexpr, DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """dK and dV; grid (key blocks, heads). Visiting query blocks of BLOCK_M rows are taken ROWS at a time."""
    sequence, start = tl.load(block_sequence + tl.program_id(0)), tl.load(block_start + tl.program_id(0))
    first = tl.load(cu_seqlens + sequence)
    n = tl.load(cu_seqlens + sequence + 1) - first
    if start >= n:
        return
    head = tl.load(head_order + tl.program_id(1))
    slope2 = tl.load(slopes + head) * LOG2E
    scale2 = scale * LOG2E
    within, part = tl.arange(0, BLOCK_N), tl.arange(0, ROWS)
    keys = start + within
    key = _load_rows(k + head * k_head, first + start, k_token, within, keys < n, D, DIM)
    value = _load_rows(v + head * v_head, first + start, v_token, within, keys < n, D, DIM)
    key_sum = tl.zeros([BLOCK_N, DIM], tl.float32)
    value_sum = tl.zeros([BLOCK_N, DIM], tl.float32)
    row_data = head.to(tl.int64) * tokens + first
    place = head * tl.num_programs(0) + tl.program_id(0)
    PARTS: tl.constexpr = BLOCK_M // ROWS
    for visit in range(tl.load(bounds + place) * PARTS, tl.load(bounds + place + 1) * PARTS):
        row = tl.load(visits + visit // PARTS) + (visit % PARTS) * ROWS
        valid = row + part < n
        query = _load_rows(q + head * q_head, first + row, q_token, part, valid, D, DIM)
        log_sums = tl.load(log_sum + row_data + row + part, mask=valid, other=float("inf"))
        distance = tl.abs(keys[:, None] - (row + part)[None, :]).to(tl.float32)
        scores = _product(key, tl.trans(query), None, PRECISION) * scale2 - slope2 * distance  # (keys, queries)
        weights = tl.exp2(tl.where((keys < n)[:, None], scores - log_sums[None, :], float("-inf")))
        incoming = _load_rows(gradient + head * g_head, first + row, g_token, part, valid, D, DIM)
        value_sum = _product(weights, incoming, value_sum, PRECISION)
        deltas = tl.load(delta + row_data + row + part, mask=valid, other=0.0)
        change = weights * (_product(value, tl.trans(incoming), None, PRECISION) - deltas[None, :])
        key_sum = _product(change, query, key_sum, PRECISION)
    heads = tl.num_programs(1)
    _store_rows(dk + head * D, first + start, heads * D, within, keys < n, key_sum * scale, D, DIM)
    _store_rows(dv + head * D, first + start, heads * D, within, keys < n, value_sum, D, DIM)


@triton.jit
def _query_gradient_step(
    query_sum, query, incoming, log_sums, deltas, k, v, k_token, v_token, first, block, rows, n, scale2, slope2,
    D: tl.constexpr, DIM: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    within = tl.arange(0, BLOCK_N)
    keys = block * BLOCK_N + within
    valid = keys < n
    key = _load_rows(k, first + block * BLOCK_N, k_token, within, valid, D, DIM)
    distance = tl.abs(rows[:, None] - keys[None, :]).to(tl.float32)
    scores = _product(query, tl.trans(key), None, PRECISION) * scale2 - slope2 * distance
    weights = tl.exp2(tl.where(valid[None, :], scores - log_sums[:, None], float("-inf")))
    value = _load_rows(v, first + block * BLOCK_N, v_token, within, valid, D, DIM)
    change = weights * (_product(incoming, tl.trans(value), None, PRECISION) - deltas[:, None])
    return _product(change, key, query_sum, PRECISION)


@triton.jit(do_not_specialize=["tokens", "most"])
def query_gradient_kernel(
    q, k, v, gradient, dq, log_sum, delta, slopes, cu_seqlens, head_order, block_sequence, block_start,
    low, high, extra, extra_count,
    q_token, q_head, k_token, k_head, v_token, v_head, g_token, g_head, tokens, most, scale,
    D: tl.constexpr, DIM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dQ; grid and walk of the forward."""
    sequence, start = tl.load(block_sequence + tl.program_id(0)), tl.load(block_start + tl.program_id(0))
    first = tl.load(cu_seqlens + sequence)
    n = tl.load(cu_seqlens + sequence + 1) - first
    if start >= n:
        return
    head = tl.load(head_order + tl.program_id(1))
    slope2 = tl.load(slopes + head) * LOG2E
    scale2 = scale * LOG2E
    within = tl.arange(0, BLOCK_M)
    rows = start + within
    valid = rows < n
    query = _load_rows(q + head * q_head, first + start, q_token, within, valid, D, DIM)
    incoming = _load_rows(gradient + head * g_head, first + start, g_token, within, valid, D, DIM)
    row_data = head.to(tl.int64) * tokens + first
    log_sums = tl.load(log_sum + row_data + rows, mask=valid, other=float("inf"))
    deltas = tl.load(delta + row_data + rows, mask=valid, other=0.0)
    query_sum = tl.zeros([BLOCK_M, DIM], tl.float32)
    place = head * tl.num_programs(0) + tl.program_id(0)
    for block in range(tl.load(low + place), tl.load(high + place)):
        query_sum = _query_gradient_step(
            query_sum, query, incoming, log_sums, deltas, k + head * k_head, v + head * v_head, k_token, v_token,
            first, block, rows, n, scale2, slope2, D, DIM, BLOCK_N, PRECISION,
        )  # fmt: skip
    for index in tl.range(tl.load(extra_count + place), num_stages=1):
        query_sum = _query_gradient_step(
            query_sum, query, incoming, log_sums, deltas, k + head * k_head, v + head * v_head, k_token, v_token,
            first, tl.load(extra + place * most + index), rows, n, scale2, slope2, D, DIM, BLOCK_N, PRECISION,
        )  # fmt: skip
    _store_rows(dq + head * D, first + start, tl.num_programs(1) * D, within, valid, query_sum * scale, D, DIM)
