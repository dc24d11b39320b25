"""One ALT as an edit, edits that stand together, and the sequence they make."""

from __future__ import annotations

import random

import numpy as np
import pytest

from dnagrinder.genome.edits import Edit, EditReason, Unusable, apply_edits, arrange, edit_of, sort_key
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Reason

COMPLEMENT = dict(zip("ACGTacgt", "TGCAtgca", strict=True))


@pytest.mark.parametrize(
    ("start", "end", "replacement", "inverted"),
    [(-1, 2, "A", False), (3, 2, "A", False), (3, 3, "", False), (3, 4, "a", False), (3, 4, "<", False), (3, 5, "A", True)],
)
def test_what_is_no_edit(start: int, end: int, replacement: str, inverted: bool) -> None:
    with pytest.raises(ValueError, match=r"edit|inversion"):
        Edit(start, end, replacement, inverted)


#        0         1         2         3         4         5
#        0123456789012345678901234567890123456789012345678901234567890
# c1 is  CACACACATTGGGACGTTTACCGATGCAAATTTGGCCCAGTCAGTACGTACGTACCC
@pytest.mark.parametrize(
    ("start", "ref", "alt", "info", "edit"),
    [
        (8, "T", "g", ".", Edit(8, 9, "G")),
        (8, "TTG", "CTC", ".", Edit(8, 11, "CTC")),
        (8, "TTG", "TCG", ".", Edit(9, 10, "C")),
        (7, "A", "ACC", ".", Edit(8, 8, "CC")),
        (0, "C", "CC", ".", Edit(1, 1, "C")),  # the anchor is cut in front, not the inserted base behind
        (0, "C", "GC", ".", Edit(0, 0, "G")),
        (7, "ATT", "A", ".", Edit(8, 10, "")),
        (7, "ATT", "AT", ".", Edit(9, 10, "")),
        (0, "CA", "A", ".", Edit(0, 1, "")),
        (7, "ATTG", "AC", ".", Edit(8, 11, "C")),
        (7, "A", "<DEL>", "SVTYPE=DEL;END=11", Edit(8, 11, "")),
        (7, "N", "<DEL:ME:ALU>", "CIEND=0,9;END=11;IMPRECISE", Edit(8, 11, "")),
        (7, "A", "<CN0>", "SVLEN=-3;SVTYPE=DEL", Edit(8, 11, "")),
        (7, "A", "<del>", "SVLEN=2,3,4", Edit(8, 11, "")),
        (7, "A", "<DUP>", "END=11", Edit(8, 8, "TTG")),
        (7, "A", "<DUP:TANDEM>", "END=11;SVLEN=99", Edit(8, 8, "TTG")),
        (7, "A", "<CN2>", "END=11", Edit(8, 8, "TTG")),
        (7, "A", "<CN4>", "END=11", Edit(8, 8, "TTGTTGTTG")),
        (7, "A", "<INV>", "END=11", Edit(8, 11, "CAA", inverted=True)),
        (53, "A", "<DEL>", "END=57", Edit(54, 57, "")),
    ],
)
def test_alleles_as_edits(genome: ReferenceGenome, start: int, ref: str, alt: str, info: str, edit: Edit) -> None:
    assert edit_of(genome, "c1", start, ref, alt, info=info, number=2) == edit


