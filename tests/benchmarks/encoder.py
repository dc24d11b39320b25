"""The encoder `base` with random weights: ours beside the same weights in plain PyTorch, one thread, interleaved.

Kinds:
  ours         InferenceModel: packed sequences, certified attention, fused row operations
  SDPA + bias  padded batch, torch's scaled_dot_product_attention with the dense ALiBi bias in the model's dtype
  eager        padded batch, softmax over materialised scores and float32 bias, as MosaicBERT's and DNABERT-2's code has it

Logits have the standard deviation 2. Only some of the 12 layers are timed and the time, embeddings included, is scaled to
all (`--layers`); biases are made outside the clock. The ceiling is the fastest of the model's four products and a cube, by
torch and by oneDNN with packed weights; which one that is, is found first, and it is then timed in turn with the kinds, 60
calls at a time, since the machine's speed moves from minute to minute. MFU is the time that products and dense attention
would need at the ceiling's median rate, divided by the time that ours took; keys left out count as computed.

--long instead compares the CPU time of one token at the two --long-lengths, one repeat, ours alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from harness import DTYPES, dtype_name, interleaved, judge, option_parser, record, repeated, report, start
from models import encoder_flops, pack, plain_linear, prepacked, random_base
from torch import Tensor

from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.model.inference import InferenceModel
from dnagrinder_kernels.alibi import distance_bias

LAYERS = 12
SHAPES = ("64x64", "32x128", "16x512", "4x2314")
CEILING = "best product"
CEILING_ROWS, CEILING_CUBE, CEILING_CALLS = 2048, 2048, 5
BESIDE_CALLS = 60  # of the fastest product beside each shape: as long as ours takes, so that a cold start does not count
GOALS = {  # shape: times faster, in bf16
    "16x512": {"SDPA + bias": 1.1},
    "4x2314": {"SDPA + bias": 1.8, "eager": 4.0},
}
MFU_GOAL, MFU_LENGTHS = 0.70, range(64, 513)
LONG_GOAL = 1.3
Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class PaddedEncoder:
    """The encoder's weights on a batch of equally long sequences, one PyTorch call after the other.

    Args:
        attend: takes q, k, v (batch, heads, n, width) and ``bias``.
        bias: (1, heads, n, n).
    """

    def __init__(self, model: MaskedLanguageModel, attend: Attend, bias: Tensor) -> None:
        self._encoder, self._attend, self._bias = model.encoder, attend, bias

    def __call__(self, ids: Tensor) -> Tensor:
        """Hidden states (batch, n, hidden) of ids (batch, n)."""
        x = self._encoder.embeddings(ids)
        batch, n, hidden = x.shape
        for block in self._encoder.blocks:
            projected = block.qkv(x).view(batch, n, 3, block.heads, block.head_width)
            q, k, v = projected.permute(2, 0, 3, 1, 4)  # each (batch, heads, n, width)
            mixed = self._attend(q, k, v, self._bias).transpose(1, 2).reshape(batch, n, hidden)
            x = block.attention_norm(x + block.out(mixed))
            gate, value = block.gated(x).chunk(2, dim=-1)
            x = block.ffn_norm(x + block.down(F.silu(gate) * value))
        return x


def sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """torch's fused attention."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def eager(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Scores in the model's dtype, bias and softmax in float32."""
    scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    return torch.matmul((scores + bias).softmax(-1).to(v.dtype), v)


def alibi_bias(model: MaskedLanguageModel, n: int) -> Tensor:
    """Dense float32 bias, (1, heads, n, n)."""
    return (model.encoder.slopes.view(-1, 1, 1) * distance_bias(n, n, 0, 1.0))[None]


@dataclass(frozen=True)
class Yardstick:
    """The fastest product: a call of it, and the operations of that call."""

    call: Callable[[], object]
    flops: float


def fastest_product(model: MaskedLanguageModel, repeats: int) -> Yardstick:
    """The matrix product in the model's dtype with the best median rate on one thread."""
    block = model.encoder.blocks[0]
    weights = [block.qkv.weight, block.out.weight, block.gated.weight, block.down.weight]
    weights.append(torch.randn(CEILING_CUBE, CEILING_CUBE).to(weights[0].dtype))
    best, best_rate = Yardstick(lambda: None, 0.0), 0.0
    for weight in weights:
        out_features, features = weight.shape
        x = torch.randn(CEILING_ROWS, features).to(weight.dtype)
        products = {"torch": plain_linear(weight, None), "packed": prepacked(weight, None, CEILING_ROWS)}
        calls = {kind: repeated(partial(product, x), CEILING_CALLS) for kind, product in products.items() if product}
        flops = 2 * CEILING_ROWS * features * out_features * CEILING_CALLS
        found = {kind: flops / timing.median for kind, timing in interleaved(calls, repeats).items()}
        shown = ", ".join(f"{kind} {rate / 1e9:.0f}" for kind, rate in found.items())
        print(f"  {CEILING_ROWS} x {features} x {out_features}: {shown} GFLOP/s", flush=True)
        kind = max(found, key=found.__getitem__)
        if found[kind] > best_rate:
            product = cast(Callable[[Tensor], Tensor], products[kind])
            call = repeated(partial(product, x), BESIDE_CALLS)
            best, best_rate = Yardstick(call, flops / CEILING_CALLS * BESIDE_CALLS), found[kind]
    return best


