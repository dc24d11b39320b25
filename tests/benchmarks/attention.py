"""ALiBi attention of 12 heads x 64: our kinds beside torch's SDPA with the same bias, one thread, interleaved.

Parts:
  speed     CPU time of each kind, the share of key blocks that the certificate left, and the goals
  accuracy  largest error against float64 of our kinds and of plain PyTorch in the same number format
  sinks     CPU time where the first and the last key draw every query, and where one key is 30 times as long
  trained   share of key blocks kept in each layer and head of the embedded checkpoint on a real sequence (kept.csv)

Queries and keys are normal with logits q.k/8 of the given standard deviation; trained ones are in `trained`. SDPA gets the
bias as a Toeplitz view of one float32 vector, made outside the clock, and all its inputs contiguous. It runs on the middle
rows of the sequence and is scaled to all of them: 768 rows at least, below which torch picks slower tiles and would flatter
us. From 100,000 tokens on it runs for two heads only: dense attention costs every head the same.
"""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pysam
import torch
import torch.nn.functional as F
from harness import DESTINATION, DTYPES, dtype_name, interleaved, judge, option_parser, record, report, shared_data, start
from models import layer_inputs, logit_std
from torch import Tensor

from dnagrinder.model.checkpoint import Checkpoint, open_checkpoint
from dnagrinder.model.tokenizer import CLS, SEP
from dnagrinder_kernels import banded
from dnagrinder_kernels.alibi import alibi_slopes, distance_bias
from dnagrinder_kernels.cpu import native
from dnagrinder_kernels.cpu.build import supported_instruction_sets

HEADS, WIDTH = 12, 64
LEAST_SDPA_ROWS = 768
LONG, SDPA_HEADS = 100_000, 2  # from so many tokens on SDPA is timed on so many heads
DENSE_LENGTH, ONE_HEAD_LENGTH = 20_000, 10_000  # "cpp dense" up to the first, on one head from the second on
EXACT_ROWS, ROWS_AT_ONCE = 256, 64
ALL_ROWS_LENGTH = 4096
SPEED_GOALS = {"cpp": {2314: 3, 17_000: 8, 140_000: 50}, "blocked": {17_000: 2.5, 140_000: 12}}  # x SDPA, bf16
SINK_GOAL = 1.25
PARTS = ("speed", "accuracy", "sinks", "trained")
TRAINED_CONTIG, TRAINED_START, TRAINED_BASES = "20", 1_000_000, 100_000  # of grch37/chr20.fa.gz, held out from training


@dataclass(frozen=True)
class Case:
    """Queries, keys and values of one sequence, (n, HEADS, WIDTH) each, and what a run is called."""

    q: Tensor
    k: Tensor
    v: Tensor
    spread: float
    epsilon: float

    @property
    def n(self) -> int:
        """Tokens."""
        return self.q.shape[0]

    @property
    def setting(self) -> str:
        """As it stands in results.csv."""
        return f"n={self.n} {dtype_name(self.q.dtype)} spread={self.spread:g} eps={self.epsilon:g}"


def make_case(n: int, dtype: torch.dtype, spread: float, epsilon: float) -> Case:
    """Random q, k, v whose logits have the standard deviation ``spread``."""
    generator = torch.Generator().manual_seed(n)
    q, k, v = (torch.randn(n, HEADS, WIDTH, generator=generator) for _ in range(3))
    return Case((q * spread**0.5).to(dtype), (k * spread**0.5).to(dtype), v.to(dtype), spread, epsilon)


@contextmanager
def instruction_set(name: str) -> Iterator[None]:
    """The C++ kernels of one instruction set."""
    before = os.environ.get("DNAGRINDER_CPU")
    os.environ["DNAGRINDER_CPU"] = name
    try:
        yield
    finally:
        del os.environ["DNAGRINDER_CPU"]
        if before is not None:
            os.environ["DNAGRINDER_CPU"] = before


def cpp(case: Case, name: str, heads: int = HEADS, epsilon: float | None = None, computed: Tensor | None = None) -> Tensor:
    """The first ``heads`` heads in C++."""
    parts = (x[:, :heads] for x in (case.q, case.k, case.v))
    with instruction_set(name):
        return native.alibi_attention(
            *parts,
            cu_seqlens=torch.tensor([0, case.n]),
            slopes=alibi_slopes(HEADS)[:heads],
            epsilon=case.epsilon if epsilon is None else epsilon,
            computed=computed,
        )


