"""A small genome with repeats, known variants and what may be trained on; and one evaluation of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pysam
import pytest
import torch

from dnagrinder.evaluation import baselines
from dnagrinder.evaluation.checkpoint import evaluate_checkpoint
from dnagrinder.evaluation.sites import TrainingStretch
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.checkpoint import Checkpoint, open_checkpoint
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.training.evaluation_plan import EvaluationPlan, Track, ZeroShot
from tests.tiny_checkpoint import make_tiny_checkpoint

TRAINED, LENGTH = 60_000, 80_000  # contig 1 is held out from TRAINED on
REPEAT = (66_000, 70_000)
VARIANT_SPACING = 40


@pytest.fixture(scope="session", autouse=True)
def short_words() -> Iterator[None]:
    """Two-sided contexts of 3 + 3 bases: the table of 13-base words takes seconds, whatever the size of the genome."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "TWO_SIDED", 3)
        yield


@pytest.fixture(scope="session")
def sequence() -> str:
    """Contig 1, upper case, with a gap of N in the held-out part."""
    text = "".join(random.Random(5).choices("ACGT", weights=(3, 2, 2, 3), k=LENGTH))
    return text[:75_000] + "N" * 200 + text[75_200:]


@pytest.fixture(scope="session")
def fasta(tmp_path_factory: pytest.TempPathFactory, sequence: str) -> Path:
    """The genome, soft-masked within REPEAT."""
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    first, last = REPEAT
    path.write_text(f">1\n{sequence[:first]}{sequence[first:last].lower()}{sequence[last:]}\n")
    pysam.faidx(str(path))
    return path


@pytest.fixture(scope="session")
def vcf(fasta: Path, sequence: str) -> Path:
    """A variant every 40 bases: common and rare SNVs, a deletion, a site with two ALTs, a symbolic one."""
    path = fasta.parent / "sites.vcf"
    header = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID=1,length={LENGTH}>",
        '##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">',
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    lines = []
    for number, start in enumerate(range(TRAINED + 300, 74_000, VARIANT_SPACING)):
        ref = sequence[start]
        alt = "ACGT"[("ACGT".index(ref) + 1 + number % 3) % 4]
        kind = number % 6
        if kind == 3:
            lines.append(f"1\t{start + 1}\t.\t{sequence[start : start + 4]}\t{ref}\t.\t.\tAF=0.5")
        elif kind == 4:
            lines.append(f"1\t{start + 1}\t.\t{ref}\t{','.join(b for b in 'ACGT' if b != ref)}\t.\t.\tAF=0.2,0.2,0.2")
        elif kind == 5:
            lines.append(f"1\t{start + 1}\t.\t{ref}\t<DEL>\t.\t.\tAF=0.5")
        else:
            lines.append(f"1\t{start + 1}\t.\t{ref}\t{alt}\t.\t.\tAF={0.001 if kind == 2 else 0.3}")
    path.write_text("\n".join([*header, *lines]) + "\n")
    return path


@pytest.fixture
def reference(fasta: Path) -> Iterator[ReferenceGenome]:
    """The opened genome."""
    with ReferenceGenome.open(fasta) as genome:
        yield genome


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A checkpoint with random weights."""
    return open_checkpoint(make_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny"))


@pytest.fixture(scope="session")
def engine(checkpoint: Checkpoint) -> Engine:
    """The tiny model on the CPU."""
    device = torch.device("cpu")
    return Engine(checkpoint.load_model(device), device)


@pytest.fixture(scope="session")
def plan(fasta: Path, vcf: Path) -> EvaluationPlan:
    """Two tracks, of which one knows its repeats, and the variants."""
    return EvaluationPlan(
        tracks=(
            Track("plain", fasta, (f"1:72000-{LENGTH}",)),
            Track("<masked>", fasta, (f"1:{TRAINED}-72000",), repeats=fasta),
        ),
        bases=60,
        lengths=(64, 128, 512, 2000),
        reference_length=512,
        zero_shot=ZeroShot(fasta, vcf, f"1:{TRAINED}-74000"),
    )


@pytest.fixture(scope="session")
def training(sequence: str) -> list[TrainingStretch]:
    """What may be trained on, in two stretches."""
    bases = np.frombuffer(sequence[:TRAINED].encode(), dtype=np.uint8)
    return [TrainingStretch("1", 0, bases[:30_000]), TrainingStretch("1", 30_000, bases[30_000:])]


@pytest.fixture(scope="session")
def metrics(checkpoint: Checkpoint, plan: EvaluationPlan, training: list[TrainingStretch]) -> dict[str, Any]:
    """One whole evaluation."""
    device = torch.device("cpu")
    return evaluate_checkpoint(checkpoint, plan, training, ScoringParameters(), device)
