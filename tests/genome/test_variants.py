"""Alleles: validation, keys, normalisation, judgement."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from genome.conftest import SEQUENCES
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from dnagrinder.errors import InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele, Reason, Refusal, judge, normalise

BASES = st.text("ACGT", min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("ref", "alt", "kind", "trimmed"),
    [
        ("A", "G", "snv", (9, "A", "G")),
        ("AC", "GT", "mnv", (9, "AC", "GT")),
        ("A", "ACC", "insertion", (10, "", "CC")),
        ("ACC", "A", "deletion", (10, "CC", "")),
        ("ACC", "TG", "delins", (9, "ACC", "TG")),
        ("A", "TC", "delins", (9, "A", "TC")),
    ],
)
def test_allele(ref: str, alt: str, kind: str, trimmed: tuple[int, str, str]) -> None:
    allele = Allele("chr1", 9, ref, alt)
    assert allele.position == 10
    assert allele.end == 9 + len(ref)
    assert allele.key == f"chr1:10:{ref}:{alt}"
    assert allele.kind == kind
    assert allele.trimmed() == trimmed


def test_alleles_at_the_first_base_are_anchored_behind() -> None:
    assert Allele("c", 0, "CA", "A").trimmed() == (0, "C", "")
    assert Allele("c", 0, "C", "TC").trimmed() == (0, "", "T")
    assert Allele("c", 0, "CA", "A").kind == "deletion"


@pytest.mark.parametrize(
    ("start", "ref", "alt"),
    [
        (-1, "A", "G"),
        (5, "A", "A"),
        (5, "", "A"),
        (5, "A", ""),
        (5, "a", "G"),
        (5, "N", "G"),
        (5, "A", "<DEL>"),
        (5, "CA", "A"),
        (5, "AT", "GT"),
        (5, "AT", "AG"),
        (0, "CAT", "AT"),
        (5, "AC", "AC"),
    ],
)
def test_other_spellings_are_no_allele(start: int, ref: str, alt: str) -> None:
    with pytest.raises(ValueError, match="allele"):
        Allele("c", start, ref, alt)


@given(st.sampled_from(["1", "chrX", "HLA:A*01:02", "3:42-44"]), st.integers(0, 10**9), BASES, BASES)
def test_key_round_trip(contig: str, start: int, ref: str, alt: str) -> None:
    try:
        allele = Allele(contig, start, ref, alt)
    except ValueError:
        assume(False)
    assert Allele.from_key(allele.key) == allele


# Each also compared with bcftools itself in test_against_bcftools.py.
@pytest.mark.parametrize(
    ("start", "ref", "alt", "expected"),
    [
        (0, "CA", "A", "c1:1:CA:A"),
        (0, "C", "CC", "c1:1:C:CC"),
        (6, "CA", "C", "c1:7:CA:C"),
        (5, "ACA", "A", "c1:1:CAC:C"),
        (0, "C", "GC", "c1:1:C:GC"),
        (0, "CACA", "CA", "c1:1:CAC:C"),
        (0, "CACA", "TACG", "c1:1:CACA:TACG"),
        (1, "ACA", "ATA", "c1:3:C:T"),
        (7, "ATT", "ATTT", "c1:8:A:AT"),
        (0, "CACACACATT", "T", "c1:1:CACACACATT:T"),
        (0, "CACACACA", "CA", "c1:1:CACACAC:C"),
        (0, "CA", "TACA", "c1:1:C:TAC"),
        (1, "ACAC", "ATGC", "c1:3:CA:TG"),
        (8, "TTG", "GTTG", "c1:8:A:AG"),
        (56, "C", "CC", "c1:54:A:AC"),
        (56, "C", "CA", "c1:57:C:CA"),
        (3, "a", "g", "c1:4:A:G"),
    ],
)
def test_normalise(genome: ReferenceGenome, start: int, ref: str, alt: str, expected: str) -> None:
    assert genome.fetch("c1", start, start + len(ref)) == ref.upper()
    assert normalise(genome, "c1", start, ref, alt).key == expected


def test_long_shifts_cross_the_chunks(genome: ReferenceGenome) -> None:
    assert normalise(genome, "c2", 690, "AAAA", "AA").key == "c2:1:AAA:A"
    assert normalise(genome, "c2", 699, "A", "AAAAA").key == "c2:1:A:AAAAA"
    assert normalise(genome, "c2", 1300, "TT", "T").key == "c2:702:GT:G"


def test_an_unknown_anchor_is_told(genome: ReferenceGenome) -> None:
    assert SEQUENCES["chrM"][10:14] == "NNCT"
    with pytest.raises(InputError, match="base beside the left-aligned change at chrM:12 is N"):
        normalise(genome, "chrM", 12, "CT", "T")


def applied(bases: str, start: int, ref: str, alt: str) -> str:
    assert bases[start : start + len(ref)] == ref
    return bases[:start] + alt + bases[start + len(ref) :]


@pytest.fixture(scope="module")
def repeats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReferenceGenome]:
    path = tmp_path_factory.mktemp("repeats") / "repeats.fa"
    path.write_text(">r\n" + "ACACACACATTTTTTGATGATGATGCCCCCAGAGAGAGAATTCATTCATTCAAAAAAAACGTTTTTTTTT" + "\n")
    with ReferenceGenome.open(path) as genome:
        yield genome


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_all_spellings_of_a_change_have_one_normal_form(repeats: ReferenceGenome, data: st.DataObject) -> None:
    bases = repeats.fetch("r", 0, repeats.length("r"))
    start = data.draw(st.integers(0, len(bases) - 1))
    ref = bases[start : start + data.draw(st.integers(1, 7))]
    alt = data.draw(
        st.one_of(BASES, st.integers(1, len(ref)).map(lambda n: ref[:n]), st.integers(2, 4).map(lambda n: ref * n))
    )
    assume(ref != alt)
    allele = normalise(repeats, "r", start, ref, alt)
    changed = applied(bases, start, ref, alt)
    assert applied(bases, allele.start, allele.ref, allele.alt) == changed

    # Padding on both sides and every other place at which the same change gives the same sequence.
    left, right = data.draw(st.integers(0, start)), data.draw(st.integers(0, len(bases) - start - len(ref)))
    pad_left, pad_right = bases[start - left : start], bases[start + len(ref) : start + len(ref) + right]
    assert normalise(repeats, "r", start - left, pad_left + ref + pad_right, pad_left + alt + pad_right) == allele
    moved, short_ref, short_alt = allele.trimmed()
    grows = len(short_alt) - len(short_ref)
    for place in range(len(bases) - len(short_ref) + 1):
        respelt = changed[place : place + len(short_ref) + grows]
        old = bases[place : place + len(short_ref)]
        if bases[:place] + respelt + bases[place + len(short_ref) :] == changed and place >= 1:
            anchor = bases[place - 1]
            assert normalise(repeats, "r", place - 1, anchor + old, anchor + respelt) == allele
            assert moved <= place or (short_ref and short_alt)
    assert normalise(repeats, "r", allele.start, allele.ref, allele.alt) == allele


def reason(genome: ReferenceGenome, name: str, start: int, ref: str, alt: str, window: int = 512) -> tuple[Reason, str]:
    outcome = judge(genome, name, start, ref, (alt,), window).outcomes[0]
    assert isinstance(outcome, Refusal)
    return outcome.reason, outcome.detail


@pytest.mark.parametrize(
    ("name", "start", "ref", "alt", "code", "detail"),
    [
        ("c1", 0, "G", "A", Reason.REF_MISMATCH, "VCF REF G, reference C at c1:1"),
        ("zz", 0, "G", "A", Reason.CONTIG_ABSENT, "contig zz is not in reference small.fa"),
        ("c1", 57, "G", "A", Reason.POSITION_OUT_OF_RANGE, "REF covers c1:58-58, the contig ends at 57"),
        ("c1", 56, "CC", "A", Reason.POSITION_OUT_OF_RANGE, "REF covers c1:57-58, the contig ends at 57"),
        ("c1", -1, "C", "A", Reason.POSITION_OUT_OF_RANGE, "REF covers c1:0-0, the contig ends at 57"),
        ("c1", 0, "C", "*", Reason.SPANNING_DELETION, "ALT is *"),
        ("c1", 0, "C", "<NON_REF>", Reason.NON_REF, "ALT is <NON_REF>"),
        ("c1", 0, "C", "<*>", Reason.NON_REF, "ALT is <*>"),
        ("c1", 0, "C", "<DEL>", Reason.SYMBOLIC, "ALT is <DEL>"),
        ("c1", 0, "C", "<INS:ME:ALU>", Reason.SYMBOLIC, "ALT is <INS:ME:ALU>"),
        ("zz", 0, "N", "<DEL>", Reason.SYMBOLIC, "ALT is <DEL>"),
        ("c1", 0, "C", "C[c2:5[", Reason.BREAKEND, "ALT is C[c2:5["),
        ("c1", 0, "C", "]c2:5]C", Reason.BREAKEND, "ALT is ]c2:5]C"),
        ("c1", 0, "C", "[<ctg>:5[C", Reason.BREAKEND, "ALT is [<ctg>:5[C"),
        ("c1", 0, "C", "C.", Reason.BREAKEND, "ALT is C."),
        ("c1", 0, "C", ".C", Reason.BREAKEND, "ALT is .C"),
        ("c1", 0, "C", "R", Reason.IUPAC, "ALT is R"),
        ("c1", 0, "C", "CN", Reason.IUPAC, "ALT is CN"),
        ("c1", 0, "C", "A-T", Reason.IUPAC, "ALT is A-T"),
        ("c1", 0, "N", "A", Reason.IUPAC, "REF is N"),
        ("c1", 0, "C", ".", Reason.MISSING_ALT, "ALT is ."),
        ("c1", 0, "C", "c", Reason.SAME_AS_REF, "REF and ALT are both C"),
        ("c2", 0, "A", "A" * 130, Reason.TOO_LONG, "0 bp become 129 bp, the limit is 128 bp"),
        ("c2", 0, "A" * 300, "A" * 171, Reason.TOO_LONG, "129 bp become 0 bp, the limit is 128 bp"),
        ("chrM", 10, "A", "C", Reason.REFERENCE_N, "VCF REF A, reference N at chrM:11"),
        ("chrM", 9, "TA", "C", Reason.REFERENCE_N, "VCF REF TA, reference TN at chrM:10"),
        ("chrM", 9, "GA", "C", Reason.REF_MISMATCH, "VCF REF GA, reference TN at chrM:10"),
        (
            "chrM",
            12,
            "CT",
            "T",
            Reason.REFERENCE_N,
            "the base beside the left-aligned change at chrM:12 is N in the reference",
        ),
        ("n", 90, "T", "C", Reason.NO_CONTEXT, "160 of the 180 bases of the window are unknown (N)"),
    ],
)
def test_reasons(genome: ReferenceGenome, name: str, start: int, ref: str, alt: str, code: Reason, detail: str) -> None:
    assert reason(genome, name, start, ref, alt) == (code, detail)


def test_every_reason_has_a_description_and_its_code() -> None:
    assert len({code.description for code in Reason}) == len(Reason)
    assert all(code == code.value == code.name and code.description for code in Reason)


def test_context_is_that_of_the_window(genome: ReferenceGenome) -> None:
    assert judge(genome, "n", 90, "T", ("C",), 40).outcomes == (Allele("n", 90, "T", "C"),)
    assert judge(genome, "n", 90, "T", ("C",), 41).outcomes[0].reason is Reason.NO_CONTEXT  # type: ignore[union-attr]


def test_the_limit_of_length_itself_is_accepted(genome: ReferenceGenome) -> None:
    assert judge(genome, "c2", 0, "A", ("A" * 129,), 512).outcomes == (Allele("c2", 0, "A", "A" * 129),)


def test_one_bad_alt_leaves_the_others(genome: ReferenceGenome) -> None:
    verdict = judge(genome, "chrc1", 8, "TTG", ("TG", "*", "TTG", "<DEL>", "GTTG", "tta"))
    assert verdict.ref_matches is True
    found = [outcome.key if isinstance(outcome, Allele) else outcome.reason for outcome in verdict.outcomes]
    assert found == [
        "c1:8:AT:A",
        Reason.SPANNING_DELETION,
        Reason.SAME_AS_REF,
        Reason.SYMBOLIC,
        "c1:8:A:AG",
        "c1:11:G:A",
    ]


@pytest.mark.parametrize(
    ("name", "start", "ref", "matches"),
    [("c1", 0, "c", True), ("c1", 0, "G", False), ("zz", 0, "C", None), ("c1", 99, "C", None), ("chrM", 10, "A", None)],
)
def test_ref_match_is_told_for_records_without_alt_too(
    genome: ReferenceGenome, name: str, start: int, ref: str, matches: bool | None
) -> None:
    verdict = judge(genome, name, start, ref, ())
    assert verdict.ref_matches is matches
    assert [outcome.reason for outcome in verdict.outcomes if isinstance(outcome, Refusal)] == [Reason.MISSING_ALT]