def blocked(case: Case) -> Tensor:
    """All heads in blocked PyTorch."""
    bounds = torch.tensor([0, case.n])
    return banded.alibi_attention(
        case.q, case.k, case.v, cu_seqlens=bounds, slopes=alibi_slopes(HEADS), epsilon=case.epsilon
    )


def kept_share(case: Case, name: str) -> Tensor:
    """(HEADS,) share of key blocks that the C++ kernel computed."""
    computed = torch.zeros(HEADS, dtype=torch.int64)
    cpp(case, name, computed=computed)
    with instruction_set(name):
        return computed / native.pair_count([case.n])


def sdpa(case: Case, rows: int, heads: int) -> Callable[[], Tensor]:
    """torch's attention of the ``rows`` middle queries, latest first: gives (heads, rows, WIDTH).

    Reversed queries make the bias depend on the sum of row and column, which is a view with strides (1, 1).
    """
    first = (case.n - rows) // 2
    queries = case.q[first : first + rows, :heads].flip(0).transpose(0, 1).contiguous()[None]
    keys, values = (x[:, :heads].transpose(0, 1).contiguous()[None] for x in (case.k, case.v))
    distances = distance_bias(1, rows + case.n - 1, first + rows - 1, 1.0)  # (1, rows + n - 1)
    biases = (alibi_slopes(HEADS)[:heads, None] * distances).contiguous()
    view = biases.as_strided((1, heads, rows, case.n), (0, biases.shape[1], 1, 1))
    return lambda: F.scaled_dot_product_attention(queries, keys, values, attn_mask=view)[0]


def measure_speed(case: Case, sets: list[str], rows: int, repeats: int) -> None:
    """Time all kinds and write their rows; the last instruction set is the one that users get."""
    rows, heads = min(case.n, rows), SDPA_HEADS if case.n >= LONG else HEADS
    baseline = sdpa(case, rows, heads)
    kinds: dict[str, Callable[[], object]] = {"torch SDPA": baseline, "blocked": partial(blocked, case)}
    scale = {"torch SDPA": case.n / rows * HEADS / heads}
    for name in sets:
        kinds[f"cpp {name}"] = partial(cpp, case, name)
    if case.n <= DENSE_LENGTH:
        dense_heads = 1 if case.n >= ONE_HEAD_LENGTH else HEADS
        kinds["cpp dense"] = partial(cpp, case, sets[-1], dense_heads, 0.0)
        scale["cpp dense"] = HEADS / dense_heads
    check_baseline(case, baseline(), rows, heads, sets[-1])
    timings = interleaved(kinds, repeats, warm_up=case.n < LONG)
    scale = dict.fromkeys(kinds, 1.0) | scale
    report("attention", case.setting, timings, scale, "torch SDPA")
    print_kept(case, sets[-1])
    seconds = {kind: timing.median * scale[kind] for kind, timing in timings.items()}
    for kind, goals in SPEED_GOALS.items():
        own = f"cpp {sets[-1]}" if kind == "cpp" else kind
        if case.n in goals and case.q.dtype == torch.bfloat16:
            judge(f"{own} faster than torch SDPA, {case.setting}", seconds["torch SDPA"] / seconds[own], goals[case.n])


def check_baseline(case: Case, found: Tensor, rows: int, heads: int, name: str) -> None:
    """The baseline must compute what we do, or its time says nothing."""
    first = (case.n - rows) // 2
    ours = cpp(case, name)[first : first + rows, :heads]
    difference = float((found.flip(1).transpose(0, 1).float() - ours.float()).abs().max())
    if not difference < 0.1:
        raise SystemExit(f"torch SDPA and the C++ kernel differ by {difference:g}: one of them is wrong")


def print_kept(case: Case, name: str) -> None:
    """Share of key blocks kept, head by head."""
    kept = kept_share(case, name)
    shares = " ".join(f"{share:.3f}({slope:.3g})" for share, slope in zip(kept.tolist(), alibi_slopes(HEADS), strict=True))
    print(f"  kept {float(kept.mean()):.4f} of the key blocks; by head (slope): {shares}")
    record("attention", f"cpp {name}", case.setting, "kept share of key blocks", [float(kept.mean())])


