"""Small genomes and call sets written on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dnagrinder.genome.reference import ReferenceGenome

HEADER = "##fileformat=VCFv4.2\n"
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"

#: c1 starts with a repeat and ends with one, c2 is one long repeat, chrM has a short N run, n is mostly unknown.
SEQUENCES = {
    "c1": "CACACACATTGGGACGTTTACCGATGCAAATTTGGCCCAGTCAGTACGTACGTACCC",
    "c2": "A" * 700 + "CG" + "T" * 600,
    "chrM": "GATCACAGGTNNCTATCACCCTATTAACCACTCACGGGAGCTCTCCATGCATTTG",
    "n": "N" * 80 + "ACGTTGCAACTGACTGATCG" + "N" * 80,
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the per-user cache inside the test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def fasta_text(sequences: dict[str, str], width: int = 60) -> str:
    """FASTA of ``sequences`` with lines of ``width`` bases."""
    lines = []
    for name, bases in sequences.items():
        lines += [f">{name}", *(bases[start : start + width] for start in range(0, len(bases), width))]
    return "\n".join(lines) + "\n"


@pytest.fixture
def small_fasta(tmp_path: Path) -> Path:
    """Plain FASTA of SEQUENCES."""
    path = tmp_path / "small.fa"
    path.write_text(fasta_text(SEQUENCES))
    return path


@pytest.fixture
def genome(small_fasta: Path) -> Iterator[ReferenceGenome]:
    """SEQUENCES, opened."""
    with ReferenceGenome.open(small_fasta) as opened:
        yield opened


@pytest.fixture
def write_vcf(tmp_path: Path) -> Callable[..., Path]:
    """Writes a VCF of the given data lines (fields separated by blanks), header lines and samples."""

    def write(
        *lines: str,
        header: str = "",
        samples: tuple[str, ...] = (),
        name: str = "calls.vcf",
        line_end: str = "\n",
        version: str = "4.2",
    ) -> Path:
        columns = COLUMNS + ("\tFORMAT\t" + "\t".join(samples) if samples else "")
        data = "".join("\t".join(line.split()) + "\n" for line in lines)
        text = HEADER.replace("4.2", version) + header + columns + "\n" + data
        path = tmp_path / name
        path.write_bytes(text.replace("\n", line_end).encode())
        return path

    return write
