"""The models that benchmarks run, what they cost on paper, and the statistics of their logits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dnagrinder.model.config import SIZES, EncoderConfig
from dnagrinder.model.encoder import Block, initialise
from dnagrinder.model.heads import MaskedLanguageModel

SAMPLED_TOKENS, SAMPLED_QUERIES = 1024, 256


def random_base(layers: int, spread: float, dtype: torch.dtype) -> MaskedLanguageModel:
    """``base`` with so many layers and random weights whose logits q.k/sqrt(d) have the standard deviation ``spread``.

    Fresh weights give 0.2; queries and keys of each layer are scaled up by what a sample of random tokens shows.
    """
    model = MaskedLanguageModel(replace(SIZES["base"], layers=layers))
    initialise(model, torch.Generator().manual_seed(1))
    encoder = model.encoder
    ids, bounds = pack(1, SAMPLED_TOKENS, model.config.vocabulary)
    with torch.no_grad():
        x = encoder.embeddings(ids)
        for block in encoder.blocks:
            q, k, _ = layer_inputs(block, x)
            block.qkv.weight[: 2 * model.config.hidden] *= math.sqrt(spread / logit_std(q, k))
            x = block(x, bounds, SAMPLED_TOKENS, encoder.slopes, encoder.epsilon)
    return model.to(dtype).eval().requires_grad_(False)


def layer_inputs(block: Block, x: Tensor) -> tuple[Tensor, ...]:
    """q, k, v of a block, (tokens, heads, width) each."""
    return block.qkv(x).view(-1, 3, block.heads, block.head_width).unbind(1)


def pack(sequences: int, length: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Random ids of sequences of one length, (tokens,), and their cu_seqlens."""
    ids = torch.randint(5, vocabulary, (sequences * length,), generator=torch.Generator().manual_seed(length))
    return ids, torch.arange(sequences + 1) * length


def linear_flops(config: EncoderConfig) -> int:
    """Operations of one token in the products of one layer."""
    hidden, width = config.hidden, config.intermediate
    return 2 * (hidden * 3 * hidden + hidden * hidden + 3 * hidden * width)


def attention_flops(config: EncoderConfig, length: int) -> int:
    """Operations of one query of one layer against ``length`` keys, none left out."""
    return 4 * length * config.hidden


def head_flops(config: EncoderConfig) -> int:
    """Operations of one position in the masked-language-model head."""
    return 2 * (config.hidden * config.hidden + config.hidden * config.vocabulary)


def encoder_flops(config: EncoderConfig, tokens: int, length: int) -> int:
    """Operations of the encoder on ``tokens`` tokens in sequences of one length, dense attention counted."""
    return tokens * config.layers * (linear_flops(config) + attention_flops(config, length))


def logit_std(q: Tensor, k: Tensor) -> float:
    """Standard deviation of the logits of sampled queries against all keys, (tokens, heads, d) each.

    Keys are taken from their mean: what all keys share adds one number to a row, and the softmax does not see it.
    """
    rows = torch.randperm(q.shape[0], generator=torch.Generator().manual_seed(1))[:SAMPLED_QUERIES]
    queries, keys = q[rows].float(), k.float() - k.float().mean(0)
    return float((torch.einsum("ihd,jhd->hij", queries, keys) * q.shape[-1] ** -0.5).std())


def prepacked(weight: Tensor, bias: Tensor | None, rows: int) -> Callable[[Tensor], Tensor] | None:
    """oneDNN's product with the weight in its own layout, whatever the library would choose; None where torch lacks it."""
    operations = torch.ops.mkldnn
    if not torch.backends.mkldnn.is_available() or not hasattr(operations, "_linear_pointwise"):
        return None
    packed = operations._reorder_linear_weight(weight.detach().contiguous(), rows)
    return lambda x: operations._linear_pointwise(x, packed, bias, "none", [], "")


def plain_linear(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """torch's product."""
    return lambda x: F.linear(x, weight, bias)
