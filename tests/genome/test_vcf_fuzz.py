"""Damaged input: only our own errors come out, and where reading ends well every allele of the text was judged.

Real lines (1000 Genomes, from the embedded example) and lines of all other kinds of records at the same places are
changed at random. DNAGRINDER_FUZZ sets how many files are made; each is named by its seed in a failure's message.
"""

from __future__ import annotations

import gzip
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from genome.mutations import mutated

from dnagrinder.errors import DnaGrinderError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.tables import write_variant_tables
from dnagrinder.genome.vcf import VcfFile, judge_record

FILES = int(os.environ.get("DNAGRINDER_FUZZ", "20000"))
PARTS = 4
TABLES_OF_EVERY = 20
OTHER_RECORDS = (
    "20\t1000226\t.\tA\tT,*,<DEL>,<NON_REF>,A[20:1000300[\t50\tPASS;q10\tAC=1,2;END=1000300\tGT:DP:PS\t0|1:3:7\t./.\t2/3:.\n"
    "chr20\t1000226\trs1;rs2\ta\t.\t.\t.\t.\tGT\t0/0\t.\t.\n"
    "20\t1018638\t.\tC\tCA,CAA,<INS:ME:ALU>\t9e1\tq10\tAF=0.5,1e-3,.;CSQ=A|missense_variant|G|\tGT\t1\t1|2\t3/3\n"
    "20\t1020991\t.\tGTAAA\tG,GTAAAN\t.\t.\tGENE=PSMF1\tDP\t3\t4\t.\n"
)


@pytest.fixture(scope="module")
def genome(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceGenome]:
    """The example's reference: 150 kb of human chromosome 20."""
    with ReferenceGenome.open(repository / "config/example/reference.fa.gz") as opened:
        yield opened


@pytest.fixture(scope="module")
def snippets(repository: Path) -> list[bytes]:
    """Small whole VCFs: with three samples, with records of all kinds, and without samples."""
    lines = gzip.decompress((repository / "config/example/joint.vcf.gz").read_bytes()).decode().splitlines(keepends=True)
    header = "".join(line for line in lines if line.startswith("#"))
    real = [line for line in lines if not line.startswith("#")]
    sites = "".join("\t".join(line.split("\t")[:8]) + "\n" for line in real[34:44])
    bare = header.replace("\tFORMAT\tHG00171\tHG01500\tNA06984", "")
    assert bare != header
    return [text.encode() for text in (header + "".join(real[32:44]), header + OTHER_RECORDS + real[38], bare + sites)]


def alleles_in(text: bytes) -> list[int]:
    """Alleles of each data line, counted in the text: commas in ALT and one. Every line is whole and free of NUL."""
    lines = text.removesuffix(b"\n").split(b"\n")
    first = next(number for number, line in enumerate(lines, start=1) if line.startswith(b"#CHROM"))
    columns = lines[first - 1].count(b"\t") + 1
    for line in lines[first:]:
        assert b"\0" not in line
        assert line.count(b"\t") + 1 in ((8, 9) if columns <= 9 else (columns,))
    return [line.split(b"\t")[4].count(b",") + 1 for line in lines[first:]]


def read(path: Path, genome: ReferenceGenome) -> list[int]:
    """Outcomes of each record."""
    with VcfFile(path, None) as vcf:
        genome.check_build(vcf.contigs, f"VCF {path}")
        return [len(judge_record(record, genome, 512).outcomes) for record in vcf.records()]


def write_tables(path: Path, genome: ReferenceGenome, folder: Path) -> int:
    """The alleles that the tables account for."""
    names = {name: folder / name for name in ("alleles", "ledger", "genotypes", "summary")}
    facts = write_variant_tables(path, genome, **names)
    return int(facts["accepted"] + facts["rejected"])


@pytest.mark.parametrize("part", range(PARTS))
def test_damaged_files(part: int, genome: ReferenceGenome, snippets: list[bytes], tmp_path: Path) -> None:
    path, ended = tmp_path / "damaged.vcf", Counter[str]()
    named = 0
    for number in range(part, FILES, PARTS):
        draw = random.Random(number)
        text = mutated(draw, draw.choice(snippets))
        path.write_bytes(text)
        try:
            outcomes = read(path, genome)
            assert outcomes == alleles_in(text), f"seed {number}: an allele was lost"
            ended["read"] += 1
            if number // PARTS % TABLES_OF_EVERY == 0:
                assert write_tables(path, genome, tmp_path) == sum(outcomes), f"seed {number}"
                ended["tables"] += 1
        except DnaGrinderError as error:
            named += "damaged.vcf" in str(error)
            ended[type(error).__name__] += 1
        except Exception as error:
            raise AssertionError(f"seed {number}: {error!r}") from error
    assert named == ended["InputError"] + ended["BuildMismatchError"], "an error does not name the file"
    assert ended["read"] > 0.15 * FILES / PARTS, ended
    assert ended["InputError"] > 0.15 * FILES / PARTS, ended
    assert ended["tables"] > 0, ended
