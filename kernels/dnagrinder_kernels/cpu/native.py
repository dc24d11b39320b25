"""The C++ kernels as functions on tensors: attention, products, LayerNorm with a sum before it, SwiGLU; no gradients.

They take float32 and bfloat16 tensors on the CPU whose last dimension is a multiple of 16; products are for bfloat16 on
processors with AMX. ``library()`` is None where they cannot be compiled; that is said once, and PyTorch serves.
"""

from __future__ import annotations

import ctypes
import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from dnagrinder_kernels.cpu.build import BuildError, chosen_instruction_set, load_library

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
MULTIPLE = 16  # features come in whole registers of any instruction set
TILE_SIDE = 32  # features and outputs of a product come in blocks of so many
MOST_HEAD_WIDTH = 128
MOST_FEATURES = 8192
PARALLEL_ELEMENTS = 1 << 16  # below, waking a second thread costs more than it brings


class _AttentionCall(ctypes.Structure):
    """``struct Call`` of csrc/attention.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("q", "k", "v")),
        *((name, ctypes.c_long) for name in ("q_token", "k_token", "v_token", "q_head", "k_head", "v_head")),
        ("out", ctypes.c_void_p),
        ("cu_seqlens", ctypes.c_void_p),
        *((name, ctypes.c_long) for name in ("sequences", "heads", "d")),
        ("slopes", ctypes.c_void_p),
        ("epsilon", ctypes.c_double),
        ("threads", ctypes.c_int),
        ("computed", ctypes.c_void_p),
    )


class _LinearCall(ctypes.Structure):
    """``struct Call`` of csrc/linear.cpp."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "panels", "bias", "out")),
        *((name, ctypes.c_long) for name in ("x_row", "out_row", "rows", "features", "width")),
        *((name, ctypes.c_int) for name in ("gated", "threads")),
    )


@dataclass(frozen=True)
class PackedLinear:
    """The weights of a product as csrc/linear.cpp reads them (``pack_linear``).

    Attributes:
        panels: (width / 32, features / 32, 2, 16, 16, 2) bfloat16: of 32 outputs, 32 features a step: outputs 0-15 or 16-31,
            pairs of features, outputs, the two of a pair.
        bias: (width,) bfloat16 in the order of the panels, or None.
        gated: whether the SwiGLU gate follows; a panel then holds 16 gates and the 16 values that they scale.
    """

    panels: Tensor
    bias: Tensor | None
    gated: bool


def library() -> ctypes.CDLL | None:
    """The compiled kernels of the chosen instruction set; None, with one warning, where there are none."""
    return _library(_instruction_set())


def _instruction_set() -> str | None:
    try:
        return chosen_instruction_set()
    except BuildError:
        return None


@lru_cache(maxsize=8)
def _library(instruction_set: str | None) -> ctypes.CDLL | None:
    if instruction_set is None:
        return None
    try:
        return load_library(instruction_set)
    except BuildError as error:
        warnings.warn(f"dnaGrinder computes with PyTorch, slower: {error}", RuntimeWarning, stacklevel=3)
        return None


def serves_attention(q: Tensor) -> bool:
    """Whether ``alibi_attention`` takes these tensors (their device, dtype and head width)."""
    width = q.shape[-1]
    return _serves(q) and width <= MOST_HEAD_WIDTH and width % MULTIPLE == 0 and library() is not None


def serves_rows(x: Tensor) -> bool:
    """Whether the operations on rows take this tensor."""
    width = x.shape[-1]
    contiguous = x.is_contiguous() and width % MULTIPLE == 0 and width <= MOST_FEATURES
    return _serves(x) and contiguous and library() is not None


def serves_linear(weight: Tensor) -> bool:
    """Whether ``linear`` takes this weight, (out, in): bfloat16, both in whole tiles, and a processor with AMX."""
    fits = weight.shape[0] % TILE_SIDE == 0 and weight.shape[1] % TILE_SIDE == 0
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not fits:
        return False
    return hasattr(library(), "dnagrinder_linear")


def _serves(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in DTYPES


def alibi_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    cu_seqlens: Tensor,
    slopes: Tensor,
    epsilon: float,
    out: Tensor | None = None,
    computed: Tensor | None = None,
) -> Tensor:
    """Same contract as the package's ``alibi_attention``, without gradients.

    Args:
        q, k, v: (tokens, heads, d), last dimension contiguous; views of one projection are taken as they are.
        out: where to write, (tokens, heads, d) contiguous; made where None.
        computed: (heads,) int64, increased by the (strip of queries, block of keys) pairs computed (``pair_count``).
    """
    loaded = _loaded()
    tokens, heads, d = q.shape
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    out = torch.empty((tokens, heads, d), dtype=q.dtype) if out is None else out
    bounds = cu_seqlens.to(torch.int64).contiguous()
    steep = slopes.to(torch.float32).contiguous()
    call = _AttentionCall(
        *(x.data_ptr() for x in (q, k, v)),
        *(x.stride(0) for x in (q, k, v)),
        *(x.stride(1) for x in (q, k, v)),
        out.data_ptr(),
        bounds.data_ptr(),
        bounds.numel() - 1,
        heads,
        d,
        steep.data_ptr(),
        epsilon,
        _threads(q.numel()),
        None if computed is None else computed.data_ptr(),
    )
    getattr(loaded, f"dnagrinder_attention_{DTYPES[q.dtype]}")(ctypes.byref(call))
    return out


