"""ALiBi attention on a GPU: Triton kernels that visit only the key blocks of a certified plan, forward and backward.

Forward: a program owns a block of queries of one sequence and head, walks over its key blocks with an online softmax and
keeps the logarithm (base 2) of the softmax denominator. Backward: delta = rowsum(out * gradient), then one kernel owns a
block of keys and sums up dK and dV over the query blocks that visited it, another owns a block of queries and sums up dQ.
Every sum has one owner and one order: no atomics, the same bits in every run and in every pack. Scores are recomputed from
Q, K and the saved logarithm (Dao 2023); the pairs visited are those of the forward, so the gradients are those of what was
computed.

Matrix products take the tensors' dtype and accumulate in float32; scores, bias and softmax are float32. float32 tensors are
multiplied as they are ("ieee"), not in TF32.

The kernels have been compiled for sm_80, sm_90 and sm_100 and run in Triton's interpreter, never timed on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from dnagrinder_kernels.gpu.attention_kernels import (
    delta_kernel,
    forward_kernel,
    key_gradient_kernel,
    query_gradient_kernel,
)
from dnagrinder_kernels.gpu.call import Call
from dnagrinder_kernels.gpu.certificate import certified_plan
from dnagrinder_kernels.gpu.plan import AttentionPlan, attention_plan, key_visits

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MOST_HEAD_WIDTH = 128


@dataclass(frozen=True)
class Launch:
    """Sizes of blocks and launches.

    Attributes:
        block_m, block_n: queries and keys of a block, powers of two, at least 16; pairs of them are what a plan counts.
        query_rows: rows of a query block that the dK/dV kernel takes at a time; divides ``block_m``.
        forward, key_gradient, query_gradient: (warps, stages) of each kernel.
        dense_length: sequences up to this length see all their keys, whatever epsilon is.
    """

    block_m: int
    block_n: int
    query_rows: int
    forward: tuple[int, int]
    key_gradient: tuple[int, int]
    query_gradient: tuple[int, int]
    dense_length: int


# Not timed. On paper: at 1024 tokens blocks of 128 x 64 leave two thirds of the pairs, while the plan costs some sixty small
# launches whatever the length.
DENSE_LENGTH = 1024
DELTA_ROWS = 32
INTERPRETED = not isinstance(forward_kernel, triton.JITFunction)

# Chosen for 0 bytes spilled, then for the larger block, and never timed. Registers a thread (forward, dK/dV, dQ) as ptxas of
# Triton 3.7.1 allots them for bfloat16 heads 64 wide, and the shared memory of the hungriest kernel:
NARROW = {
    80: Launch(128, 64, 32, (8, 3), (4, 2), (8, 2), DENSE_LENGTH),  # 193, 178, 184; 48 KiB; 4 warps forward spill 16 bytes
    90: Launch(128, 64, 64, (8, 3), (4, 2), (8, 2), DENSE_LENGTH),  # 123, 237, 134; 64 KiB
    100: Launch(128, 64, 64, (4, 3), (4, 2), (8, 2), DENSE_LENGTH),  # 217, 166, 151; 72 KiB
}
# Heads 128 wide: at most 210 registers and 112 KiB; 72 KiB on the GPUs that have 99 (sm_86, sm_89, sm_120).
WIDE = Launch(64, 64, 32, (8, 2), (8, 2), (8, 2), DENSE_LENGTH)
# float32 is multiplied without tensor cores, and operands fill the registers: 194, 106, 205; 113, 114, 166 at 128 wide.
FLOAT32_NARROW = Launch(32, 32, 32, (8, 2), (8, 2), (8, 2), DENSE_LENGTH)
FLOAT32_WIDE = Launch(16, 16, 16, (4, 1), (4, 2), (8, 2), DENSE_LENGTH)


def launch_for(capability: tuple[int, int], dtype: torch.dtype, d: int) -> Launch:
    """The sizes for a GPU of this compute capability; GPUs without an entry have sm_80's matrix instruction."""
    wide = d > 64
    if dtype == torch.float32:
        return FLOAT32_WIDE if wide else FLOAT32_NARROW
    return WIDE if wide else NARROW.get(10 * capability[0], NARROW[80])


