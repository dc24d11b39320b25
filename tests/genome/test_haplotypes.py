"""Who carries which ALT, the distinct haplotypes of a window, and what is not applied."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest
from genome.conftest import fasta_text

from dnagrinder.errors import InputError
from dnagrinder.genome.edits import Edit, EditReason, apply_edits
from dnagrinder.genome.haplotypes import PhasedRegion, WindowHaplotypes, read_region
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Reason
from dnagrinder.genome.vcf import VcfFile

WriteVcf = Callable[..., Path]
HEADER = (
    "".join(f"##contig=<ID={name}>\n" for name in ("c1", "c2", "MT", "r"))
    + '##INFO=<ID=END,Number=1,Type=Integer,Description="">\n'
    + "".join(
        f'##FORMAT=<ID={name},Number=1,Type={kind},Description="">\n'
        for name, kind in (("GT", "String"), ("PS", "Integer"), ("DP", "Integer"))
    )
)


@pytest.fixture
def region(write_vcf: WriteVcf, genome: ReferenceGenome) -> Callable[..., PhasedRegion]:
    """Reads the given data lines of c1 (the contig is left out, samples are a, b, ... by the number of columns)."""

    def read(*lines: str, contig: str = "c1", wanted: tuple[str, ...] | None = None, end: int = 57) -> PhasedRegion:
        columns, full = len(lines[0].split()) - 8, [f"c1 {line}" for line in lines]
        path = indexed(write_vcf(*full, header=HEADER, samples=tuple("abcdef"[:columns]), version="4.4"))
        with VcfFile(path, wanted) as vcf:
            return read_region(vcf, genome, contig, 0, end)

    return read


def indexed(vcf: Path) -> Path:
    """A bgzip copy with a tabix index."""
    packed = vcf.with_name(f"{vcf.name}.gz")
    pysam.tabix_compress(str(vcf), str(packed), force=True)
    verbosity = pysam.set_verbosity(0)
    pysam.tabix_index(str(packed), preset="vcf", force=True)
    pysam.set_verbosity(verbosity)
    return packed


def told(window: WindowHaplotypes) -> list[tuple[list[tuple[int, int, str]], list[list[int]]]]:
    """(edits, carriers) of every haplotype."""
    return [
        ([(edit.start, edit.end, edit.replacement) for edit in haplotype.edits], haplotype.carriers.tolist())
        for haplotype in window.haplotypes
    ]


#        0         1         2         3         4         5
#        0123456789012345678901234567890123456789012345678901234567890
# c1 is  CACACACATTGGGACGTTTACCGATGCAAATTTGGCCCAGTCAGTACGTACGTACCC


def test_equal_haplotypes_come_once(region: Callable[..., PhasedRegion]) -> None:
    window = region(
        "9 . T C,G . . . GT 1|0 1|1 0|1 2|.",
        "12 . GG G . . . GT:DP 0|1:4 0|0:4 1|0:. .|.:9",
        wanted=("d", "c", "b", "a"),
    ).window(0, 57)
    assert told(window) == [
        ([(8, 9, "C")], [[0, 0], [1, 0], [1, 1], [2, 1]]),  # the samples come in the file's order
        ([(12, 13, "")], [[0, 1], [2, 0]]),
        ([(8, 9, "G")], [[3, 0]]),
        ([], [[3, 1]]),
    ]
    assert [haplotype.copies for haplotype in window.haplotypes] == [4, 2, 1, 1]
    assert not window.skipped


def test_only_samples_asked_for(region: Callable[..., PhasedRegion]) -> None:
    read = region("9 . T C . . . GT 1|0 1|1 0|1", "12 . G A . . . GT 0|1 0|0 0|0", wanted=("b",))
    assert read.samples == ("b",)
    assert [allele.alt for allele in read.alleles] == ["C"]
    assert told(read.window(0, 57)) == [([(8, 9, "C")], [[0, 0], [0, 1]])]


@pytest.mark.parametrize(
    ("genotype", "haplotypes", "unphased"),
    [
        ("0|1", [[], ["G"]], 0),
        ("1/1", [["G"]], 0),
        ("2/2", [["A"]], 0),
        ("1|2", [["G"], ["A"]], 0),
        ("0/1", [[]], 1),
        ("1/2", [[]], 2),
        ("./1", [[]], 1),
        (".|1", [[], ["G"]], 0),
        ("./.", [[]], 0),
        (".", [[]], 0),
        ("0", [[]], 0),
        ("1", [["G"]], 0),
        ("|0|1", [[], ["G"]], 0),  # VCF 4.4: phase in front
        ("/0|1", [[]], 1),
        ("|0/1", [[]], 1),
        ("/1|2", [[]], 2),
        ("/.|1", [[]], 1),
        ("/1|1", [["G"]], 0),
        ("|1/1", [["G"]], 0),
        ("/1", [["G"]], 0),
        ("|1", [["G"]], 0),
    ],
)
def test_genotypes(region: Callable[..., PhasedRegion], genotype: str, haplotypes: list[list[str]], unphased: int) -> None:
    window = region(f"9 . T G,A . . . GT {genotype}").window(0, 57)
    assert [[edit.replacement for edit in haplotype.edits] for haplotype in window.haplotypes] == haplotypes
    assert window.reasons == Counter({EditReason.UNPHASED: unphased} if unphased else {})
    haploid = genotype in ("0", "1", "/1", "|1")
    assert sum(haplotype.copies for haplotype in window.haplotypes) == (1 if haploid else 2)


def test_one_haplotype_where_all_calls_are_haploid(region: Callable[..., PhasedRegion]) -> None:
    read = region("9 . T G . . . GT 1 1", "12 . G A . . . GT . 0", "30 . A G . . . GT 0|1 1")
    assert told(read.window(0, 20)) == [([(8, 9, "G")], [[0, 0], [1, 0]])]
    assert told(read.window(8, 9)) == told(read.window(0, 20))
    assert told(read.window(0, 8)) == [([], [[0, 0], [0, 1], [1, 0], [1, 1]])]  # no call, nothing known
    assert told(read.window(0, 57)) == [
        ([(8, 9, "G")], [[0, 0]]),
        ([(29, 30, "G")], [[0, 1]]),
        ([(8, 9, "G"), (29, 30, "G")], [[1, 0]]),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("9 . T G . . . GT 0/0/1", "c1:9: genotype 0/0/1 has 3 alleles"),
        ("9 . T G . . . GT 0|2", "c1:9: a genotype names ALT 2, the record has 1"),
    ],
)
def test_genotypes_that_cannot_be_read(region: Callable[..., PhasedRegion], line: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        region(line)


def test_what_is_carried_and_not_applied(region: Callable[..., PhasedRegion]) -> None:
    read = region(
        "3 . C <INS:ME:ALU>,G . . . GT 1|2 0|1",
        "8 . A <DEL> . . END=4 GT 0|1 0|0",
        "9 . G C . . . GT 1|1 0|0",
        "12 . G <INS> . . . GT 0|0 0|0",
        "16 . GTTTA G . . . GT 0|1 1|1",
        "18 . T C,A . . . GT 0|1 1|2",
        "30 . A G . . . GT 0/1 0/1",
    )
    window = read.window(0, 57)
    assert [(skip.allele.position, skip.allele.alt, skip.reason, skip.copies) for skip in window.skipped] == [
        (3, "<INS:ME:ALU>", Reason.SYMBOLIC, 2),
        (8, "<DEL>", EditReason.BAD_END, 1),
        (9, "C", Reason.REF_MISMATCH, 2),
        (18, "C", EditReason.OVERLAP, 2),
        (18, "A", EditReason.OVERLAP, 1),
        (30, "G", EditReason.UNPHASED, 2),
    ]
    assert window.reasons.total() == 10
    assert told(window) == [
        ([], [[0, 0]]),
        ([(2, 3, "G"), (16, 20, "")], [[0, 1]]),
        ([(16, 20, "")], [[1, 0], [1, 1]]),
    ]
    assert read.window(31, 57).skipped == ()


def test_file_order_at_one_position_does_not_matter(region: Callable[..., PhasedRegion]) -> None:
    lines = ["9 . T TCC . . . GT 1|0", "9 . T G . . . GT 1|0"]
    expected = [([(8, 9, "G"), (9, 9, "CC")], [[0, 0]]), ([], [[0, 1]])]
    assert told(region(*lines).window(0, 57)) == told(region(*lines[::-1]).window(0, 57)) == expected


def test_windows_cut_deletions_and_keep_insertions_with_their_anchor(region: Callable[..., PhasedRegion]) -> None:
    read = region(
        "1 . C GC . . . GT 1|0",
        "11 . G GAA . . . GT 1|0",
        "16 . G <DEL> . . END=36 GT 0|1",
        "41 . T <INV> . . END=46 GT 1|0",
        "57 . C CA . . . GT 1|0",
    )

    def edits(start: int, end: int) -> list[tuple[int, int, str]]:
        return sorted(edit for own, _ in told(read.window(start, end)) for edit in own)

    assert edits(0, 10) == [(0, 0, "G")]
    assert edits(1, 11) == [(11, 11, "AA")]
    assert edits(11, 16) == []
    assert edits(10, 20) == [(11, 11, "AA"), (16, 20, "")]
    assert edits(20, 30) == [(20, 30, "")]
    assert edits(35, 40) == [(35, 36, "")]
    assert edits(40, 57) == [(41, 46, "TACTG"), (57, 57, "A")]
    assert read.window(43, 57).reasons == {EditReason.LEAVES_WINDOW: 1}
    assert edits(43, 57) == [(57, 57, "A")]
    with pytest.raises(ValueError, match="does not lie in the region"):
        read.window(40, 58)


def test_phase_sets(region: Callable[..., PhasedRegion]) -> None:
    read = region(
        "9 . T C . . . GT:PS 1|0:9 1|0:9 1|0:9",
        "12 . G A . . . GT:PS 1|0:9 1|0:12 0|0:9",
        "16 . G A . . . GT 1|1 1|1 1|1",
        "18 . T A . . . GT:PS 1|0:9 1|0:12 1|0:.",
    )
    left, right, third = read.window(0, 57).haplotypes
    assert left.carriers.tolist() == [[0, 0], [1, 0]]
    assert left.phase_sets is not None
    assert read.phase_set_names == (".", "9", "12")
    assert left.phase_sets.tolist() == [[1, 1, -1, 1], [1, 2, -1, 2]]
    assert left.phase_known.tolist() == [True, False]
    assert (right.copies, right.phase_known.tolist()) == (3, [True] * 3)
    assert third.phase_known.tolist() == [False]
    assert read.window(0, 10).haplotypes[0].phase_known.all()
    assert read.window(20, 30).haplotypes[0].phase_known.all()


def test_without_phase_sets_the_genotype_is_taken_as_it_is(region: Callable[..., PhasedRegion]) -> None:
    (haplotype, _) = region("9 . T C . . . GT 1|0", "12 . G A . . . GT 1|0").window(0, 57).haplotypes
    assert haplotype.phase_sets is None
    assert haplotype.phase_known.tolist() == [True]


def test_equal_edits_of_two_records_are_one_haplotype(region: Callable[..., PhasedRegion]) -> None:
    window = region("9 . T C . . . GT:PS 1|0:9 0|1:7", "9 . T C . . . GT:PS 0|1:8 0|0:7").window(0, 57)
    assert told(window) == [([(8, 9, "C")], [[0, 0], [0, 1], [1, 1]]), ([], [[1, 0]])]
    assert window.haplotypes[0].phase_sets is not None
    assert window.haplotypes[0].phase_sets.tolist() == [[1], [3], [2]]  # of 9, 8 and 7


def test_names_of_contigs_and_empty_regions(write_vcf: WriteVcf, genome: ReferenceGenome) -> None:
    path = indexed(write_vcf("MT 3 . T C . . . GT 1", "r 5 . A G . . . GT 1", header=HEADER, samples=("a",)))
    with VcfFile(path) as vcf:
        assert told(read_region(vcf, genome, "chrM", 0, 9).window(0, 9)) == [([(2, 3, "C")], [[0, 0]])]
        assert told(read_region(vcf, genome, "c1", 0, 9).window(0, 9)) == [([], [[0, 0], [0, 1]])]
        assert told(read_region(vcf, genome, "n", 0, 9).window(0, 9)) == [([], [[0, 0], [0, 1]])]
        with pytest.raises(InputError, match="contig 'r' is not in reference"):
            read_region(vcf, genome, "r", 0, 9)
        with pytest.raises(InputError, match=r"c1:\[3, 58\) is no interval of a contig of 57 bases"):
            read_region(vcf, genome, "c1", 3, 58)


def test_files_that_cannot_be_used(write_vcf: WriteVcf, genome: ReferenceGenome) -> None:
    line = "c1 3 . C T . . . GT 1|0"
    plain = write_vcf(line, header=HEADER, samples=("a",))
    with VcfFile(plain) as vcf, pytest.raises(InputError, match=r"calls\.vcf cannot be read at c1:\[0, 9\).*tabix -p vcf"):
        read_region(vcf, genome, "c1", 0, 9)
    with VcfFile(indexed(plain), ()) as vcf, pytest.raises(InputError, match="has no genotypes to read"):
        read_region(vcf, genome, "c1", 0, 9)
    damaged = write_vcf(line, "c1 9 . T G . . . GT 0|x", header=HEADER, samples=("a",), name="damaged.vcf")
    with VcfFile(indexed(damaged)) as vcf, pytest.raises(InputError, match="the line behind c1:3 is no VCF record"):
        read_region(vcf, genome, "c1", 0, 57)


COUNTED = (EditReason.UNPHASED, EditReason.OVERLAP, EditReason.LEAVES_WINDOW)
KINDS = ("snv", "mnv", "insertion", "deletion", "delins", "DEL", "CN0", "INV", "DUP", "CN3", "refused")


def drawn_records(draw: random.Random, bases: str, samples: int) -> list[tuple[int, str, Edit | None]]:
    """(POS, line, what it does) of random records with genotypes of ``samples`` samples, sorted by POS."""
    records = []
    for _ in range(draw.randint(0, 60)):
        position = draw.randint(1, len(bases) - 40)  # 1-based: the base at POS is bases[position - 1]
        kind = draw.choice(KINDS)
        anchor, info, new = bases[position - 1], ".", "".join(draw.choices("ACGT", k=draw.randint(2, 5)))
        end = position + draw.randint(1, 30)
        event = bases[position:end]
        edit: Edit | None
        if kind == "snv":
            new = draw.choice([base for base in "ACGT" if base != anchor])
            ref, alt, edit = anchor, new, Edit(position - 1, position, new)
        elif kind == "mnv":
            new = "".join({"A": "G", "C": "T", "G": "A", "T": "C"}[base] for base in anchor + event)
            ref, alt, edit = anchor + event, new, Edit(position - 1, end, new)
        elif kind == "insertion":
            ref, alt, edit = anchor, anchor + new, Edit(position, position, new)
        elif kind == "deletion":
            ref, alt, edit = anchor + event, anchor, Edit(position, end, "")
        elif kind == "delins":
            last = {"A": "C", "C": "G", "G": "T", "T": "A"}[event[0]]
            ref, alt, edit = anchor + event[0], anchor + last + last, Edit(position, position + 1, last + last)
        else:
            ref, alt, info = anchor, f"<{kind}>", f"END={end}"
            turned = "".join({"A": "T", "C": "G", "G": "C", "T": "A"}[base] for base in reversed(event))
            edit = {
                "DEL": Edit(position, end, ""),
                "CN0": Edit(position, end, ""),
                "INV": Edit(position, end, turned, inverted=True),
                "DUP": Edit(position, position, event),
                "CN3": Edit(position, position, event + event),
            }.get(kind)
            if kind == "refused":
                alt, info = draw.choice([("<INS>", "."), ("*", "."), ("<DEL>", "END=1"), ("<DUP>", "END=9999")])
        genotypes = draw.choices(
            ["0|0", "0|1", "1|0", "1|1", "0/1", "1/1", ".|1", "./."], [4, 6, 6, 3, 1, 1, 1, 1], k=samples
        )
        records.append((position, f"r {position} . {ref} {alt} . . {info} GT {' '.join(genotypes)}", edit))
    return sorted(records, key=lambda record: record[0])


def naive_haplotype(bases: str, start: int, end: int, carried: list[Edit]) -> tuple[str, Counter[EditReason]]:
    """One cell per gap and base, each of which may be claimed once; what the cells hold in the end, and what found none."""
    cells = [""] + [cell for base in bases for cell in (base, "")]  # gap before base p is cell 2p, base p is 2p + 1
    claimed: set[int] = set()
    reasons: Counter[EditReason] = Counter()
    for edit in sorted(carried, key=lambda edit: (edit.start, edit.end > edit.start)):
        first, last = edit.start, edit.end
        if edit.is_deletion:
            first, last = max(first, start), min(last, end)
        elif first < start or last > end:
            reasons[EditReason.LEAVES_WINDOW] += 1
            continue
        own = set(range(2 * first + 1, 2 * last)) or {2 * first}
        blocked = own | {2 * first} if edit.is_deletion else own  # two indels at one anchor
        if blocked & claimed:
            reasons[EditReason.OVERLAP] += 1
            continue
        claimed |= own
        for cell in own:
            cells[cell] = ""
        cells[min(own)] = edit.replacement
    return "".join(cells[2 * start + (start > 0) : 2 * end + 1]), reasons


@pytest.mark.parametrize("seed", range(40))
def test_windows_against_an_independent_reading(tmp_path: Path, write_vcf: WriteVcf, seed: int) -> None:
    draw = random.Random(seed)
    bases = "".join(draw.choices("ACGT", k=400))
    (tmp_path / "r.fa").write_text(fasta_text({"r": bases}))
    names = ("a", "b", "c")
    records = drawn_records(draw, bases, len(names))
    path = indexed(write_vcf(*(line for _, line, _ in records), header=HEADER, samples=names))
    with ReferenceGenome.open(tmp_path / "r.fa") as genome, VcfFile(path) as vcf:
        region = read_region(vcf, genome, "r", 0, len(bases))
    for start, end in [(0, 400), *(sorted(draw.sample(range(401), 2)) for _ in range(12))]:
        window = region.window(start, end)
        ours = {
            tuple(carrier): apply_edits(bases[start:end], start, haplotype.edits).bases
            for haplotype in window.haplotypes
            for carrier in haplotype.carriers.tolist()
        }
        theirs: dict[tuple[int, int], str] = {}
        reasons: Counter[EditReason] = Counter()
        for sample in range(len(names)):
            for side in (0, 1):
                carried = []
                for position, line, edit in records:
                    genotype = line.split()[9 + sample]
                    touches = start <= position - 1 < end
                    if edit is not None:
                        insertion = edit.start == edit.end
                        touches = start < edit.start <= end if insertion else edit.start < end and start < edit.end
                    if not touches or genotype[2 * side] != "1":
                        continue
                    if genotype == "0/1":
                        reasons[EditReason.UNPHASED] += 1
                    elif edit is not None:
                        carried.append(edit)
                theirs[sample, side], own = naive_haplotype(bases, start, end, carried)
                reasons += own
        assert ours == theirs
        known = {reason: copies for reason, copies in window.reasons.items() if reason in COUNTED}
        assert known == reasons
        assert len({haplotype.edits for haplotype in window.haplotypes}) == len(window.haplotypes)
