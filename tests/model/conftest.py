"""Small tokenizer and model for the model room's tests."""

from __future__ import annotations

import random

import pytest

from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.training.bpe import token_strings, train_bpe


@pytest.fixture(scope="session")
def tokenizer() -> DnaTokenizer:
    """A tokenizer of 300 ids trained on random bases."""
    bases = "".join(random.Random(7).choices("ACGT", k=30_000))
    merges = train_bpe([lambda: [bases]], 300)
    strings = token_strings(merges)
    return DnaTokenizer.from_merges(strings, [(strings[m.left], strings[m.right]) for m in merges])
