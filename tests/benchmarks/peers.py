"""Ours beside DNABERT-2's architecture at equal base pairs, random weights, bf16, one thread, interleaved.

Kinds:
  ours       `base` (63.6 M parameters) through InferenceModel, logits of standard deviation 2
  DNABERT-2  its published architecture (117 M parameters) in plain eager PyTorch, as its own code runs it without a GPU:
             post-LN, GEGLU of width 3072, a float32 ALiBi bias added anew in every layer, padding before attention and
             unpadding after it

Both tokenizers take 5 bases a token here. Encoders alone, no head; the bias is made outside the clock. Only some of the 12
layers are timed and the time is scaled to all (`--layers`).
"""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from harness import interleaved, judge, option_parser, record, report, start
from models import pack, random_base
from torch import Tensor, nn

from dnagrinder.model.encoder import initialise
from dnagrinder.model.inference import InferenceModel
from dnagrinder_kernels.alibi import alibi_slopes, distance_bias

LAYERS, HIDDEN, HEADS, VOCABULARY, INTERMEDIATE, NORM_EPS = 12, 768, 12, 4096, 3072, 1e-12
BASES_A_TOKEN = 5
GOALS = {600: 1.7, 12_000: 2.8}  # bases a sequence: times faster


class Dnabert2Layer(nn.Module):
    """One layer of DNABERT-2 on unpadded states."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.out = nn.Linear(HIDDEN, HIDDEN)
        self.attention_norm = nn.LayerNorm(HIDDEN, eps=NORM_EPS)
        self.gated = nn.Linear(HIDDEN, 2 * INTERMEDIATE, bias=False)
        self.down = nn.Linear(INTERMEDIATE, HIDDEN)
        self.ffn_norm = nn.LayerNorm(HIDDEN, eps=NORM_EPS)

    def forward(self, x: Tensor, places: Tensor, batch: int, n: int, bias: Tensor) -> Tensor:
        """States (tokens, hidden); ``places`` (tokens,): their rows in the padded batch; bias (1, heads, n, n) float32."""
        padded = x.new_zeros(batch * n, 3 * HIDDEN)
        padded[places] = self.qkv(x)
        q, k, v = padded.view(batch, n, 3, HEADS, HIDDEN // HEADS).permute(2, 0, 3, 1, 4)  # each (batch, heads, n, d)
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(HIDDEN // HEADS)
        shares = (scores + bias).softmax(dim=-1)
        mixed = torch.matmul(shares.to(v.dtype), v).permute(0, 2, 1, 3).reshape(batch * n, HIDDEN)[places]
        x = self.attention_norm(self.out(mixed) + x)
        halves = self.gated(x)
        gated = F.gelu(halves[:, :INTERMEDIATE]) * halves[:, INTERMEDIATE:]
        return self.ffn_norm(self.down(gated) + x)


class Dnabert2(nn.Module):
    """Embeddings and layers of DNABERT-2."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.word, self.token_type = nn.Embedding(VOCABULARY, HIDDEN), nn.Embedding(2, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, eps=NORM_EPS)
        self.layers = nn.ModuleList(Dnabert2Layer() for _ in range(layers))

    def forward(self, ids: Tensor, present: Tensor, bias: Tensor) -> Tensor:
        """States of the tokens that are no padding; ids and present (batch, n)."""
        batch, n = ids.shape
        places = present.flatten().nonzero().squeeze(1)
        x = self.norm(self.word(ids) + self.token_type(torch.zeros_like(ids))).view(batch * n, HIDDEN)[places]
        for layer in self.layers:
            x = layer(x, places, batch, n, bias)
        return x


def measure(sequences: int, bases: int, layers: int, repeats: int) -> None:
    """One batch: time both and judge the goal."""
    n = bases // BASES_A_TOKEN + 2  # [CLS] and [SEP]
    ids, bounds = pack(sequences, n, VOCABULARY)
    ours = InferenceModel(random_base(layers, 2.0, torch.bfloat16))
    peer = Dnabert2(layers)
    initialise(peer, torch.Generator().manual_seed(1))
    peer = peer.to(torch.bfloat16).eval()
    padded = ids.view(sequences, n)
    bias = (alibi_slopes(HEADS).view(-1, 1, 1) * distance_bias(n, n, 0, 1.0))[None]
    kinds = {
        "ours": partial(ours.hidden, ids, bounds, n),
        "DNABERT-2": partial(peer, padded, torch.ones_like(padded), bias),
    }
    timings = interleaved(kinds, repeats)
    setting = f"{sequences} x {bases} bp bfloat16, {layers} of {LAYERS} layers times {LAYERS / layers:g}"
    report("peers", setting, timings, dict.fromkeys(kinds, LAYERS / layers), "ours")
    for kind, timing in timings.items():
        speeds = [sequences * bases / (seconds * LAYERS / layers) for seconds in timing.seconds]
        print(f"  {kind}: {sequences * bases / (timing.median * LAYERS / layers):.0f} bp/s a core")
        record("peers", kind, setting, "bp/s", speeds)
    ratio = timings["DNABERT-2"].median / timings["ours"].median
    if bases in GOALS:
        judge(f"ours faster than DNABERT-2 at {bases} bp", ratio, GOALS[bases])


def main() -> None:
    """Measure every batch."""
    parser = option_parser(__doc__)
    parser.add_argument("--batches", nargs="+", default=["80x600", "4x12000"], help="sequences x bases")
    parser.add_argument("--layers", type=int, default=4, help=f"layers timed, of {LAYERS}")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each kind")
    arguments = start(parser)
    with torch.inference_mode():
        for batch in arguments.batches:
            sequences, bases = (int(number) for number in batch.split("x"))
            measure(sequences, bases, arguments.layers, arguments.repeats)


if __name__ == "__main__":
    main()