@pytest.mark.parametrize(
    ("start", "ref", "alt", "info", "reason", "detail"),
    [
        (7, "A", "<INS:ME:ALU>", "END=11", Reason.SYMBOLIC, "ALT is <INS:ME:ALU>"),
        (7, "A", "<INS>", "END=11", Reason.SYMBOLIC, "ALT is <INS>"),
        (7, "A", "<CNV>", "END=11", Reason.SYMBOLIC, "ALT is <CNV>"),
        (7, "A", "<DUP:INV>", "END=11", Reason.SYMBOLIC, "ALT is <DUP:INV>"),
        (7, "A", "*", ".", Reason.SPANNING_DELETION, "ALT is *"),
        (7, "A", "<*>", ".", Reason.NON_REF, "ALT is <*>"),
        (7, "A", "A]c2:9]", ".", Reason.BREAKEND, "ALT is A]c2:9]"),
        (7, "A", ".", ".", Reason.MISSING_ALT, "ALT is ."),
        (7, "A", "R", ".", Reason.IUPAC, "ALT holds R"),
        (7, "A", "a", ".", Reason.SAME_AS_REF, "REF and ALT are the same 1 bp"),
        (7, "A", "<CN1>", "END=11", Reason.SAME_AS_REF, "ALT <CN1> is the one copy that the reference has"),
        (7, "C", "<DEL>", "END=11", Reason.REF_MISMATCH, "VCF REF C, reference A at c1:8"),
        (7, "C", "G", ".", Reason.REF_MISMATCH, "VCF REF C, reference A at c1:8"),
        (57, "C", "G", ".", Reason.POSITION_OUT_OF_RANGE, "REF covers c1:58-58, the contig ends at 57"),
        (7, "A", "<DEL>", ".", EditReason.BAD_END, "the record has neither END nor SVLEN"),
        (7, "A", "<DEL>", "SVLEN=3,.", EditReason.BAD_END, "SVLEN is .;"),
        (7, "A", "<DEL>", "SVLEN=50", EditReason.BAD_END, "SVLEN is 50;"),
        (7, "A", "<INV>", "END=8", EditReason.BAD_END, "END is 8; the event begins behind base 8, the contig ends at 57"),
        (7, "A", "<DUP>", "END=3", EditReason.BAD_END, "END is 3;"),
        (7, "A", "<DEL>", "END=58", EditReason.BAD_END, "END is 58;"),
        (99, "N", "<DEL>", "END=120", EditReason.BAD_END, "END is 120;"),
    ],
)
def test_alleles_without_edit(
    genome: ReferenceGenome, start: int, ref: str, alt: str, info: str, reason: Reason | EditReason, detail: str
) -> None:
    found = edit_of(genome, "c1", start, ref, alt, info=info, number=2)
    assert isinstance(found, Unusable)
    assert (found.reason, found.detail[: len(detail)]) == (reason, detail)


def test_unknown_bases_are_inverted_and_copied(genome: ReferenceGenome) -> None:
    assert edit_of(genome, "n", 77, "N", "<INV>", info="END=84") == Edit(78, 84, "ACGTNN", inverted=True)
    assert edit_of(genome, "n", 77, "N", "<DUP>", info="END=82") == Edit(78, 78, "NNAC")


SNV, INS, DEL, MNV = Edit(5, 6, "G"), Edit(5, 5, "TT"), Edit(5, 8, ""), Edit(4, 7, "GGG")


@pytest.mark.parametrize(
    ("edits", "taken"),
    [
        ([SNV, Edit(6, 6, "A")], [0, 1]),  # insertion behind a changed base
        ([INS, SNV], [0, 1]),
        ([INS, Edit(5, 5, "A")], [0]),
        ([INS, DEL], [0]),  # both anchored at base 4
        ([INS, Edit(5, 8, "G")], [0, 1]),
        ([DEL, Edit(6, 6, "A")], [0]),
        ([DEL, Edit(7, 8, "A")], [0]),
        ([DEL, Edit(8, 8, "A"), Edit(8, 9, "C")], [0, 1, 2]),
        ([DEL, Edit(8, 9, "")], [0, 1]),
        ([MNV, INS, SNV, Edit(7, 8, "A")], [0, 3]),  # what is left out blocks nothing
    ],
)
def test_edits_that_stand_together(edits: list[Edit], taken: list[int]) -> None:
    kept, left_out = arrange(enumerate(edits), 0, 20)
    assert list(kept) == taken
    assert list(kept.values()) == [edits[place] for place in taken]
    assert left_out == {place: EditReason.OVERLAP for place in range(len(edits)) if place not in taken}


@pytest.mark.parametrize(
    ("edit", "inside"),
    [
        (Edit(2, 9, ""), Edit(4, 9, "")),
        (Edit(9, 14, ""), Edit(9, 12, "")),
        (Edit(0, 99, ""), Edit(4, 12, "")),
        (Edit(4, 12, ""), Edit(4, 12, "")),
        (Edit(4, 6, "GG"), Edit(4, 6, "GG")),
        (Edit(3, 6, "GGG"), None),
        (Edit(11, 14, "G"), None),
        (Edit(2, 5, "CAT", inverted=True), None),
        (Edit(0, 4, ""), None),
        (Edit(4, 4, "A"), Edit(4, 4, "A")),
        (Edit(12, 12, "A"), Edit(12, 12, "A")),
        (Edit(13, 13, "A"), None),
    ],
)
def test_edits_at_the_edges(edit: Edit, inside: Edit | None) -> None:
    assert edit.within(4, 12) == inside
    kept, left_out = arrange([(7, edit)], 4, 12)
    assert (kept, left_out) == (({}, {7: EditReason.LEAVES_WINDOW}) if inside is None else ({7: inside}, {}))


