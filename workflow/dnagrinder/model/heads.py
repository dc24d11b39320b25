"""The masked-language-model head on the encoder, computed at chosen positions only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.encoder import Encoder
from dnagrinder_kernels import masked_log_probs, row_blocked_linear
from dnagrinder_kernels.linear import ROW_BLOCK


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

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Log-probabilities, (positions, vocabulary) float32, of chosen rows; one product shape at inference."""
        rows = hidden.shape[0]
        parts = []
        for first in range(0, rows, ROW_BLOCK):
            filled = hidden.new_zeros((ROW_BLOCK, hidden.shape[1]))
            chunk = hidden[first : first + ROW_BLOCK]
            filled[: chunk.shape[0]] = chunk
            parts.append(
                masked_log_probs(self._transformed(filled), self.decoder_weight, self.decoder_bias)[: chunk.shape[0]]
            )
        return torch.cat(parts) if parts else hidden.new_zeros((0, self.config.vocabulary), dtype=torch.float32)

    def _transformed(self, hidden: Tensor) -> Tensor:
        return self.transform_norm(F.gelu(row_blocked_linear(hidden, self.transform.weight, self.transform.bias)))
