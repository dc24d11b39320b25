"""One allele, one key: whatever the spelling, and only then; the fully-justified form is the key's twin."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path

import pytest
from genome.conftest import COLUMNS, HEADER, fasta_text
from genome.spellings import Spelling, applied, disguise, join, respell
from genome.test_against_bcftools import bcftools_norm

from dnagrinder.errors import InputError
from dnagrinder.genome.justification import JustifiedAllele, fully_justified
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele, normalise
from dnagrinder.genome.vcf import Accepted, VcfFile, judge_record, read_vcf

EXAMPLE = ("config/example/joint.vcf.gz", "config/example/reference.fa.gz")
SHARED = [
    ("grch37/kgp3_chr20_1-4M.phased300.vcf.gz", "grch37/chr20.fa.gz"),
    ("grch37/nist2.19_na12878_indels.on_reference.vcf.gz", "grch37/chr20.fa.gz"),
    ("grch38/clinvar_20260226.on_reference.vcf.gz", "grch38/hg38_partial.fa.gz"),
]
SPELLINGS = 4000  # of each shared file, 12,000 in all
NEIGHBOURS = 60  # bases between alleles that may be joined into one record

SMALL = {
    "vrs": "TCAGCAGCT",
    "ends": "AAAACAAAA",
    "unknown": "GNTCACACNNAT",
    **{f"r{seed}": "".join(random.Random(seed).choices("AC", k=14)) for seed in range(3)},
    "long": "G" + "CA" * 700 + "T",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceGenome]:
    """SMALL, opened."""
    path = tmp_path_factory.mktemp("small") / "small.fa"
    path.write_text(fasta_text(SMALL))
    with ReferenceGenome.open(path) as genome:
        yield genome


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("vrs:1:T:TCAG", (1, 8, "CAGCAGC", "CAGCAGCAGC")),  # the duplication that VRS's own text shows
        ("vrs:1:TCAG:T", (1, 8, "CAGCAGC", "CAGC")),
        ("vrs:3:A:G", (2, 3, "A", "G")),
        ("vrs:3:AGC:TT", (2, 5, "AGC", "TT")),
        ("vrs:3:A:AT", (3, 3, "", "T")),
        ("vrs:9:T:TA", (9, 9, "", "A")),
        ("ends:1:A:AA", (0, 4, "AAAA", "AAAAA")),
        ("ends:5:CA:C", (5, 9, "AAAA", "AAA")),
        ("ends:1:A:CA", (0, 0, "", "C")),
        ("unknown:3:T:TCA", (3, 8, "CACAC", "CACACAC")),
        ("long:1:G:GCA", (1, 1401, "CA" * 700, "CA" * 701)),
    ],
)
def test_fully_justified(small: ReferenceGenome, key: str, expected: tuple[int, int, str, str]) -> None:
    allele = Allele.from_key(key)
    assert fully_justified(small, allele) == JustifiedAllele(allele.contig, *expected)


@pytest.mark.parametrize("contig", [name for name in SMALL if name != "long"])
def test_same_key_same_justified_form_same_sequence(small: ReferenceGenome, contig: str) -> None:
    """Every change of up to four bases into up to three others, at every place: three identities, one partition."""
    bases, seen, tried = SMALL[contig], set(), 0
    others = ["".join(letters) for length in range(4) for letters in product("ACT", repeat=length)]
    for start, length in product(range(len(bases)), range(5)):
        ref = bases[start : start + length]
        if len(ref) < length or "N" in ref:
            continue
        for alt in {*others, ref * 2}:
            spelt = anchored(bases, start, ref, alt)
            if ref == alt or spelt is None or len(spelt[1]) == len(bases):
                continue
            try:
                allele = normalise(small, contig, *spelt)
            except InputError:
                assert "N" in bases
                continue
            tried += 1
            changed = applied(bases, *spelt)
            assert applied(bases, allele.start, allele.ref, allele.alt) == changed
            justified = fully_justified(small, allele)
            assert applied(bases, justified.start, justified.ref, justified.alt) == changed
            seen.add((allele.key, justified, changed))
    assert tried > 1.3 * len(seen) > 300
    for identity in zip(*seen, strict=True):
        assert len(set(identity)) == len(seen)


def anchored(bases: str, start: int, ref: str, alt: str) -> tuple[int, str, str] | None:
    """With the base before, or at the contig's first base the one behind, where an allele is empty; None if that is N."""
    if ref and alt:
        return start, ref, alt
    before, behind = bases[start - 1 : start] if start else "", bases[start + len(ref) : start + len(ref) + 1]
    if before in set("ACGT"):
        return start - 1, before + ref, before + alt
    return (start, ref + behind, alt + behind) if not before and behind in set("ACGT") else None


