"""Each fused operation beside plain torch on one row block (1024 rows), bf16 and fp32, one thread, interleaved.

  residual + LayerNorm, embedding + LayerNorm   768 features
  SwiGLU                                        1024 features out
  linear                                        the four products of `base`: torch, oneDNN with the weight in its own layout,
                                                and FixedLinear, which chooses between them and own AMX tiles by dtype and
                                                processor; with SwiGLU behind it, which the tiles write at once

An operation pays where plain torch takes at least 1.02 times as long; beside packing it is told what FixedLinear brings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from harness import DTYPES, dtype_name, interleaved, option_parser, repeated, report, start
from models import plain_linear, prepacked
from torch import Tensor

from dnagrinder.model.config import SIZES
from dnagrinder_kernels import (
    FixedLinear,
    embedding_layer_norm,
    gated_activation,
    residual_layer_norm,
    row_block,
)

BASE = SIZES["base"]
ROWS = row_block(torch.device("cpu"))
PAYS = 1.02
Kinds = dict[str, Callable[[], object]]


def layer_norms(dtype: torch.dtype) -> dict[str, Kinds]:
    """Both operations that end in LayerNorm."""
    hidden, eps = BASE.hidden, BASE.layer_norm_eps
    x, residual = (torch.randn(ROWS, hidden).to(dtype) for _ in range(2))
    weight, bias, offset = (torch.randn(hidden).to(dtype) for _ in range(3))
    table = torch.randn(BASE.vocabulary, hidden).to(dtype)
    ids = torch.randint(0, BASE.vocabulary, (ROWS,))

    def norm(rows: Tensor) -> Tensor:
        return F.layer_norm(rows, (hidden,), weight, bias, eps)

    return {
        "residual + LayerNorm": {
            "torch": lambda: norm(x + residual),
            "ours": lambda: residual_layer_norm(x, residual, weight, bias, eps),
        },
        "embedding + LayerNorm": {
            "torch": lambda: norm(F.embedding(ids, table) + offset),
            "ours": lambda: embedding_layer_norm(ids, table, offset, weight, bias, eps),
        },
    }


def swiglu(dtype: torch.dtype) -> dict[str, Kinds]:
    """The gate of the feed-forward network."""
    x = torch.randn(ROWS, 2 * BASE.intermediate).to(dtype)

    def plain() -> Tensor:
        gate, value = x.chunk(2, dim=-1)
        return F.silu(gate) * value

    return {"SwiGLU": {"torch": plain, "ours": lambda: gated_activation(x, "swiglu")}}


def linears(dtype: torch.dtype) -> dict[str, Kinds]:
    """The model's four products of weights (out, in), with a bias where the model has one; that of q, k, v also in place."""
    hidden, width = BASE.hidden, BASE.intermediate
    shapes = {
        "qkv": (3 * hidden, hidden, True),
        "out": (hidden, hidden, True),
        "gated": (2 * width, hidden, False),
        "down": (hidden, width, True),
    }
    found: dict[str, Kinds] = {}
    for name, (out_features, features, has_bias) in shapes.items():
        weight, x = (torch.randn(n, features).to(dtype) for n in (out_features, ROWS))
        bias = torch.randn(out_features).to(dtype) if has_bias else None
        kinds: Kinds = {"torch": partial(plain_linear(weight, bias), x)}
        packed = prepacked(weight, bias, ROWS)
        if packed:
            kinds["packed"] = partial(packed, x)
        layer = FixedLinear(weight, bias)
        kinds["FixedLinear"] = partial(layer, x)
        found[f"linear {name} {features} -> {out_features}"] = kinds
        if name == "qkv":
            into = torch.empty(ROWS, out_features, dtype=dtype)
            found["linear qkv into its buffer"] = {
                "torch": partial(plain_into, weight, bias, x, into),
                "FixedLinear": partial(layer, x, out=into),
            }
        if name == "gated":
            found["linear gated and SwiGLU"] = {
                "torch": partial(plain_swiglu, weight, x),
                "FixedLinear": partial(FixedLinear(weight, activation="swiglu"), x),
            }
    return found


def plain_into(weight: Tensor, bias: Tensor | None, x: Tensor, into: Tensor) -> Tensor:
    """torch's product, then a copy to where it belongs."""
    return into.copy_(F.linear(x, weight, bias))


def plain_swiglu(weight: Tensor, x: Tensor) -> Tensor:
    """torch's product, then the gate."""
    gate, value = F.linear(x, weight).chunk(2, dim=-1)
    return F.silu(gate) * value


def measure(dtype: torch.dtype, calls: int, repeats: int) -> None:
    """Time every operation in one number format."""
    for name, kinds in {**layer_norms(dtype), **swiglu(dtype), **linears(dtype)}.items():
        timings = interleaved({kind: repeated(function, calls) for kind, function in kinds.items()}, repeats)
        report("operations", f"{name} {ROWS} rows {dtype_name(dtype)}", timings, dict.fromkeys(kinds, 1 / calls), "torch")
        gains = {kind: timings["torch"].median / timing.median for kind, timing in timings.items()}
        if "ours" in gains:
            print(f"  {name} {dtype_name(dtype)}: {_verdict(gains['ours'])}, {gains['ours']:.2f} x", flush=True)
        elif "packed" in gains:
            print(
                f"  {name} {dtype_name(dtype)}: packing {_verdict(gains['packed'])}, {gains['packed']:.2f} x; "
                f"FixedLinear {gains['FixedLinear']:.2f} x",
                flush=True,
            )


def _verdict(gain: float) -> str:
    return "pays" if gain >= PAYS else "does not pay"


def main() -> None:
    """Measure every number format."""
    parser = option_parser(__doc__)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--calls", type=int, default=50, help="calls that the clock takes together")
    parser.add_argument("--repeats", type=int, default=15, help="timed runs of each kind")
    arguments = start(parser)
    torch.manual_seed(1)
    with torch.inference_mode():
        for name in arguments.dtypes:
            measure(DTYPES[name], arguments.calls, arguments.repeats)


if __name__ == "__main__":
    main()
