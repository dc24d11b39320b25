"""The model at inference: no gradients, no padding, little memory, and rows whose bits depend on their sequence alone.

The encoder walks layer by layer over buffers of (tokens, features) that are allocated once and reused; within a layer
everything but attention goes row block by row block, in place, so that intermediates stay in the processor's cache. A row of
a matrix product knows no other row (``dnagrinder_kernels.linear``; those of libraries are kept to one shape, and the buffers
filled up), attention runs sequence by sequence, the rest is row by row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dnagrinder.model.encoder import Block
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder_kernels import (
    FREE_ROWS,
    FixedLinear,
    alibi_attention,
    chosen_log_probs,
    embedding_layer_norm,
    residual_layer_norm,
    row_block,
)

BUFFERED_WIDTHS = 5  # hidden widths a token in the buffers: states, q, k, v, mixed values


class InferenceModel:
    """A masked language model prepared for inference; made once, run on any number of packs.

    Attributes:
        config: architecture.
        device: where it runs.
    """

    def __init__(self, model: MaskedLanguageModel) -> None:
        self.config = model.config
        self._encoder = model.encoder
        self.device, self._dtype = model.decoder_weight.device, model.decoder_weight.dtype
        self._layers = [_Layer(block) for block in model.encoder.blocks if isinstance(block, Block)]
        self._transform = FixedLinear(model.transform.weight, model.transform.bias)
        self._transform_norm = model.transform_norm
        self._decoder = FixedLinear(model.decoder_weight, model.decoder_bias)
        self._filled_up = any(product.rows for layer in self._layers for product in layer.products)
        self._rows = row_block(self.device) if self._filled_up else FREE_ROWS
        self._buffers = _Buffers(0, self.config.hidden, self._dtype, self.device)

    def planned_bytes(self, tokens: int) -> int:
        """Memory of the buffers for a pack of so many tokens, weights and one row block's intermediates not counted."""
        return self._filled(tokens) * BUFFERED_WIDTHS * self.config.hidden * self._dtype.itemsize

    @torch.inference_mode()
    def hidden(self, input_ids: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
        """Hidden states of a pack, (tokens, hidden): a view of a buffer that the next call overwrites.

        Args:
            input_ids: (tokens,) int64, the sequences end to end, without padding.
            cu_seqlens: (sequences + 1,) int, first token of each sequence, then ``tokens``.
            max_seqlen: tokens of the longest sequence.
        """
        tokens = input_ids.numel()
        filled = self._filled(tokens)
        if self._buffers.rows < filled:
            self._buffers = _Buffers(0, self.config.hidden, self._dtype, self.device)  # let go before taking more
            self._buffers = _Buffers(filled, self.config.hidden, self._dtype, self.device)
        states, qkv, mixed = self._buffers.states, self._buffers.qkv, self._buffers.mixed
        encoder, parts = self._encoder, self._encoder.embeddings
        offset = parts.token_type.weight[0]
        for rows in self._blocks(tokens):
            ids = input_ids[rows]
            states[rows.start : rows.start + ids.numel()] = embedding_layer_norm(
                ids, parts.word.weight, offset, parts.norm.weight, parts.norm.bias, parts.norm.eps
            )
        heads, width = self.config.heads, self.config.head_width
        q, k, v = qkv[:tokens].view(tokens, 3, heads, width).unbind(1)  # each (tokens, heads, width)
        for layer in self._layers:
            for rows in self._blocks(tokens):
                layer.qkv(states[rows], out=qkv[rows])
            alibi_attention(
                q,
                k,
                v,
                cu_seqlens=cu_seqlens,
                max_seqlen=max_seqlen,
                slopes=encoder.slopes,
                epsilon=encoder.epsilon,
                out=mixed[:tokens].view(tokens, heads, width),
            )
            for rows in self._blocks(tokens):
                layer.rest(states[rows], mixed[rows])
        return states[:tokens]

    @torch.inference_mode()
    def chosen_log_probs(self, hidden: Tensor, chosen: Tensor) -> Tensor:
        """Log-probabilities of chosen tokens at chosen rows, normalised over the whole vocabulary.

        Args:
            hidden: (positions, hidden), rows of the hidden states.
            chosen: (positions, k) int64, token ids.

        Returns:
            (positions, k) float32. Logits of one row block at a time are all that is ever held.
        """
        parts, block = [], row_block(self.device)
        for first in range(0, hidden.shape[0], block):
            rows = hidden[first : first + block]
            count = rows.shape[0]
            if count < block:  # torch's GELU may round the last values of a tensor otherwise
                rows = torch.cat([rows, rows.new_zeros(block - count, rows.shape[1])])
            logits = self._decoder(_normed(F.gelu(self._transform(rows)), self._transform_norm))
            parts.append(chosen_log_probs(logits[:count], chosen[first : first + count]))
        return torch.cat(parts) if parts else chosen.new_zeros(chosen.shape, dtype=torch.float32)

    def _filled(self, tokens: int) -> int:
        """Rows of the buffers: whole row blocks where products need them."""
        return -(-tokens // self._rows) * self._rows if self._filled_up else tokens

    def _blocks(self, tokens: int) -> Iterator[slice]:
        filled = self._filled(tokens)
        for first in range(0, filled, self._rows):
            yield slice(first, min(first + self._rows, filled))


class _Buffers:
    """What one pack needs, (rows, features) each; rows beyond the tokens hold what was there before."""

    def __init__(self, rows: int, hidden: int, dtype: torch.dtype, device: torch.device) -> None:
        self.rows = rows
        self.states, self.mixed = (torch.zeros((rows, hidden), dtype=dtype, device=device) for _ in range(2))
        self.qkv = torch.zeros((rows, 3 * hidden), dtype=dtype, device=device)


class _Layer:
    """A block's products and norms, ready to run on row blocks."""

    def __init__(self, block: Block) -> None:
        self.qkv = FixedLinear(block.qkv.weight, block.qkv.bias)
        self._out = FixedLinear(block.out.weight, block.out.bias)
        self._gated = FixedLinear(block.gated.weight, activation=block.activation)
        self._down = FixedLinear(block.down.weight, block.down.bias)
        self.products = (self.qkv, self._out, self._gated, self._down)
        self._attention_norm, self._ffn_norm = block.attention_norm, block.ffn_norm

    def rest(self, states: Tensor, mixed: Tensor) -> None:
        """What follows attention, on the rows of ``states``, in place."""
        norm = self._attention_norm
        residual_layer_norm(states, self._out(mixed), norm.weight, norm.bias, norm.eps, out=states)
        norm = self._ffn_norm
        gated = self._gated(states)  # (rows, intermediate)
        residual_layer_norm(states, self._down(gated), norm.weight, norm.bias, norm.eps, out=states)


def _normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
