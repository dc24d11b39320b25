"""Our normalisation against bcftools norm, and our reading of the real call sets against what is known of them."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from genome.conftest import COLUMNS, HEADER

from dnagrinder.errors import BuildMismatchError
from dnagrinder.genome.files import open_text
from dnagrinder.genome.records import Record
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.tables import write_variant_tables
from dnagrinder.genome.variants import Allele, Reason
from dnagrinder.genome.vcf import Accepted, Rejected, VcfFile, judge_record, read_vcf

needs_bcftools = pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is not installed")

GRCH37 = (
    "grch37/chr20.fa.gz",
    "grch37/chr22_partial.fa.gz",
    "grch37/chrX_1-70M.fa.gz",
    "grch37/partial_chr1_chr13_chr17.fa.gz",
)
HG38, MITO = "grch38/hg38_partial.fa.gz", "mito/rCRS_chrM.fa.gz"


def bcftools_norm(reference: Path, records: list[Record]) -> Counter[tuple[int, str]]:
    """(ordinal, key) of every row that bcftools makes of ``records`` after splitting and left-aligning."""
    rows = [
        f"{record.contig}\t{record.position}\t{record.ordinal}\t{record.ref}\t{','.join(record.alts) or '.'}\t.\t.\t.\n"
        for record in records
    ]
    contigs = "".join(f"##contig=<ID={name}>\n" for name in dict.fromkeys(record.contig for record in records))
    text = HEADER + contigs + COLUMNS + "\n" + "".join(rows)
    done = subprocess.run(
        ["bcftools", "norm", "-m-", "-f", str(reference), "--check-ref", "e", "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    found: Counter[tuple[int, str]] = Counter()
    for line in done.stdout.splitlines():
        if not line.startswith("#"):
            contig, position, ordinal, ref, alt = line.split("\t")[:5]
            found[int(ordinal), f"{contig}:{position}:{ref.upper()}:{alt.upper()}"] += 1
    return found


def assert_equal_to_bcftools(
    genome: ReferenceGenome, records: list[Record], window: int = 512
) -> tuple[int, Counter[Reason]]:
    """Compare every accepted allele; what bcftools has beyond them must be exactly what we rejected."""
    ours: Counter[tuple[int, str]] = Counter()
    rejected: Counter[Reason] = Counter()
    for record in records:
        for outcome in judge_record(record, genome, window).outcomes:
            if isinstance(outcome, Allele):
                ours[record.ordinal, outcome.key] += 1
            else:
                rejected[outcome.reason] += 1
    theirs = bcftools_norm(genome.path, records)
    assert not ours - theirs, list((ours - theirs).items())[:5]
    assert (theirs - ours).total() == rejected.total()
    return ours.total(), rejected


@needs_bcftools
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_changes_of_repeats(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    bases = "".join("".join(draw.choices("ACGT", k=draw.randint(1, 4))) * draw.choice([1, 2, 5, 90]) for _ in range(60))
    path = tmp_path / "repeats.fa"
    path.write_text(f">r\n{bases}\n")
    records = []
    for ordinal in range(3000):
        start = draw.choice([0, 0, 1, draw.randrange(len(bases)), len(bases) - draw.randint(1, 5)])
        ref = bases[start : start + draw.choice([1, 1, 2, 3, 8, 40])]
        alts: dict[str, None] = {}
        while not alts or draw.random() < 0.3:
            alt = draw.choice(
                [ref[:1], ref[-1:], ref * 2, ref[: len(ref) // 2], "".join(draw.choices("ACGT", k=3)), ref[1:] + "A"]
            )
            if alt and alt != ref:
                alts[alt] = None
        records.append(Record(ordinal, "r", start + 1, None, ref, tuple(alts), None, ".", ()))
    with ReferenceGenome.open(path) as genome:
        accepted, rejected = assert_equal_to_bcftools(genome, records, window=10_000)
    assert accepted > 3000
    assert not rejected


@needs_bcftools
@pytest.mark.data
@pytest.mark.parametrize(
    ("vcf", "reference", "most", "rejected"),
    [
        ("grch37/kgp3_chr20_1-4M.phased300.vcf.gz", GRCH37[0], 2000, {}),
        ("grch37/nist2.19_na12878_indels.on_reference.vcf.gz", GRCH37[0], None, {}),
        ("grch37/kgp3_chr20_1-2M.sites_af_sv.vcf.gz", GRCH37[0], None, {Reason.SYMBOLIC: 24}),
        ("grch37/giab_hg002_sv_chr20_0-1M.vcf.gz", GRCH37[0], None, {Reason.TOO_LONG: 10}),
        ("mito/chrm_mitomap_polymorphisms.vcf.gz", MITO, None, {Reason.REFERENCE_N: 1}),
        (
            "grch38/clinvar_20260226.on_reference.vcf.gz",
            HG38,
            None,
            {Reason.MISSING_ALT: 9, Reason.IUPAC: 38, Reason.TOO_LONG: 159},
        ),
    ],
)
def test_real_alleles(shared_data: Path, vcf: str, reference: str, most: int | None, rejected: dict[Reason, int]) -> None:
    with ReferenceGenome.open(shared_data / reference) as genome, VcfFile(shared_data / vcf, ()) as file:
        records = [record for record in islice(file.records(), most) if genome.resolve(record.contig)]
        accepted, found = assert_equal_to_bcftools(genome, records)
    assert accepted + sum(rejected.values()) == sum(max(1, len(record.alts)) for record in records)
    assert found == rejected


def real_pairs() -> Iterator[tuple[str, str, int | None]]:
    """Call set, reference, and how many of its REF alleles lie on held bases there (None: not stated on its own)."""
    for name, here in [
        ("giab_hg002_sv_chr20_0-1M", {0: 35}),
        ("kgp3_chr20_1-2M.sites_af_sv", {0: 28_998}),
        ("kgp3_chr20_1-4M.phased300", {0: 24_990}),
        ("hapmap_exome_chr22.22samples", {1: 729}),
        ("kgp_chr22_50.3-51.0M.5samples", {1: 6_890}),
        ("clinvar_20230710.chr1_0-1M", {3: 2_000}),
        ("kgp3_brca1.3samples", {3: 2_052}),
        ("nist2.19_na12878_indels.on_reference", {0: 4_591, 1: 1_269, 2: 1_554, 3: None}),
        ("clinvar_20170404.on_reference", dict.fromkeys(range(4))),
        ("hg00096_sv_phase3", dict.fromkeys(range(4))),
    ]:
        yield from ((f"grch37/{name}.vcf.gz", GRCH37[place], count) for place, count in here.items())
    yield "grch37/clinvar_20170404.full.vcf.gz", GRCH37[0], None
    for name in ("snv_indel", "mei", "sv_manta_cnvnator"):
        yield from ((f"clinical/trio_ceph1463.{name}.vcf.gz", reference, None) for reference in GRCH37)
    for name, count in [
        ("assembly_calls_chr20_0-1M.3samples", 3_513),
        ("clinvar_20260226.on_reference", 39_852),
        ("clinvar_20260226.panel", 39_852),
        ("gatk_sv_1kgp_chr20_chr21.5samples", 2),
    ]:
        yield f"grch38/{name}.vcf.gz", HG38, count
    for name, count in [
        ("chrm_mgrb_variants", 3_576),
        ("chrm_mitomap_confirmed_mutations", 117),
        ("chrm_mitomap_disease", 1_008),
        ("chrm_mitomap_polymorphisms", 12_541),
        ("clinvar_mtdna_blb", 1_626),
        ("clinvar_mtdna_plp", 204),
    ]:
        yield f"mito/{name}.vcf.gz", MITO, count


def without_contig_lengths(vcf: Path, folder: Path) -> Path:
    """The same call set without the lengths in its header: the held references are cut shorter than the real contigs."""
    copy = folder / "unmeasured.vcf"
    with open_text(vcf) as lines, copy.open("w", encoding="utf-8") as out:
        for line in lines:
            out.write(re.sub(r",length=\d+", "", str(line)) if str(line).startswith("##contig") else str(line))
    return copy


@pytest.mark.data
def test_every_real_call_set_is_read(shared_data: Path) -> None:
    """The one beyond the pairs has 3,202 columns and a test of its own below."""
    held = {path.relative_to(shared_data).as_posix() for path in shared_data.rglob("*.vcf.gz")}
    assert held == {vcf for vcf, _, _ in real_pairs()} | {"grch38/kgp_highcov_chr1_head.3202samples.vcf.gz"}


@pytest.mark.data
@pytest.mark.parametrize(("vcf", "reference", "count"), list(real_pairs()))
def test_nothing_is_lost_and_ref_alleles_match(
    shared_data: Path, tmp_path: Path, vcf: str, reference: str, count: int | None
) -> None:
    """As read-variants reads it: every ALT of the file's text is a row of exactly one table."""
    with ReferenceGenome.open(shared_data / reference) as genome:
        path = shared_data / vcf
        try:
            with VcfFile(path, ()) as file:
                genome.check_build(file.contigs, "header")
        except BuildMismatchError:
            path = without_contig_lengths(path, tmp_path)
        tables = {name: tmp_path / name for name in ("alleles", "ledger", "genotypes", "summary")}
        facts = write_variant_tables(path, genome, **tables, samples=())
    with open_text(path) as lines:
        alts = [line.split("\t", 5)[4].count(",") + 1 for line in lines if not line.startswith("#")]
    accepted, rejected = (pq.read_metadata(tables[name]).num_rows for name in ("alleles", "ledger"))
    assert facts["records"] == len(alts) > 0
    assert sum(alts) == facts["alleles_in"] == accepted + rejected
    assert (accepted, rejected) == (facts["accepted"], facts["rejected"])
    assert rejected == sum(facts["rejected_by_reason"].values())
    assert facts["ref_matched"] == facts["ref_checked"]
    assert Reason.REF_MISMATCH not in facts["rejected_by_reason"]
    if count is not None:
        assert facts["ref_checked"] == count


