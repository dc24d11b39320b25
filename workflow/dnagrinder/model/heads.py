"""The masked-language-model head on the encoder, computed at chosen positions only.

This is the form with gradients; ``model.inference`` runs the same weights without them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.encoder import Encoder


class MaskedLanguageModel(nn.Module):
    """Encoder, transform (linear, GELU, LayerNorm) and decoder (own matrix, or the embedding's where tied)."""

    def __init__(self, config: EncoderConfig, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config, epsilon)
        self.transform = nn.Linear(config.hidden, config.hidden)
        self.transform_norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.decoder = None if config.tie_decoder else nn.Linear(config.hidden, config.vocabulary, bias=False)
        self.decoder_bias = nn.Parameter(torch.zeros(config.vocabulary))

    @property
    def decoder_weight(self) -> Tensor:
        """(vocabulary, hidden)."""
        return self.encoder.embeddings.word.weight if self.decoder is None else self.decoder.weight

    def forward(self, input_ids: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
        """Hidden states of the encoder, (tokens, hidden)."""
        return self.encoder(input_ids, cu_seqlens, max_seqlen)

    def logits(self, hidden: Tensor) -> Tensor:
        """Decoder logits, (positions, vocabulary), of chosen rows of the hidden states, (positions, hidden)."""
        return F.linear(self._transformed(hidden), self.decoder_weight, self.decoder_bias)

    def _transformed(self, hidden: Tensor) -> Tensor:
        return self.transform_norm(F.gelu(self.transform(hidden)))