def test_case_and_coordinates() -> None:
    #            10      14      18
    sequence = apply_edits(
        "ACgtACgtAC",
        10,
        [Edit(10, 10, "T"), Edit(11, 12, "A"), Edit(13, 13, "GG"), Edit(13, 15, "CCC"), Edit(15, 18, "ACG", inverted=True)],
    )
    assert sequence.bases == "TAAgggcCCacGAC"
    assert sequence.reference_positions.tolist() == [-1, 10, 11, 12, -1, -1, 13, 14, -1, 17, 16, 15, 18, 19]
    assert sequence.haplotype_positions.tolist() == [1, 2, 3, 6, 7, 11, 10, 9, 12, 13]


def test_deleted_bases_have_no_place() -> None:
    sequence = apply_edits("ACGTACGT", 100, [Edit(100, 103, ""), Edit(104, 108, "G")])
    assert (sequence.bases, sequence.start, sequence.end) == ("TG", 100, 108)
    assert sequence.reference_positions.tolist() == [103, 104]
    assert sequence.haplotype_positions.tolist() == [-1, -1, -1, 0, 1, -1, -1, -1]
    assert apply_edits("ACGT", 100, [Edit(100, 104, "")]).bases == ""


@pytest.mark.parametrize(
    "edits",
    [[Edit(9, 11, "")], [Edit(17, 19, "")], [Edit(12, 14, "A"), Edit(13, 15, "")], [Edit(14, 15, "A"), Edit(12, 13, "C")]],
)
def test_edits_that_do_not_fit(edits: list[Edit]) -> None:
    with pytest.raises(ValueError, match=r"begins before 1.|ends behind the window"):
        apply_edits("ACGTACGT", 10, edits)


def drawn_edits(draw: random.Random, bases: str, start: int) -> list[Edit]:
    """Any edits, some of them on top of others."""
    edits = []
    for _ in range(draw.randint(0, 25)):
        first = draw.randrange(len(bases))
        last = min(len(bases), first + draw.choice([0, 0, 1, 1, 1, 2, 5, 30]))
        if draw.random() < 0.2 and last > first:
            turned = "".join(COMPLEMENT[base] for base in reversed(bases[first:last])).upper()
            edits.append(Edit(start + first, start + last, turned, inverted=True))
        elif replacement := "".join(draw.choices("ACGT", k=draw.choice([0, 1, 1, 2, 6]))) or "A" * (first == last):
            edits.append(Edit(start + first, start + last, replacement))
        else:
            edits.append(Edit(start + first, start + last, ""))
    return sorted(edits, key=sort_key)


@pytest.mark.parametrize("seed", range(60))
def test_sequence_and_map_against_cells(seed: int) -> None:
    """The same built base by base: what stands before a reference base, and what stands in its place."""
    draw = random.Random(seed)
    start, bases = draw.randint(0, 1000), "".join(draw.choices("ACGTacgt", k=draw.randint(1, 200)))
    edits = list(arrange(enumerate(drawn_edits(draw, bases, start)), start, start + len(bases))[0].values())
    before: list[list[tuple[str, int]]] = [[] for _ in range(len(bases) + 1)]
    cells = [[(base, start + place)] for place, base in enumerate(bases)]
    for edit in edits:
        first, last, new = edit.start - start, edit.end - start, edit.replacement
        if first == last:
            lower = bases[max(0, first - 1)].islower()
            before[first] = [(base.lower() if lower else base, -1) for base in new]
            continue
        old = list(range(first, last))[:: -1 if edit.inverted else 1]
        for place in old:
            cells[place] = []
        cells[first] = [
            (base.lower() if bases[old[min(place, len(old) - 1)]].islower() else base,
             start + old[place] if place < len(old) else -1)
            for place, base in enumerate(new)
        ]  # fmt: skip
    expected = [cell for gap, own in zip(before, [*cells, []], strict=True) for cell in (*gap, *own)]
    sequence = apply_edits(bases, start, edits)
    assert sequence.bases == "".join(base for base, _ in expected)
    assert sequence.reference_positions.tolist() == [place for _, place in expected]
    known = sequence.reference_positions >= 0
    there = sequence.haplotype_positions[sequence.reference_positions[known] - start]
    np.testing.assert_array_equal(there, np.flatnonzero(known))
    assert (sequence.haplotype_positions >= 0).sum() == known.sum()
