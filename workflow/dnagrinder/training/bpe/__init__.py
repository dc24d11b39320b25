"""Training of the byte-pair tokenizer (ME-BPE), in the carry-over and in the exact out-of-core form (docs/tokenizer.md)."""

from dnagrinder.training.bpe.carry_over import apply_merges, train_bpe
from dnagrinder.training.bpe.exact import train_exact_bpe
from dnagrinder.training.bpe.merges import BREAK, FIRST_MERGE, Merge, base_ids, token_strings

__all__ = ["BREAK", "FIRST_MERGE", "Merge", "apply_merges", "base_ids", "token_strings", "train_bpe", "train_exact_bpe"]
