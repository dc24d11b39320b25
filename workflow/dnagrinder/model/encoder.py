"""The encoder: embeddings and post-LN blocks over packed (variable-length, unpadded) sequences."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dnagrinder.model.config import EncoderConfig
from dnagrinder_kernels import alibi_attention, alibi_slopes, gated_activation, residual_layer_norm


class Embeddings(nn.Module):
    """Token embedding plus the embedding of token type 0, then LayerNorm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocabulary, config.hidden)
        self.token_type = nn.Embedding(config.token_types, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.norm(self.word(input_ids) + self.token_type.weight[0])  # (tokens, hidden)


class Block(nn.Module):
    """x = LN(x + attention(x)); x = LN(x + gated_ffn(x))."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads, self.head_width, self.activation = config.heads, config.head_width, config.activation
        self.qkv = nn.Linear(config.hidden, 3 * config.hidden)
        self.out = nn.Linear(config.hidden, config.hidden)
        self.attention_norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.gated = nn.Linear(config.hidden, 2 * config.intermediate, bias=False)
        self.down = nn.Linear(config.intermediate, config.hidden)
        self.ffn_norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, cu_seqlens: Tensor, max_seqlen: int, slopes: Tensor, epsilon: float) -> Tensor:
        q, k, v = self.qkv(x).view(-1, 3, self.heads, self.head_width).unbind(1)  # each (tokens, heads, head_width)
        mixed = alibi_attention(
            q, k, v, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen, slopes=slopes, epsilon=epsilon
        ).flatten(1)  # (tokens, hidden)
        norm = self.attention_norm
        x = residual_layer_norm(x, self.out(mixed), norm.weight, norm.bias, norm.eps)
        gated = gated_activation(self.gated(x), self.activation)  # (tokens, intermediate)
        norm = self.ffn_norm
        return residual_layer_norm(x, self.down(gated), norm.weight, norm.bias, norm.eps)


class Encoder(nn.Module):
    """Packed token ids in, one hidden vector a token out.

    Attributes:
        epsilon: share of a row's attention that may be left out (certified, see ``dnagrinder_kernels.alibi``).
        recompute: keep only each block's input for the backward pass and run the block again there: a third more time for
            a tenth of the memory.
    """

    slopes: Tensor

    def __init__(self, config: EncoderConfig, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.config, self.epsilon, self.recompute = config, epsilon, False
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.register_buffer("slopes", alibi_slopes(config.heads), persistent=False)

    def forward(self, input_ids: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
        """Hidden states, (tokens, hidden), of a pack.

        Args:
            input_ids: (tokens,) int64, the sequences end to end, without padding.
            cu_seqlens: (sequences + 1,) int, first token of each sequence, then ``tokens``.
            max_seqlen: tokens of the longest sequence.
        """
        x = self.embeddings(input_ids)
        for block in self.blocks:
            arguments = (x, cu_seqlens, max_seqlen, self.slopes, self.epsilon)
            x = checkpoint(block, *arguments, use_reentrant=False) if self.recompute else block(*arguments)
        return x


def count_parameters(module: nn.Module) -> int:
    """Trainable numbers, a shared matrix counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """BERT's initialisation: weights normal(0, 0.02), biases 0, LayerNorm 1 and 0; reproducible from ``generator``."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02, generator=generator)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
