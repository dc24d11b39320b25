"""Which alleles stand together on a copy, who carries them, and what becomes of the others."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from genome.conftest import SEQUENCES, fasta_text

from dnagrinder.errors import BuildMismatchError, InputError
from dnagrinder.genome import cis
from dnagrinder.genome.cis import JOINED, CisHaplotype, CisReader, CisReason, Member, compact_edits
from dnagrinder.genome.edits import Edit, EditReason, apply_edits
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele, Reason, normalise

HEADER = (
    "".join(f"##contig=<ID={name}>\n" for name in ("c1", "c2", "r"))
    + '##INFO=<ID=END,Number=1,Type=Integer,Description="">\n'
    + "".join(f'##FORMAT=<ID={name},Number=1,Type=String,Description="">\n' for name in ("GT", "PS"))
)
Told = tuple[str, list[int], list[str], str]

#        0         1         2         3         4         5
#        0123456789012345678901234567890123456789012345678901234567890
# c1 is  CACACACATTGGGACGTTTACCGATGCAAATTTGGCCCAGTCAGTACGTACGTACCC


@pytest.fixture
def read(
    write_vcf: Callable[..., Path], genome: ReferenceGenome
) -> Callable[..., tuple[list[Told], dict[str, Counter[str]]]]:
    """Reads data lines of c1 (the contig is left out where a line begins with a number); samples are a, b, ..."""

    def told(
        *lines: str, distance: int = 50, window: int = 512, version: str = "4.2"
    ) -> tuple[list[Told], dict[str, Counter[str]]]:
        columns = len(lines[0].split()) - (8 if lines[0][0].isdigit() else 9)
        full = [f"c1 {line}" if line[0].isdigit() else line for line in lines]
        path = write_vcf(*full, header=HEADER, samples=tuple("abcdef"[:columns]), version=version)
        reader = CisReader(path, genome, distance=distance, window=window)
        found = [(h.allele.key, [m.allele.position for m in h.members], list(h.carriers), h.kind) for h in reader]
        return sorted(found, key=lambda row: (row[1], row[0])), {name: +counts for name, counts in reader.outcomes.items()}

    return told


def test_equal_haplotypes_of_all_copies_come_once(read) -> None:
    found, outcomes = read(
        "9 . T C,G . . . GT 1|0 1|1 0|1 2|1",
        "20 . A G . . . GT 1|0 1|1 1|0 1|0",
    )
    assert found == [
        ("c1:9:TTGGGACGTTTA:CTGGGACGTTTG", [9, 20], ["a", "b", "b"], "haplotype"),
        ("c1:9:TTGGGACGTTTA:GTGGGACGTTTG", [9, 20], ["d"], "haplotype"),
    ]
    assert outcomes == {
        "a": {JOINED: 2},
        "b": {JOINED: 4},
        "c": {CisReason.ALONE: 2},
        "d": {JOINED: 2, CisReason.ALONE: 1},
    }


@pytest.mark.parametrize(
    ("first", "second", "carriers", "outcomes"),
    [
        ("1|0", "1|0", 1, {JOINED: 2}),
        ("0|1", "0|1", 1, {JOINED: 2}),
        ("1|0", "0|1", 0, {CisReason.ALONE: 2}),  # in trans
        ("0/1", "0/1", 0, {EditReason.UNPHASED: 2}),
        ("0/1", "1|0", 0, {EditReason.UNPHASED: 1, CisReason.ALONE: 1}),
        ("0/1", "1/1", 0, {EditReason.UNPHASED: 1, CisReason.ALONE: 2}),
        ("./1", "1|1", 0, {EditReason.UNPHASED: 1, CisReason.ALONE: 2}),
        ("1/1", "0|1", 1, {JOINED: 2, CisReason.ALONE: 1}),  # homozygous belongs to both copies, phased or not
        ("1/1", "1/1", 2, {JOINED: 4}),
        ("1|1", "1/1", 2, {JOINED: 4}),
        ("1", "1", 1, {JOINED: 2}),  # one copy, as on chrX of a man
        (".|1", "1|1", 1, {JOINED: 2, CisReason.ALONE: 1}),
        ("0/0/1", "1|1", 0, {CisReason.PLOIDY: 1, CisReason.ALONE: 2}),
        ("0|1", "0|0", 0, {CisReason.ALONE: 1}),
        ("./.", ".", 0, {}),
        ("|1|0", "1|0", 1, {JOINED: 2}),  # VCF 4.4: phase in front
        ("/1|0", "1|0", 0, {EditReason.UNPHASED: 1, CisReason.ALONE: 1}),
        ("|1/0", "1|0", 0, {EditReason.UNPHASED: 1, CisReason.ALONE: 1}),
        ("/.|1", "1|1", 0, {EditReason.UNPHASED: 1, CisReason.ALONE: 2}),
        ("/1|1", "|1/1", 2, {JOINED: 4}),
        ("/1", "|1", 1, {JOINED: 2}),
        ("/0|0|1", "1|1", 0, {CisReason.PLOIDY: 1, CisReason.ALONE: 2}),
    ],
)
def test_phase(read, first: str, second: str, carriers: int, outcomes: dict[str, int]) -> None:
    found, counted = read(f"9 . T C . . . GT {first}", f"12 . G A . . . GT {second}", version="4.4")
    assert [names for _, _, names, _ in found] == ([["a"] * carriers] if carriers else [])
    assert counted == {"a": outcomes}


def test_phase_sets_are_not_joined_and_homozygous_alleles_join_any(read) -> None:
    found, outcomes = read(
        "9 . T C . . . GT:PS 1|0:9 1|0:9 1|0:9 1|0:9",
        "12 . G A . . . GT:PS 1|0:12 1|0:12 1|1:. 1|0:9",
        "20 . A G . . . GT:PS 0|0:. 1|0:9 1|0:12 1|0:.",
    )
    assert [(places, names) for _, places, names, _ in found] == [
        ([9, 12], ["c", "d"]),
        ([9, 20], ["b"]),  # set 9 around an allele of set 12
        ([12, 20], ["c"]),
    ]
    assert outcomes == {
        "a": {CisReason.OTHER_PHASE_SET: 2},
        "b": {JOINED: 2, CisReason.OTHER_PHASE_SET: 1},
        "c": {JOINED: 3, CisReason.ALONE: 1},
        "d": {JOINED: 2, CisReason.OTHER_PHASE_SET: 1},
    }


def test_a_group_of_homozygous_alleles_within_a_larger_one_is_not_told(read) -> None:
    found, outcomes = read(
        "9 . T C . . . GT:PS 1|0:9",
        "12 . G A . . . GT:PS 1|1:.",
        "16 . G A . . . GT:PS 1|1:.",
        "30 . A G . . . GT:PS 1|0:9",
        "45 . T C . . . GT:PS 1|0:40",  # of another set, and too far from all but the one at 30
        distance=15,
    )
    assert [(places, names) for _, places, names, _ in found] == [
        ([9, 12], ["a"]),  # the mnv within
        ([9, 12, 16, 30], ["a"]),
        ([12, 16], ["a"]),  # of the other copy alone
    ]
    assert outcomes == {"a": {JOINED: 6, CisReason.OTHER_PHASE_SET: 1}}


@pytest.mark.parametrize(("distance", "joined"), [(10, True), (9, False)])
def test_distance_counts_the_bases_between(read, distance: int, joined: bool) -> None:
    found, _ = read("9 . T C . . . GT 1|0", "20 . A G . . . GT 1|0", distance=distance)
    assert bool(found) == joined


def test_close_snvs_are_told_as_mnv_besides(read) -> None:
    found, outcomes = read(
        "9 . T C . . . GT 1|0 1|0",
        "12 . G A . . . GT 1|0 1|0",
        "16 . G A . . . GT 1|0 0|0",
        "20 . A G . . . GT 0|0 1|0",
    )
    assert found == [
        ("c1:9:TTGG:CTGA", [9, 12], ["a", "b"], "mnv"),  # two bases between
        ("c1:9:TTGGGACG:CTGAGACA", [9, 12, 16], ["a"], "haplotype"),  # three between the last two
        ("c1:9:TTGGGACGTTTA:CTGAGACGTTTG", [9, 12, 20], ["b"], "haplotype"),
    ]
    assert outcomes == {"a": {JOINED: 3}, "b": {JOINED: 3}}


def test_an_mnv_that_is_the_whole_comes_once_and_an_indel_is_none(read) -> None:
    found, _ = read("9 . T C . . . GT 1|0 1|0", "10 . T A . . . GT 1|0 0|0", "10 . T TA . . . GT 0|0 1|0")
    assert [(key, kind) for key, _, _, kind in found] == [("c1:9:TT:CA", "mnv"), ("c1:9:TT:CTA", "haplotype")]


def test_alleles_lie_where_their_record_spells_them(read) -> None:
    """A repeat unit deleted at the right end of the repeat, a base changed within: the deletion must not move over it."""
    found, _ = read("3 . C G . . . GT 1|0", "6 . ACA A . . . GT 1|0")
    ((key, places, _, _),) = found
    assert places == [3, 1]  # the deletion by itself has the left-aligned key
    whole = Allele.from_key(key)
    bases = SEQUENCES["c1"]
    assert bases[: whole.start] + whole.alt + bases[whole.end :] == "CAGACA" + bases[8:]


@pytest.mark.parametrize(
    ("lines", "outcomes", "told"),
    [
        (["16 . GTTTA G . . . GT 1|0", "18 . T C . . . GT 1|0"], {EditReason.OVERLAP: 1, CisReason.ALONE: 1}, 0),
        (["8 . A <DEL> . . END=12 GT 1|0", "18 . T C . . . GT 1|0"], {Reason.SYMBOLIC: 1, CisReason.ALONE: 1}, 0),
        (["9 . G C . . . GT 0/1", "18 . T C . . . GT 1|0"], {Reason.REF_MISMATCH: 1, CisReason.ALONE: 1}, 0),
        (["c2 10 . AA A . . . GT 1|0", "c2 15 . A AA . . . GT 1|0"], {Reason.SAME_AS_REF: 2}, 0),
        (["11 . GG G . . . GT 1|0", "12 . GG G . . . GT 1|0"], {JOINED: 2}, 1),  # side by side, both bases go
        (["9 . T C . . . GT 1|0", "9 . T C . . . GT 1|0"], {EditReason.OVERLAP: 1, CisReason.ALONE: 1}, 0),
    ],
)
def test_what_cannot_be_joined_is_counted(read, lines: list[str], outcomes: dict[str, int], told: int) -> None:
    found, counted = read(*lines)
    assert counted == {"a": outcomes}
    assert len(found) == told


def test_a_chain_beyond_a_quarter_of_the_window_parts_at_its_widest_gap(read) -> None:
    lines = [f"{position} . {SEQUENCES['c1'][position - 1]} {alt} . . . GT 1|0"
             for position, alt in ((3, "G"), (8, "G"), (16, "A"), (21, "G"), (40, "A"))]  # fmt: skip
    found, outcomes = read(*lines, window=64)
    assert [places for _, places, _, _ in found] == [[3, 8], [16, 21]]
    assert outcomes == {"a": {JOINED: 4, CisReason.TOO_WIDE: 1}}
    whole, _ = read(*lines, window=512)
    assert [places for _, places, _, _ in whole] == [[3, 8, 16, 21, 40]]


def test_files_that_cannot_be_used(read, write_vcf, genome: ReferenceGenome) -> None:
    with pytest.raises(InputError, match="c1:9: a genotype names ALT 2, the record has 1"):
        read("9 . T C . . . GT 0|2")
    with pytest.raises(BuildMismatchError, match="no contig in common"):
        list(CisReader(write_vcf("r 9 . T C . . ."), genome, distance=50, window=512))
    with pytest.raises(ValueError, match="at least 1 base"):
        CisReader(Path("x.vcf"), genome, distance=0, window=512)
    sites = CisReader(write_vcf("c1 9 . T C . . .", "c1 10 . T C . . ."), genome, distance=50, window=512)
    assert (list(sites), sites.outcomes) == ([], {})
    with pytest.raises(ValueError, match="at least two alleles"):
        CisHaplotype(Allele("c1", 8, "T", "C"), (Member(Allele("c1", 8, "T", "C"), Edit(8, 9, "C")),), ("a",))


def drawn(draw: random.Random, bases: str, samples: int) -> list[tuple[int, str, Edit, list[str]]]:
    """(POS, REF and ALT, edit, genotypes) of random SNVs and short indels, sorted by POS; some padded in front."""
    records = []
    for start in sorted(draw.sample(range(5, len(bases) - 20), 60)):
        kind, pad = draw.choice(["snv", "snv", "insertion", "deletion"]), draw.randint(0, 4)
        if kind == "snv":
            edit = Edit(start, start + 1, draw.choice([base for base in "ACGT" if base != bases[start]]))
            pad = draw.choice([0, 0, pad])
        elif kind == "insertion":
            edit, pad = Edit(start, start, draw.choice("ACGT") * 2 + "G"), pad + 1
        else:
            edit, pad = Edit(start, start + draw.randint(1, 3), ""), pad + 1
        if kind != "snv" and (edit.replacement[-1:] or bases[edit.end - 1]) == bases[start - 1]:
            continue  # could be shifted: then the record's own spelling trims to another place
        front = bases[start - min(pad, start) : start]
        ref, alt = front + bases[start : edit.end], front + edit.replacement
        if ref[-1] == alt[-1] and len(ref) != len(alt) and min(len(ref), len(alt)) > len(front):
            continue
        genotypes = draw.choices(["0|0", "0|1", "1|0", "1|1", "0/1", "1/1"], [3, 5, 5, 3, 1, 1], k=samples)
        records.append((start - len(front) + 1, f"{ref} {alt}", edit, genotypes))
    return sorted(records, key=lambda record: record[0])


def naive(edits: list[Edit], distance: int, limit: int) -> list[tuple[Edit, ...]]:
    """Haplotypes of one copy: taken left to right, cut wherever the gap is too wide, then at widest gaps until all fit."""
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda e: (e.start, e.end > e.start)):
        if kept and (edit.start < kept[-1].end or (edit.start == kept[-1].start == kept[-1].end and not edit.replacement)):
            continue
        kept.append(edit)
    groups, waiting = [], [kept]
    while waiting:
        group = waiting.pop()
        gaps = [b.start - a.end for a, b in pairwise(group)]
        if not gaps:
            continue
        before, after = group[-1].end - group[0].start, group[-1].end - group[0].start
        after += sum(len(edit.replacement) - (edit.end - edit.start) for edit in group)
        if max(gaps) > distance or max(before, after) > limit:
            cut = gaps.index(max(gaps)) + 1
            waiting += [group[:cut], group[cut:]]
        else:
            groups.append(tuple(group))
    return groups


def close_snvs(group: Sequence[Edit]) -> list[tuple[Edit, ...]]:
    """Runs of at least two SNVs that stand at most three positions apart."""
    runs: list[list[Edit]] = [[]]
    for edit in group:
        if edit.end - edit.start != 1 or len(edit.replacement) != 1:
            runs.append([])
        elif runs[-1] and edit.start - runs[-1][-1].start > 3:
            runs.append([edit])
        else:
            runs[-1].append(edit)
    return [tuple(run) for run in runs if len(run) > 1]


@pytest.mark.parametrize("seed", range(25))
def test_against_an_independent_reading(
    tmp_path: Path, write_vcf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Sorted, unsorted and however often chains are closed: the same haplotypes, and every carried copy counted once."""
    draw = random.Random(seed)
    bases = "".join(draw.choices("ACGT", k=900))
    (tmp_path / "r.fa").write_text(fasta_text({"r": bases}))
    names, distance, window = ("a", "b", "c"), draw.choice([3, 12, 40]), draw.choice([128, 512])
    records = drawn(draw, bases, len(names))
    lines = [
        f"r {pos} . {letters.split()[0]} {letters.split()[1]} . . . GT {' '.join(gts)}" for pos, letters, _, gts in records
    ]
    expected: dict[tuple[Edit, ...], list[str]] = {}
    for sample, name in enumerate(names):
        for copy in (0, 1):
            own = [e for _, _, e, gts in records if gts[sample] != "0/1" and gts[sample].replace("/", "|")[2 * copy] == "1"]
            for group in naive(own, distance, window // 4):
                for part in {group, *close_snvs(group)}:
                    expected.setdefault(part, []).append(name)
    expected = {group: names for group, names in expected.items() if apply_edits(bases, 0, group).bases != bases}
    results = []
    with ReferenceGenome.open(tmp_path / "r.fa") as genome:
        for stride, order in ((1, lines), (97, lines), (10_000, lines), (10_000, draw.sample(lines, len(lines)))):
            monkeypatch.setattr(cis, "_STRIDE", stride)
            reader = CisReader(write_vcf(*order, header=HEADER, samples=names), genome, distance=distance, window=window)
            found = list(reader)
            groups = {tuple(m.edit for m in h.members): list(h.carriers) for h in found}
            assert len(groups) == len(found)
            assert groups == expected
            for h in found:
                assert (h.kind == "mnv") == ([tuple(m.edit for m in h.members)] == close_snvs([m.edit for m in h.members]))
                whole, alleles = h.allele, apply_edits(bases, 0, [m.edit for m in h.members]).bases
                assert bases[: whole.start] + whole.alt + bases[whole.end :] == alleles
            for sample, name in enumerate(names):
                carried = sum(gts[sample].count("1") for _, _, _, gts in records)
                assert reader.outcomes[name].total() == carried
                assert reader.outcomes[name][EditReason.UNPHASED] == sum(gts[sample] == "0/1" for *_, gts in records)
            results.append((groups, reader.outcomes))
    assert all(result == results[0] for result in results)
    assert expected


def in_repeat(draw: random.Random, bases: str) -> list[Edit]:
    """Up to four edits side by side: substitutions, and deletions and insertions of repeat units, so that many can move."""
    found, place = [], 8 + draw.randrange(20)
    for _ in range(draw.choice([2, 2, 3, 4])):
        size, kind = draw.choice([1, 2, 2, 3, 4]), draw.choice("SDDII")
        if kind == "S":
            found.append(Edit(place, place + 1, draw.choice([base for base in "ACGT" if base != bases[place]])))
        elif kind == "D":
            found.append(Edit(place, place + size, ""))
        else:
            found.append(Edit(place, place, draw.choice([bases[place : place + size], "CA"])))
        place = found[-1].end + draw.choice([1, 2, 3, 6])
    return found


def elsewhere(bases: str, edits: list[Edit], index: int) -> Iterator[list[Edit]]:
    """The edits with one of them moved by a base, where it does the same there."""
    one = edits[index]
    for start in (one.start - 1, one.start + 1):
        length = one.end - one.start
        for text in {one.replacement[-1:] + one.replacement[:-1], one.replacement[1:] + one.replacement[:1]}:
            moved = [*edits[:index], Edit(start, start + length, text), *edits[index + 1 :]]
            apart = all(last.end <= edit.start for last, edit in pairwise(moved))
            if apart and apply_edits(bases, 0, [moved[index]]).bases == apply_edits(bases, 0, [one]).bases:
                yield moved


@pytest.mark.parametrize("seed", range(12))
def test_compact_edits_are_the_same_for_all_spellings(tmp_path: Path, seed: int) -> None:
    """Whatever the spelling: any of the alleles make the same sequence together, and the compact edits span no more."""
    draw = random.Random(seed)
    bases = draw.choice(["A", "CA", "CAA", "CACG"]) * 60
    bases = "GT" + "".join(draw.choice("ACGT") if draw.random() < 0.04 else base for base in bases[:60]) + "TGCATGCCTAGG"
    moves = 0
    with ReferenceGenome.open(fasta(tmp_path, bases)) as genome:
        for _ in range(40):
            edits = in_repeat(draw, bases)
            alleles = [
                normalise(genome, "r", e.start - 1, bases[e.start - 1 : e.end], bases[e.start - 1] + e.replacement)
                for e in edits
            ]
            compact = compact_edits(genome, alleles)
            for _ in range(8):
                for size in range(1, len(edits) + 1):
                    for some in combinations(range(len(edits)), size):
                        one, other = (apply_edits(bases, 0, [listed[i] for i in some]) for listed in (edits, compact))
                        assert one.bases == other.bases
                assert compact[-1].end - compact[0].start <= edits[-1].end - edits[0].start
                others = [moved for index in range(len(edits)) for moved in elsewhere(bases, edits, index)]
                edits = draw.choice(others or [edits])
                moves += bool(others)
    assert moves > 100


def fasta(folder: Path, bases: str) -> Path:
    """A reference of one contig, r."""
    (folder / "r.fa").write_text(fasta_text({"r": bases}))
    return folder / "r.fa"


def test_compact_edits_by_hand(tmp_path: Path) -> None:
    with ReferenceGenome.open(fasta(tmp_path, "GCACACACACATTTTG")) as genome:
        two, snv = Allele("r", 0, "GCA", "G"), Allele("r", 11, "T", "A")
        tail, more = Allele("r", 10, "A", "AT"), Allele("r", 0, "G", "GCA")
        assert compact_edits(genome, [two, two]) == [Edit(1, 3, ""), Edit(3, 5, "")]
        assert compact_edits(genome, [two, snv]) == [Edit(9, 11, ""), Edit(11, 12, "A")]
        assert compact_edits(genome, [more, Allele("r", 9, "C", "T")]) == [Edit(9, 9, "CA"), Edit(9, 10, "T")]
        assert compact_edits(genome, [Allele("r", 5, "C", "T"), two]) == [Edit(5, 6, "T"), Edit(6, 8, "")]
        assert compact_edits(genome, [Allele("r", 12, "T", "C"), tail]) == [Edit(12, 13, "C"), Edit(13, 13, "T")]
