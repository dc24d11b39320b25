"""ALiBi attention of 12 heads x 64: our kinds beside torch's SDPA with the same bias, one thread, interleaved.

SDPA takes the bias as a mask, so it runs head by head on blocks of query rows (768 at least: below that torch picks slower
tiles and would flatter us). At long lengths it runs on some of the rows and its time is scaled up.
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
import torch.nn.functional as F
from harness import interleaved, report

from dnagrinder_kernels import banded
from dnagrinder_kernels.alibi import alibi_slopes, distance_bias

HEADS, WIDTH = 12, 64
SDPA_ROWS = 2048


def sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, slopes: torch.Tensor, rows: int) -> None:
    """Dense attention of the first ``rows`` queries of every head."""
    n = q.shape[0]
    for head, slope in enumerate(slopes.tolist()):
        for first in range(0, rows, SDPA_ROWS):
            last = min(first + SDPA_ROWS, rows)
            bias = distance_bias(last - first, n, first, slope).to(q.dtype)
            F.scaled_dot_product_attention(
                q[None, None, first:last, head], k[None, None, :, head], v[None, None, :, head], attn_mask=bias
            )


def measure(n: int, dtype: torch.dtype, spread: float, repeats: int) -> None:
    """One length and number format: time all kinds and write their rows."""
    slopes = alibi_slopes(HEADS)
    generator = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(n, HEADS, WIDTH, generator=generator) for _ in range(3))
    q, k, v = (q * spread).to(dtype), k.to(dtype), v.to(dtype)
    rows = min(n, SDPA_ROWS)
    blocked = partial(banded.alibi_attention, q, k, v, cu_seqlens=torch.tensor([0, n]), slopes=slopes)
    kinds = {
        "torch SDPA": partial(sdpa, q, k, v, slopes, rows),
        "blocked": blocked,
        "blocked, dense": partial(blocked, epsilon=0.0),
    }
    with torch.inference_mode():
        timings = interleaved(kinds, repeats)
    setting = f"n={n} {str(dtype).removeprefix('torch.')} spread={spread:g} eps=1e-6"
    report("attention", setting, timings, dict.fromkeys(kinds, 1.0) | {"torch SDPA": n / rows}, "torch SDPA")


def main() -> None:
    """Measure every length in both number formats on one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 2314, 17000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--spread", type=float, default=2.0, help="standard deviation of the logits q.k/sqrt(d)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.bfloat16):
        for n in arguments.lengths:
            measure(n, dtype, arguments.spread, arguments.repeats)


if __name__ == "__main__":
    main()