def measure_accuracy(case: Case, name: str) -> None:
    """Largest error against float64, over sampled rows that hold both ends."""
    rows = sampled_rows(case.n)
    yardstick = exact(case, rows)
    results = {
        f"cpp {name}": cpp(case, name)[rows],
        "blocked": blocked(case)[rows],
        "SDPA, bias in its dtype": by_head(case, rows, sdpa_head),
        "softmax, materialised": by_head(case, rows, softmax_head),
    }
    errors = {kind: float((found.double() - yardstick).abs().max()) for kind, found in results.items()}
    plain = min(errors[kind] for kind in list(errors)[2:])
    for kind, error in errors.items():
        print(f"attention {case.setting}, {len(rows)} rows: {kind} largest error {error:.3e}, {error / plain:.2f} x plain")
        record("attention", kind, case.setting, "largest error against float64", [error])


def sampled_rows(n: int) -> Tensor:
    """Ascending rows: all of a short sequence, else a few from both ends and random ones."""
    if n <= ALL_ROWS_LENGTH:
        return torch.arange(n)
    inner = torch.randperm(n - 16, generator=torch.Generator().manual_seed(n))[: EXACT_ROWS - 16] + 8
    return torch.cat([torch.arange(8), inner.sort().values, torch.arange(n - 8, n)])


def by_head(case: Case, rows: Tensor, attend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Tensor:
    """Attention of chosen rows, (rows, HEADS, WIDTH); ``attend`` takes q, k, v and the float32 bias of one head."""
    out = torch.empty((len(rows), HEADS, WIDTH), dtype=torch.float64)
    for head, slope in enumerate(alibi_slopes(HEADS).tolist()):
        q, k, v = case.q[rows, head], case.k[:, head].contiguous(), case.v[:, head].contiguous()
        for first in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(first, first + ROWS_AT_ONCE)
            bias = (rows[part, None] - torch.arange(case.n)).abs().float() * -slope  # (rows, n)
            out[part, head] = attend(q[part], k, v, bias).double()
    return out


def exact(case: Case, rows: Tensor) -> Tensor:
    """Dense attention in float64."""

    def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        scores = q.double() @ k.double().T * WIDTH**-0.5 + bias.double()
        return scores.softmax(-1) @ v.double()

    return by_head(case, rows, attend)


def sdpa_head(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """torch's attention with the bias in the dtype of q, as its documentation has it."""
    return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=bias.to(q.dtype)[None])[0]


def softmax_head(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Everything in the dtype of q."""
    return (q @ k.T * WIDTH**-0.5 + bias.to(q.dtype)).softmax(-1) @ v


def measure_sinks(case: Case, name: str, repeats: int) -> None:
    """What keys that stand far apart from all others cost in time."""
    cases = outlier_cases(case)
    for kind, run in {f"cpp {name}": partial(cpp, name=name), "blocked": blocked}.items():
        timings = interleaved({f"{kind}, {keys}": partial(run, one) for keys, one in cases.items()}, repeats)
        usual, *others = timings
        report("attention", case.setting, timings, dict.fromkeys(timings, 1.0), usual)
        for other in others:
            ratio = timings[other].median / timings[usual].median
            judge(f"{other} / {usual}, {case.setting}", ratio, SINK_GOAL, at_least=False)


def outlier_cases(case: Case) -> dict[str, Case]:
    """The same queries with usual keys, with two that draw every query, and with one 30 times as long."""
    q = case.q + 0.5
    sinks, stretched = case.k.clone(), case.k.clone()
    sinks[0] = sinks[-1] = 9.0
    stretched[case.n // 3] *= 30
    keys = {"usual keys": case.k, "sinks": sinks, "one long key": stretched}
    return {label: Case(q, k, case.v, case.spread, case.epsilon) for label, k in keys.items()}


def measure_trained(dtype: torch.dtype, epsilon: float, name: str, bases: int) -> None:
    """Share of key blocks kept with the embedded checkpoint's weights, by layer and head, into kept.csv."""
    checkpoint = open_checkpoint("mini")
    label, ids = trained_ids(checkpoint, bases)
    rows = []
    for layer, (q, k, v) in enumerate(trained_layers(checkpoint, ids, dtype)):
        slopes = alibi_slopes(q.shape[1])
        computed = torch.zeros(q.shape[1], dtype=torch.int64)
        with instruction_set(name):
            native.alibi_attention(
                q, k, v, cu_seqlens=torch.tensor([0, len(ids)]), slopes=slopes, epsilon=epsilon, computed=computed
            )
            kept = (computed / native.pair_count([len(ids)])).tolist()
        std = logit_std(q, k)
        shares = " ".join(f"{share:.3f}({slope:.3g})" for share, slope in zip(kept, slopes.tolist(), strict=True))
        print(
            f"mini on {label}, {len(ids)} tokens, layer {layer}: logit std {std:.2f}, "
            f"kept {sum(kept) / len(kept):.4f}; by head (slope): {shares}"
        )
        for head, share in enumerate(kept):
            facts = [checkpoint.name, label, len(ids), dtype_name(dtype), f"{epsilon:g}", name, layer, f"{std:.3f}"]
            rows.append([*facts, head, f"{float(slopes[head]):g}", f"{share:.5f}"])
    write_kept(rows)


def trained_ids(checkpoint: Checkpoint, bases: int) -> tuple[str, Tensor]:
    """What the sequence is called, and its ids with [CLS] and [SEP]; random bases where the real data is absent."""
    data = shared_data()
    if data:
        contig, start = TRAINED_CONTIG, TRAINED_START
        with pysam.FastaFile(str(data / "grch37" / "chr20.fa.gz")) as fasta:
            sequence = fasta.fetch(contig, start, start + bases).upper()
        label = f"GRCh37 {contig}:{start}-{start + bases}"
    else:
        sequence, label = "".join(random.Random(1).choices("ACGT", k=bases)), f"{bases} random bases"
    encoded = torch.from_numpy(checkpoint.tokenizer.encode(sequence))
    return label, torch.cat([torch.tensor([CLS]), encoded, torch.tensor([SEP])])


def trained_layers(checkpoint: Checkpoint, ids: Tensor, dtype: torch.dtype) -> Iterator[tuple[Tensor, ...]]:
    """q, k, v of each layer."""
    encoder = checkpoint.load_model(torch.device("cpu"), dtype).encoder
    bounds = torch.tensor([0, len(ids)])
    x = encoder.embeddings(ids)
    for block in encoder.blocks:
        yield layer_inputs(block, x)
        x = block(x, bounds, len(ids), encoder.slopes, encoder.epsilon)


def write_kept(rows: list[list[object]]) -> None:
    """Replace kept.csv."""
    path: Path | None = DESTINATION.file("kept.csv")
    if path is None:
        return
    columns = ("checkpoint", "sequence", "tokens", "dtype", "epsilon", "instruction_set", "layer", "logit_std")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*columns, "head", "slope", "kept"))
        writer.writerows(rows)