def real_alleles(vcf: Path, genome: ReferenceGenome) -> list[Allele]:
    """The different alleles of the file's first records, in order of place: every indel and MNV, one SNV of ten."""
    found: dict[Allele, None] = {}
    with VcfFile(vcf, ()) as file:
        held = (record for record in file.records() if genome.resolve(record.contig))
        for record in islice(held, 20_000):
            for outcome in judge_record(record, genome, 512).outcomes:
                if isinstance(outcome, Allele) and (outcome.kind != "snv" or record.ordinal % 10 == 0):
                    found[outcome] = None
    return sorted(found, key=lambda allele: (allele.contig, allele.start))


def rewritten(genome: ReferenceGenome, alleles: list[Allele], count: int, seed: int) -> list[Spelling]:
    """``count`` or a few more random spellings of ``alleles``, in records with one ALT or several."""
    draw, records, made = random.Random(seed), [], 0
    while made < count:
        place = draw.randrange(len(alleles))
        first = alleles[place]
        near = [other for other in alleles[place + 1 : place + 4] if is_near(first, other)] if draw.random() < 0.4 else []
        record = join(genome, [respell(draw, genome, allele) for allele in (first, *near)])
        assert len(record.alts) == 1 + len(near)
        records.append(disguise(draw, record))
        made += len(record.alts)
    return records


def is_near(one: Allele, other: Allele) -> bool:
    """Whether two alleles may stand in one record."""
    return one.contig == other.contig and abs(one.start - other.start) <= NEIGHBOURS


def check_spellings(vcf: Path, fasta: Path, count: int, folder: Path) -> int:
    """Respell the alleles of ``vcf``, read all spellings as one VCF, and compare every key; also with bcftools."""
    with ReferenceGenome.open(fasta) as genome:
        alleles = real_alleles(vcf, genome)
        spellings = rewritten(genome, alleles, count, seed=1)
        text = folder / "spellings.vcf"
        text.write_text(f"{HEADER}{COLUMNS}\n" + "".join(spelling.line() for spelling in spellings))
        expected = [key for spelling in spellings for key in spelling.keys]
        outcomes = list(read_vcf(text, genome))
        found = [outcome.allele.key if isinstance(outcome, Accepted) else outcome.detail for outcome in outcomes]
        assert found == expected
        assert len({(o.record.position, o.record.ref, o.record.alts) for o in outcomes}) > 0.4 * len(spellings)
        forms = {
            outcome.allele: fully_justified(genome, outcome.allele) for outcome in outcomes if isinstance(outcome, Accepted)
        }
        assert len(set(forms.values())) == len(forms) == len(set(expected))
        if shutil.which("bcftools"):
            with VcfFile(text, ()) as file:
                records = [replace(record, contig=str(genome.resolve(record.contig))) for record in file.records()]
            theirs = bcftools_norm(fasta, records)
            assert theirs == Counter((o.record.ordinal, key) for o, key in zip(outcomes, expected, strict=True))
    return len(expected)


def test_spellings_of_the_examples_alleles_have_one_key_each(repository: Path, tmp_path: Path) -> None:
    vcf, fasta = (repository / name for name in EXAMPLE)
    assert check_spellings(vcf, fasta, 2000, tmp_path) >= 2000


@pytest.mark.data
@pytest.mark.parametrize(("vcf", "fasta"), SHARED)
def test_spellings_of_real_alleles_have_one_key_each(shared_data: Path, tmp_path: Path, vcf: str, fasta: str) -> None:
    assert check_spellings(shared_data / vcf, shared_data / fasta, SPELLINGS, tmp_path) >= SPELLINGS