def plan_for(
    q: Tensor, k: Tensor, *, cu_seqlens: Tensor, max_seqlen: int, slopes: Tensor, epsilon: float, launch: Launch
) -> AttentionPlan:
    """The block pairs that attention with these tensors computes; shapes as for ``alibi_attention``, tokens at least 1."""
    q, k = _readable(q, k)
    shared = {
        "cu_seqlens": cu_seqlens, "max_seqlen": max_seqlen, "slopes": slopes, "epsilon": epsilon,
        "scale": q.shape[-1] ** -0.5, "block_m": launch.block_m, "block_n": launch.block_n,
        "dense_length": launch.dense_length,
    }  # fmt: skip
    with torch.no_grad():
        if epsilon > 0 and max_seqlen > launch.dense_length:
            return certified_plan(q, k, **shared)
        return attention_plan(None, tokens=q.shape[0], **shared)


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
    """softmax(q k^T / sqrt(d) - slope * |i - j|) v within each sequence of a pack, differentiable (once).

    Args:
        q, k, v: (tokens, heads, d), float32, float16 or bfloat16 alike, d up to 128; views of one projection are taken as
            they are.
        cu_seqlens: (sequences + 1,) int, first token of each sequence, then ``tokens``.
        max_seqlen: length of the longest sequence or more.
        slopes: (heads,) float32, positive.
        epsilon: share of a row's softmax mass that may be left out (proof in ``gpu.plan``); 0 computes every key.

    Returns:
        (tokens, heads, d) contiguous, dtype of ``q``.

    Raises:
        ValueError: shapes that do not fit each other, another dtype, or wider heads.
    """
    _check(q, k, v, slopes)
    if not q.shape[0]:
        return v.clone()
    q, k, v = _readable(q, k, v)
    capability = torch.cuda.get_device_capability(q.device) if q.device.type == "cuda" else (8, 0)
    launch = launch_for(capability, q.dtype, q.shape[-1])
    cu_seqlens, slopes = cu_seqlens.to(q.device), slopes.to(q.device, torch.float32)
    plan = plan_for(q, k, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, slopes=slopes, epsilon=epsilon, launch=launch)
    return planned_attention(q, k, v, plan=plan, slopes=slopes, launch=launch)


def planned_attention(q: Tensor, k: Tensor, v: Tensor, *, plan: AttentionPlan, slopes: Tensor, launch: Launch) -> Tensor:
    """Attention over the pairs of a plan that was made with the same ``launch``; tensors as for ``alibi_attention``."""
    _check(q, k, v, slopes)
    q, k, v = _readable(q, k, v)
    out: Tensor = _Attention.apply(q, k, v, plan, slopes, launch)
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: AttentionPlan, slopes: Tensor, launch: Launch) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        log_sum = torch.empty((q.shape[1], q.shape[0]), dtype=torch.float32, device=q.device)
        forward_call(q, k, v, out, log_sum, plan, slopes, launch).run()
        ctx.save_for_backward(q, k, v, out, log_sum, slopes)
        ctx.plan, ctx.launch = plan, launch
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, log_sum, slopes = ctx.saved_tensors
        (gradient,) = _readable(gradient)
        dq, dk, dv = (torch.empty_like(out) for _ in range(3))
        delta = torch.empty_like(log_sum)
        for call in backward_calls(q, k, v, out, gradient, dq, dk, dv, log_sum, delta, ctx.plan, slopes, ctx.launch):
            call.run()
        return dq, dk, dv, None, None, None


def forward_call(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sum: Tensor, plan: AttentionPlan, slopes: Tensor, launch: Launch
) -> Call:
    """The launch that fills ``out`` (tokens, heads, d) and ``log_sum`` (heads, tokens) float32, base 2."""
    warps, stages = launch.forward
    arguments = {
        "q": q, "k": k, "v": v, "out": out, "log_sum": log_sum, "slopes": slopes, "cu_seqlens": plan.cu_seqlens,
        "head_order": plan.head_order, **_query_blocks(plan), **_strides(q=q, k=k, v=v), "tokens": q.shape[0],
        **_constants(q), "BLOCK_M": launch.block_m, "BLOCK_N": launch.block_n,
    }  # fmt: skip
    return Call(forward_kernel, (len(plan.query_start), q.shape[1]), arguments, warps, stages)


