"""A complete checkpoint so small that a test makes it in a moment: real formats, random weights."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from dnagrinder.model.checkpoint import save_checkpoint
from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.training.bpe import token_strings, train_bpe

VOCABULARY = 400


def make_tiny_checkpoint(folder: Path) -> Path:
    """Write a checkpoint with two narrow layers and a vocabulary of 400; the same bytes every time. Returns the folder."""
    bases = "".join(random.Random(1).choices("ACGT", k=60_000))
    merges = train_bpe([lambda: [bases]], vocabulary=VOCABULARY)
    strings = token_strings(merges)
    pairs = [(strings[merge.left], strings[merge.right]) for merge in merges]
    config = EncoderConfig(vocabulary=len(strings), hidden=32, layers=2, heads=2, intermediate=64, tie_decoder=True)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = MaskedLanguageModel(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.5)
    card = {
        "name": "tiny",
        "description": "random weights for tests",
        "training": {"data": [], "tokens": 0, "steps": 0, "seconds": 0.0},
        "held_out": [],
        "metrics": {},
        "limits": ["untrained: its scores mean nothing"],
        "license": "Apache-2.0",
    }
    save_checkpoint(folder, model, DnaTokenizer.from_merges(strings, pairs), card)
    return folder