def measure(model: MaskedLanguageModel, shape: str, yardstick: Yardstick, repeats: int) -> None:
    """One shape: time all kinds, write their rows, judge the goals."""
    sequences, n = (int(number) for number in shape.split("x"))
    dtype, layers = model.decoder_weight.dtype, model.config.layers
    ids, bounds = pack(sequences, n, model.config.vocabulary)
    padded, bias = ids.view(sequences, n), alibi_bias(model, n)
    ours = InferenceModel(model)
    kinds = {
        "ours": partial(ours.hidden, ids, bounds, n),
        "SDPA + bias": partial(PaddedEncoder(model, sdpa, bias.to(dtype)), padded),
        "eager": partial(PaddedEncoder(model, eager, bias), padded),
    }
    apart = float((kinds["ours"]().float() - kinds["SDPA + bias"]().view(len(ids), -1).float()).abs().max())
    timings = interleaved({**kinds, CEILING: yardstick.call}, repeats)
    rate = yardstick.flops / timings.pop(CEILING).median
    setting = f"{shape} {dtype_name(dtype)} logit std 2, {layers} of {LAYERS} layers times {LAYERS / layers:g}"
    report("encoder", setting, timings, dict.fromkeys(kinds, LAYERS / layers), "ours")
    speeds = {kind: [len(ids) / (s * LAYERS / layers) for s in timing.seconds] for kind, timing in timings.items()}
    for kind, values in speeds.items():
        record("encoder", kind, setting, "tokens/s", values)
    rates = {kind: len(ids) * layers / LAYERS / timing.median for kind, timing in timings.items()}
    print("  tokens/s: " + ", ".join(f"{kind} {value:.0f}" for kind, value in rates.items()))
    print(f"  ceiling beside it: {rate / 1e9:.0f} GFLOP/s")
    record("encoder", CEILING, setting, "GFLOP/s", [rate / 1e9])
    print(f"  largest difference of a hidden value, ours and SDPA: {apart:.3g}")
    utilisation = encoder_flops(model.config, len(ids), n) / timings["ours"].median / rate
    record("encoder", "ours", setting, "MFU", [utilisation])
    judge_shape(shape, n, dtype, rates, utilisation)


def judge_shape(shape: str, n: int, dtype: torch.dtype, rates: dict[str, float], utilisation: float) -> None:
    """Goals are stated for bf16; elsewhere the MFU is printed alone."""
    if dtype != torch.bfloat16:
        print(f"  MFU of ours: {utilisation:.3f}")
        return
    for other, goal in GOALS.get(shape, {}).items():
        judge(f"{shape} {dtype_name(dtype)}: ours faster than {other}", rates["ours"] / rates[other], goal)
    if n in MFU_LENGTHS:
        judge(f"{shape} {dtype_name(dtype)}: MFU of ours", utilisation, MFU_GOAL)
    else:
        print(f"  MFU of ours: {utilisation:.3f}")


def measure_long(model: MaskedLanguageModel, lengths: list[int]) -> None:
    """CPU time a token of one sequence, at each length."""
    layers = model.config.layers
    seconds = []
    for n in lengths:
        ids, bounds = pack(1, n, model.config.vocabulary)
        timing = interleaved({"ours": partial(InferenceModel(model).hidden, ids, bounds, n)}, 1, warm_up=False)["ours"]
        seconds.append(timing.median / n * LAYERS / layers)
        name = dtype_name(model.decoder_weight.dtype)
        setting = f"1x{n} {name} logit std 2, {layers} of {LAYERS} layers times {LAYERS / layers:g}"
        print(f"encoder {setting}: ours {seconds[-1] * 1e3:.3f} CPU ms a token", flush=True)
        record("encoder", "ours", setting, "CPU seconds a token", [seconds[-1]])
    judge(f"CPU time a token at {lengths[-1]} / at {lengths[0]}", seconds[-1] / seconds[0], LONG_GOAL, at_least=False)


def main() -> None:
    """Measure every shape in every number format, or long sequences."""
    parser = option_parser(__doc__)
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), help="sequences x tokens")
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--layers", type=int, default=4, help=f"layers timed, of {LAYERS}")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each kind")
    parser.add_argument("--long", action="store_true", help="long sequences in bf16 instead of the shapes")
    parser.add_argument("--long-lengths", type=int, nargs=2, default=[17_000, 140_000])
    arguments = start(parser)
    with torch.inference_mode():
        if arguments.long:
            measure_long(random_base(arguments.layers, 2.0, torch.bfloat16), arguments.long_lengths)
            return
        for name in arguments.dtypes:
            model = random_base(arguments.layers, 2.0, DTYPES[name])
            yardstick = fastest_product(model, arguments.repeats)
            for shape in arguments.shapes:
                measure(model, shape, yardstick, arguments.repeats)


if __name__ == "__main__":
    main()