def main() -> None:
    """Measure every part at every length, number format and spread."""
    parser = option_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--lengths", type=int, nargs="+", default=[2314, 17_000, 140_000])
    parser.add_argument("--sink-lengths", type=int, nargs="+", default=[2314, 17_000])
    parser.add_argument("--spreads", type=float, nargs="+", default=[1.0, 3.0], help="standard deviation of the logits")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=["bf16"])
    parser.add_argument("--repeats", type=int, default=3, help="timed runs of each kind")
    parser.add_argument("--rows", type=int, default=2048, help=f"query rows of SDPA, at least {LEAST_SDPA_ROWS}")
    parser.add_argument("--epsilon", type=float, default=1e-6)
    parser.add_argument("--bases", type=int, default=TRAINED_BASES, help="bases of the part `trained`")
    supported = supported_instruction_sets()
    parser.add_argument(
        "--instruction-sets", nargs="*", choices=supported, default=[], help="also time these kernels, not only the best"
    )
    arguments = start(parser)
    if arguments.rows < LEAST_SDPA_ROWS:
        parser.error(f"--rows: at least {LEAST_SDPA_ROWS}")
    best = supported[-1]
    sets = [name for name in supported if name in arguments.instruction_sets and name != best] + [best]
    for dtype in (DTYPES[name] for name in arguments.dtypes):
        for spread in arguments.spreads:
            with torch.inference_mode():
                for n in arguments.lengths:
                    case = make_case(n, dtype, spread, arguments.epsilon)
                    if "speed" in arguments.parts:
                        measure_speed(case, sets, arguments.rows, arguments.repeats)
                    if "accuracy" in arguments.parts:
                        measure_accuracy(case, best)
                if "sinks" in arguments.parts:
                    for n in arguments.sink_lengths:
                        measure_sinks(make_case(n, dtype, spread, arguments.epsilon), best, arguments.repeats)
    if "trained" in arguments.parts:
        with torch.inference_mode():
            measure_trained(DTYPES[arguments.dtypes[0]], arguments.epsilon, best, arguments.bases)


if __name__ == "__main__":
    main()