def pair_count(lengths: list[int]) -> int:
    """(strip of queries, block of keys) pairs that dense attention would compute for one head."""
    loaded = _loaded()
    strip, block = loaded.dnagrinder_lanes(), loaded.dnagrinder_block()
    return sum(-(-n // strip) * -(-n // block) for n in lengths)


def residual_layer_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, out: Tensor | None = None
) -> Tensor:
    """LayerNorm(x + residual), (rows, features) contiguous; sums in float32. ``out`` may be ``x``."""
    out = torch.empty_like(x) if out is None else out
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (x, residual, weight, bias, out)]
    function = getattr(_loaded(), f"dnagrinder_residual_layer_norm_{DTYPES[x.dtype]}")
    function(*pointers, *_sizes(x), ctypes.c_float(eps), _threads(x.numel()))
    return out


def embedding_layer_norm(ids: Tensor, table: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm(table[ids] + offset): ids (rows,) int64 within the table (vocabulary, features); offset (features,)."""
    out = torch.empty((ids.numel(), table.shape[1]), dtype=table.dtype)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (ids, table, offset, weight, bias, out)]
    function = getattr(_loaded(), f"dnagrinder_embedding_layer_norm_{DTYPES[table.dtype]}")
    function(*pointers, *_sizes(out), ctypes.c_float(eps), _threads(out.numel()))
    return out


def pack_linear(weight: Tensor, bias: Tensor | None = None, *, gated: bool = False) -> PackedLinear:
    """Weight (out, in) and bias (out,) in the order of ``linear``; gated: the first half of the outputs are gates."""
    width, features = weight.shape
    order = torch.arange(width)
    if gated:
        order = order.view(2, -1, TILE_SIDE // 2).transpose(0, 1).reshape(-1)
    columns = weight.detach()[order].view(-1, 2, TILE_SIDE // 2, features // TILE_SIDE, TILE_SIDE // 2, 2)
    panels = columns.permute(0, 3, 1, 4, 2, 5).contiguous()
    return PackedLinear(panels, None if bias is None else bias.detach()[order].contiguous(), gated)


def linear(x: Tensor, packed: PackedLinear, out: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias, gated where it was packed so; sums, bias and gate in float32, rounded once.

    Any number of rows (rows, in), into ``out`` (rows, out features), last dimension contiguous, where given. A row's bits do
    not depend on the other rows, on its place or on threads.

    Raises:
        ValueError: another dtype or number of features.
    """
    width, features = packed.panels.shape[0] * TILE_SIDE, packed.panels.shape[1] * TILE_SIDE
    if x.dtype != torch.bfloat16 or x.shape[1] != features:
        raise ValueError(f"this product takes bfloat16 (rows, {features}), got {x.dtype} {tuple(x.shape)}")
    x = x if x.stride(1) == 1 else x.contiguous()
    if out is None:
        out = torch.empty((x.shape[0], width // 2 if packed.gated else width), dtype=x.dtype)
    call = _LinearCall(
        x.data_ptr(),
        packed.panels.data_ptr(),
        None if packed.bias is None else packed.bias.data_ptr(),
        out.data_ptr(),
        x.stride(0),
        out.stride(0),
        x.shape[0],
        features,
        width,
        packed.gated,
        _threads(x.numel()),
    )
    _loaded().dnagrinder_linear(ctypes.byref(call))
    return out


def swiglu(x: Tensor) -> Tensor:
    """silu(first half) * second half: (rows, 2m) contiguous -> (rows, m)."""
    out = torch.empty((x.shape[0], x.shape[1] // 2), dtype=x.dtype)
    function = getattr(_loaded(), f"dnagrinder_swiglu_{DTYPES[x.dtype]}")
    function(ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(out.data_ptr()), *_sizes(out), _threads(x.numel()))
    return out


def _loaded() -> ctypes.CDLL:
    loaded = library()
    if loaded is None:
        raise ValueError("the C++ kernels are not available here")
    return loaded


def _sizes(rows: Tensor) -> tuple[ctypes.c_long, ctypes.c_long]:
    return ctypes.c_long(rows.shape[0]), ctypes.c_long(rows.shape[1])


def _threads(elements: int) -> int:
    return torch.get_num_threads() if elements >= PARALLEL_ELEMENTS else 1
