"""A small reference, a tiny checkpoint and engines for the scoring room's tests."""

from __future__ import annotations

import random
from pathlib import Path

import pysam
import pytest
import torch

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.checkpoint import Checkpoint, open_checkpoint
from dnagrinder.scoring.packing import Engine
from tests.tiny_checkpoint import make_tiny_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint with random weights."""
    return open_checkpoint(make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny"))


@pytest.fixture(scope="session")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Contig ``1`` of 3,000 random bases (100 N at 2,000) and contig ``2`` of 40 bases."""
    bases = "".join(random.Random(3).choices("ACGT", k=3000))
    bases = bases[:2000] + "N" * 100 + bases[2100:]
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(f">1\n{bases}\n>2\n{bases[:40]}\n")
    return path


@pytest.fixture
def reference(fasta: Path):
    """The opened reference."""
    with ReferenceGenome.open(fasta) as genome:
        yield genome


@pytest.fixture
def engine(checkpoint: Checkpoint) -> Engine:
    """The tiny model on the CPU."""
    device = torch.device("cpu")
    return Engine(checkpoint.load_model(device), device)


@pytest.fixture
def few(repository: Path, tmp_path: Path) -> Path:
    """Some records of the example, with haplotypes among them, as a VCF."""
    path = tmp_path / "few.vcf"
    with (
        pysam.VariantFile(str(repository / "config" / "example" / "joint.vcf.gz")) as source,
        pysam.VariantFile(str(path), "w", header=source.header) as records,
    ):
        for record in source.fetch("20", 1_002_600, 1_010_000):
            records.write(record)
    return path