@pytest.mark.data
def test_the_real_wrong_build_is_refused(shared_data: Path, tmp_path: Path) -> None:
    vcf = shared_data / "grch38/assembly_calls_chr20_0-1M.3samples.vcf.gz"
    with ReferenceGenome.open(shared_data / GRCH37[0]) as genome:
        with pytest.raises(BuildMismatchError, match="chr20 has 64,444,167 bp there and 63,025,520 bp here"):
            read_vcf(vcf, genome)
        with pytest.raises(BuildMismatchError, match="of 3,513 REF alleles"):
            list(read_vcf(without_contig_lengths(vcf, tmp_path), genome))


@pytest.mark.data
def test_wide_file_and_the_same_bases_of_the_other_build(shared_data: Path, tmp_path: Path) -> None:
    vcf = without_contig_lengths(shared_data / "grch38/kgp_highcov_chr1_head.3202samples.vcf.gz", tmp_path)
    with ReferenceGenome.open(shared_data / GRCH37[3]) as genome:
        outcomes = list(read_vcf(vcf, genome, samples=None))
    kinds = Counter(outcome.allele.kind for outcome in outcomes if isinstance(outcome, Accepted))
    refused = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, Rejected))
    assert len(outcomes) == 889
    assert set(refused) <= {Reason.TOO_LONG}
    assert kinds["snv"] == 776
    assert {len(outcome.record.genotypes) for outcome in outcomes} == {3202}


@needs_bcftools
def test_the_synthetic_genome_is_normalised_alike(genome: ReferenceGenome, write_vcf: Callable[..., Path]) -> None:
    """The hand-written expectations of test_variants, asked of bcftools."""
    sites = [
        (0, "CA", "A"), (0, "C", "CC"), (6, "CA", "C"), (5, "ACA", "A"), (0, "C", "GC"), (0, "CACA", "CA"),
        (0, "CACA", "TACG"), (1, "ACA", "ATA"), (7, "ATT", "ATTT"), (0, "CACACACATT", "T"), (0, "CACACACA", "CA"),
        (0, "CA", "TACA"), (1, "ACAC", "ATGC"), (8, "TTG", "GTTG"), (56, "C", "CC"), (56, "C", "CA"), (3, "a", "g"),
    ]  # fmt: skip
    lines = [f"c1 {start + 1} . {ref} {alt} . . ." for start, ref, alt in sites]
    with VcfFile(write_vcf(*lines)) as file:
        accepted, rejected = assert_equal_to_bcftools(genome, list(file.records()))
    assert (accepted, rejected.total()) == (len(sites), 0)
