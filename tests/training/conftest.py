"""A small genome with held-out parts, a tokenizer and a run file."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pytest
import yaml

from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.training.bpe import token_strings, train_bpe
from dnagrinder.training.corpus.build import build_corpus
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.corpus.sources import Source

HELD_OUT = "AAAAAAAAAAAAAAAAAAAAAAAAA"  # 25 A: planted in what must never be seen


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with human/genome.fa: a repetitive contig ``1`` of 120,000 bases."""
    folder = tmp_path_factory.mktemp("data") / "human"
    folder.mkdir()
    rng = random.Random(2)
    motif = "".join(rng.choices("ACGT", k=300))
    bases = [*(("".join(rng.choices("ACGT", k=100)) + motif) for _ in range(300))]
    text = "".join(bases)
    text = text[:50_000] + HELD_OUT * 40 + text[51_000:110_000] + HELD_OUT * 400
    (folder / "genome.fa").write_text(f">1\n{text}\n")
    pysam.faidx(str(folder / "genome.fa"))
    return folder.parent


@pytest.fixture(scope="session")
def tokenizer(data: Path) -> DnaTokenizer:
    """A tokenizer of 200 ids trained on the genome."""
    sequence = (data / "human" / "genome.fa").read_text().split("\n")[1][:40_000]
    merges = train_bpe([lambda: [sequence]], 200)
    strings = token_strings(merges)
    return DnaTokenizer.from_merges(strings, [(strings[m.left], strings[m.right]) for m in merges])


@pytest.fixture(scope="session")
def source(data: Path) -> Source:
    """The genome as a source, with two held-out parts."""
    return Source(data / "human" / "genome.fa", 1.0, ("1:50000-51000",), 0.1)


@pytest.fixture(scope="session")
def corpus(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """The genome as a corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    build_corpus([source], folder)
    return Corpus(folder)


@pytest.fixture
def run_document() -> dict:
    """Content of a run file over the small genome."""
    return {
        "name": "toy",
        "description": "a toy",
        "corpus": {
            "held_out_tail": 0.1,
            "sources": [{"path": "human/genome.fa", "held_out": ["1:50000-51000"]}],
        },
        "tokenizer": {"vocabulary": 64, "splits": 2, "bases_per_split": 40000},
        "architecture": "mini",
        "recipe": {
            "steps": 4,
            "tokens_per_step": 128,
            "curriculum": {"slw": "truncate_schedule", "max_tokens": 64, "schedule": [[0.0, 32], [0.5, 64]]},
            "warmup_steps": 2,
        },
        "masking": {"natural_rate": 0.15, "span_spacing": 30},
        "evaluation": {
            "tracks": [{"name": "toy", "fasta": "human/genome.fa", "intervals": ["1:108000-112000"]}],
            "lengths": [64, 128, 1024],
            "reference_length": 128,
        },
        "limits": ["a toy"],
    }


@pytest.fixture
def run_file(tmp_path: Path, run_document: dict) -> Path:
    """The run file on disk."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_document))
    return path
