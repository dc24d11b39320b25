"""Haplotypes against bcftools consensus, and the real phased call sets against what is known of them."""

from __future__ import annotations

import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from genome.conftest import fasta_text
from genome.test_against_bcftools import needs_bcftools
from genome.test_haplotypes import HEADER, indexed

from dnagrinder.genome.edits import Edit, EditReason, apply_edits
from dnagrinder.genome.files import open_text
from dnagrinder.genome.haplotypes import PhasedRegion, read_region
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Reason
from dnagrinder.genome.vcf import VcfFile

UNPHASED = re.compile(r"\t(\d+|\.)/(\d+|\.)(?=[:\t\n])")


def consensus(folder: Path, vcf: Path, region: str, bases: str, sample: str, side: int) -> tuple[str, int]:
    """What bcftools makes of ``bases``, which are ``region`` (samtools' form), and how many overlaps it left out."""
    fasta = folder / "slice.fa"
    fasta.write_text(fasta_text({region: bases}))
    done = subprocess.run(
        ["bcftools", "consensus", "-s", sample, "-H", str(side + 1), "-f", str(fasta), str(vcf)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    return "".join(done.stdout.splitlines()[1:]), done.stderr.count("overlaps with another variant")


def assert_as_bcftools(region: PhasedRegion, vcf: Path, bases: str, start: int, folder: Path) -> int:
    """Compare every haplotype of the window that ``bases`` are, letter case included; overlaps left out."""
    name = f"{region.contig}:{start + 1}-{start + len(bases)}"
    window = region.window(start, start + len(bases))
    overlaps = 0
    for haplotype in window.haplotypes:
        ours = apply_edits(bases, start, haplotype.edits).bases
        for sample, side in haplotype.carriers.tolist():
            theirs, left_out = consensus(folder, vcf, name, bases, region.samples[sample], side)
            assert ours == theirs
            overlaps += left_out
    assert window.reasons[EditReason.OVERLAP] == overlaps
    return overlaps


def rewritten(vcf: Path, folder: Path, change: Callable[[str], str | None]) -> Path:
    """An indexed copy with every data line changed (None: left out)."""
    copy = folder / "rewritten.vcf"
    with open_text(vcf) as lines, copy.open("w", encoding="utf-8") as out:
        for line in map(str, lines):
            kept = line if line.startswith("#") else change(line)
            out.write(kept or "")
    return indexed(copy)


def without_unphased(line: str) -> str:
    """Heterozygous genotypes without phase made missing: bcftools takes them as if they were phased."""
    return UNPHASED.sub(lambda found: found[0] if found[1] == found[2] else "\t./.", line)


@needs_bcftools
@pytest.mark.parametrize("seed", range(4))
def test_random_records_on_whole_contigs_and_windows(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    bases = "".join(draw.choices("ACGT", k=3000))
    (tmp_path / "r.fa").write_text(fasta_text({"r": bases}))
    lines, crossed = [], set()
    for position in sorted(draw.sample(range(2, 2900), 700)):  # 1-based POS
        for kind in sorted(draw.sample(range(5), draw.choice([1, 1, 1, 2, 3]))):  # at one POS in the order we apply them
            anchor, info, end = bases[position - 1], ".", position + draw.choice([1, 1, 2, 5, 20])
            ref, alts = anchor, draw.sample([base for base in "ACGT" if base != anchor], 2)
            genotypes = "\t".join(draw.choices(["0|0", "1|0", "0|1", "1|1", ".|1", "./."], [6, 3, 3, 1, 1, 1], k=2))
            if kind == 0:
                genotypes = genotypes.replace("0|1", "2|1")
            elif kind == 1:
                end = position + 1
                ref, alts = bases[position - 1 : end], [alts[0] + {"A": "C", "C": "G", "G": "T", "T": "A"}[bases[position]]]
            elif kind == 2:
                alts = [anchor + "".join(draw.choices("ACGT", k=draw.randint(1, 6)))]
            elif kind == 3:
                ref, alts = bases[position - 1 : end], [anchor]
            else:
                alts, info = ["<DEL>"], f"END={end}"
            crossed |= set(range(position, end)) if kind in (1, 3, 4) else set()
            lines.append(f"r\t{position}\t.\t{ref}\t{','.join(alts)}\t.\t.\t{info}\tGT\t{genotypes}\n")
    plain = tmp_path / "random.vcf"
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n"
    plain.write_text("##fileformat=VCFv4.2\n" + HEADER + columns + "".join(lines))
    vcf = indexed(plain)
    with ReferenceGenome.open(tmp_path / "r.fa") as genome, VcfFile(vcf) as file:
        region = read_region(file, genome, "r", 0, len(bases))
    overlaps = assert_as_bcftools(region, vcf, bases, 0, tmp_path)
    assert overlaps > 20
    edges = [place for place in range(len(bases)) if place not in crossed]
    for _ in range(4):
        start, end = sorted(draw.sample(edges, 2))
        assert_as_bcftools(region, vcf, bases[start:end], start, tmp_path)


@needs_bcftools
@pytest.mark.data
def test_real_snvs_and_indels(shared_data: Path, tmp_path: Path) -> None:
    vcf = shared_data / "grch37/kgp3_chr20_1-4M.phased300.vcf.gz"
    start, end = 1_000_000, 2_500_000
    with ReferenceGenome.open(shared_data / "grch37/chr20.fa.gz") as genome, VcfFile(vcf, ("HG00096", "HG00103")) as file:
        genome.check_build(file.contigs, "header")
        region = read_region(file, genome, "20", start, end)
        bases = genome.fetch_masked("20", start, end)
    assert_as_bcftools(region, vcf, bases, start, tmp_path)
    whole = region.window(start, end)
    assert set(whole.reasons) <= {EditReason.OVERLAP}
    for haplotype in whole.haplotypes:  # windows side by side join to the whole
        (carrier,) = haplotype.carriers.tolist()
        joined = []
        for left in range(start, end, 12_000):
            own = next(h for h in region.window(left, left + 12_000).haplotypes if carrier in h.carriers.tolist())
            joined.append(apply_edits(bases[left - start : left - start + 12_000], left, own.edits).bases)
        assert "".join(joined) == apply_edits(bases, start, haplotype.edits).bases


@pytest.mark.data
def test_a_real_panel_gives_each_haplotype_once(shared_data: Path) -> None:
    start, end = 1_000_000, 1_250_000
    with (
        ReferenceGenome.open(shared_data / "grch37/chr20.fa.gz") as genome,
        VcfFile(shared_data / "grch37/kgp3_chr20_1-4M.phased300.vcf.gz") as file,
    ):
        region = read_region(file, genome, "20", start, end)
        records = {record.position: record for record in file.fetch("20", start, end)}
    for left in range(start, end - 12_200, 24_000):
        window = region.window(left, left + 12_200)
        assert sum(haplotype.copies for haplotype in window.haplotypes) == 600
        assert 10 < len(window.haplotypes) < 300
        edits = Counter[int]()
        for haplotype in window.haplotypes:
            for edit in haplotype.edits:
                if len(edit.replacement) == edit.end - edit.start == 1:
                    edits[edit.start + 1] += haplotype.copies
        for position, copies in edits.items():
            info = re.search(r"(?:^|;)AC=(\d+)(?:;|$)", records[position].info)
            assert info is None or copies <= int(info[1])
            assert copies == sum(text.count("1") for text in records[position].genotypes)


@needs_bcftools
@pytest.mark.data
@pytest.mark.parametrize(
    ("vcf", "reference", "contig", "unphased", "longest"),
    [
        ("grch38/assembly_calls_chr20_0-1M.3samples.vcf.gz", "grch38/hg38_partial.fa.gz", "chr20", 51, 500),
        ("grch37/giab_hg002_sv_chr20_0-1M.vcf.gz", "grch37/chr20.fa.gz", "20", 17, 1000),
    ],
)
def test_real_sequence_resolved_insertions(
    shared_data: Path, tmp_path: Path, vcf: str, reference: str, contig: str, unphased: int, longest: int
) -> None:
    copy = rewritten(shared_data / vcf, tmp_path, without_unphased)
    with ReferenceGenome.open(shared_data / reference) as genome:
        with VcfFile(shared_data / vcf) as file:
            before = read_region(file, genome, contig, 0, 1_000_000)
        with VcfFile(copy) as file:
            region = read_region(file, genome, contig, 0, 1_000_000)
        bases = genome.fetch_masked(contig, 0, 1_000_000)
    assert before.window(0, 1_000_000).reasons[EditReason.UNPHASED] == unphased
    window = region.window(0, 1_000_000)
    assert [h.edits for h in before.window(0, 1_000_000).haplotypes] == [h.edits for h in window.haplotypes]
    assert max(len(edit.replacement) for haplotype in window.haplotypes for edit in haplotype.edits) > longest
    assert set(window.reasons) <= {EditReason.OVERLAP}
    assert_as_bcftools(region, copy, bases, 0, tmp_path)


@needs_bcftools
@pytest.mark.data
def test_real_symbolic_deletions(shared_data: Path, tmp_path: Path) -> None:
    """<CN0> told to bcftools as <DEL>; the other symbolic alleles of HG00096 on chr20 left out of its copy."""

    def as_deletion(line: str) -> str | None:
        fields = line.split("\t")
        carried = {fields[4].split(",")[int(number) - 1] for number in re.findall("[1-9]", fields[9])}
        if fields[0] != "20" or any(alt.startswith("<") and alt != "<CN0>" for alt in carried):
            return None
        return line.replace("<CN0>", "<DEL>")

    copy = rewritten(shared_data / "grch37/hg00096_sv_phase3.vcf.gz", tmp_path, as_deletion)
    with ReferenceGenome.open(shared_data / "grch37/chr20.fa.gz") as genome, VcfFile(copy) as file:
        length = genome.length("20")
        region = read_region(file, genome, "20", 0, length)
        bases = genome.fetch_masked("20", 0, length)
    assert sum(allele.alt == "<DEL>" for allele in region.alleles) > 10
    assert_as_bcftools(region, copy, bases, 0, tmp_path)


@pytest.mark.data
@pytest.mark.parametrize(("reference", "contig", "deletions"), [("chr20", "20", 19), ("chr22_partial", "22", 5)])
def test_real_copy_numbers(shared_data: Path, reference: str, contig: str, deletions: int) -> None:
    """Against the file's own END and GT, read here in another way; the base at POS is N where chr22 is not held."""
    vcf = shared_data / "grch37/hg00096_sv_phase3.vcf.gz"
    with open_text(vcf) as text:
        lines = [fields for line in map(str, text) if (fields := line.rstrip("\n").split("\t"))[0] == contig]
    with ReferenceGenome.open(shared_data / f"grch37/{reference}.fa.gz") as genome, VcfFile(vcf) as file:
        region = read_region(file, genome, contig, 0, genome.length(contig))
        held = {fields[1] for fields in lines if genome.fetch(contig, int(fields[1]) - 1, int(fields[1])) == fields[3][:1]}
    expected: Counter[tuple[str, str, str]] = Counter()
    for _, position, _, _, alts, _, _, info, _, genotype in lines:
        for number in re.findall("[1-9]", genotype):
            alt, end = alts.split(",")[int(number) - 1], re.search(r"(?:^|;)END=(\d+)", info)
            if alt.startswith("<CN") and end:
                expected[alt if position in held else "not held", position, end[1]] += 1
    found: Counter[tuple[str, str, str]] = Counter()
    for allele in region.alleles:
        copies = int((region.genotypes[allele.record] == allele.number).sum())
        if isinstance(allele.effect, Edit):
            if allele.alt.startswith("<"):
                edit, copy_number = allele.effect, int(allele.alt[3:-1])
                assert edit.start == allele.position
                end_of_event = edit.end if copy_number == 0 else edit.start + len(edit.replacement) // (copy_number - 1)
                found[allele.alt, str(allele.position), str(end_of_event)] += copies
        else:
            assert allele.effect.reason is (Reason.SYMBOLIC if allele.alt.startswith("<INS") else Reason.REFERENCE_N)
    assert found == Counter({key: copies for key, copies in expected.items() if key[0] != "not held"})
    assert Counter(alt for alt, _, _ in found) == {"<CN0>": deletions}


@pytest.mark.data
def test_a_mans_x_is_one_haplotype_outside_the_pseudoautosomal_regions(shared_data: Path) -> None:
    with (
        ReferenceGenome.open(shared_data / "grch37/chrX_1-70M.fa.gz") as genome,
        VcfFile(shared_data / "grch37/hg00096_sv_phase3.vcf.gz") as file,
    ):
        region = read_region(file, genome, "X", 0, 60_000_000)
    (haplotype,) = region.window(3_000_000, 60_000_000).haplotypes
    assert haplotype.carriers.tolist() == [[0, 0]]
    assert len(haplotype.edits) > 20
    assert sum(own.copies for own in region.window(0, 2_600_000).haplotypes) == 2