def backward_calls(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, gradient: Tensor, dq: Tensor, dk: Tensor, dv: Tensor,
    log_sum: Tensor, delta: Tensor, plan: AttentionPlan, slopes: Tensor, launch: Launch,
) -> list[Call]:  # fmt: skip
    """The launches that fill ``delta`` (heads, tokens) float32, then ``dk``, ``dv`` and ``dq`` (tokens, heads, d)."""
    tokens, heads, _ = q.shape
    visits = key_visits(plan)
    shared = {
        "q": q, "k": k, "v": v, "gradient": gradient, "log_sum": log_sum, "delta": delta, "slopes": slopes,
        "cu_seqlens": plan.cu_seqlens, "head_order": plan.head_order, **_strides(q=q, k=k, v=v, g=gradient),
        "tokens": tokens, **_constants(q), "BLOCK_M": launch.block_m, "BLOCK_N": launch.block_n,
    }  # fmt: skip
    widths = {"D": shared["D"], "DIM": shared["DIM"]}
    rows = {"out": out, "gradient": gradient, "delta": delta, **_strides(g=gradient), "tokens": tokens}
    keys = {
        "block_sequence": plan.key_sequence,
        "block_start": plan.key_start,
        "bounds": visits.bounds,
        "visits": visits.start,
    }
    return [
        Call(delta_kernel, (triton.cdiv(tokens, DELTA_ROWS), heads), {**rows, **widths, "ROWS": DELTA_ROWS}, 4, 1),
        Call(
            key_gradient_kernel,
            (len(plan.key_start), heads),
            {**shared, **keys, "dk": dk, "dv": dv, "ROWS": launch.query_rows},
            *launch.key_gradient,
        ),
        Call(
            query_gradient_kernel,
            (len(plan.query_start), heads),
            {**shared, **_query_blocks(plan), "dq": dq},
            *launch.query_gradient,
        ),
    ]


def _query_blocks(plan: AttentionPlan) -> dict[str, Any]:
    return {
        "block_sequence": plan.query_sequence,
        "block_start": plan.query_start,
        "low": plan.low,
        "high": plan.high,
        "extra": plan.extra,
        "extra_count": plan.extra_count,
        "most": plan.extra.shape[2],
    }


def _readable(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as they are where their last dimension is contiguous, else copies."""
    return tuple(x if x.stride(-1) == 1 else x.contiguous() for x in tensors)


def _strides(**tensors: Tensor) -> dict[str, int]:
    tokens = {f"{name}_token": x.stride(0) for name, x in tensors.items()}
    return tokens | {f"{name}_head": x.stride(1) for name, x in tensors.items()}


def _constants(q: Tensor) -> dict[str, Any]:
    d = q.shape[2]
    return {"scale": d**-0.5, "D": d, "DIM": max(16, triton.next_power_of_2(d)), "PRECISION": _precision(q)}


def _precision(q: Tensor) -> str:
    """How products of this dtype are made; "tf32" is Triton's default and of no effect on 16-bit numbers."""
    if q.dtype == torch.float32:
        return "ieee"
    return "wide" if INTERPRETED else "tf32"  # NumPy, hence the interpreter, multiplies no bfloat16


def _check(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor) -> None:
    if not q.shape == k.shape == v.shape or q.dim() != 3:
        raise ValueError(f"q, k, v are (tokens, heads, d) alike, got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}")
    if slopes.shape != (q.shape[1],):
        raise ValueError(f"one slope a head: {q.shape[1]} heads, slopes {tuple(slopes.shape)}")
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k, v are float32, float16 or bfloat16 alike, got {q.dtype}, {k.dtype}, {v.dtype}")
    if not 1 <= q.shape[2] <= MOST_HEAD_WIDTH:
        raise ValueError(f"heads are 1 to {MOST_HEAD_WIDTH} wide, got {q.shape[2]}")
