"""Origin of a child's allele: what genotypes allow to say, and that a missing call never makes a new allele."""

from __future__ import annotations

import itertools

import pytest

from dnagrinder.genome.inheritance import Origin, has_two_copies, judge, passed_by, read_call

NOBODY: frozenset[str] = frozenset()
ABSENT = "the sheet names no father"


def origin(contig: str, sex: str | None, child: str, mother: str | None, father: str | None, alt: int = 1) -> str:
    """Origin and, where it cannot be told, the reason."""
    parents = {
        "mother": read_call(mother) if mother is not None else "the sheet names no mother",
        "father": read_call(father) if father is not None else ABSENT,
    }
    found = judge(contig, sex, read_call(child), alt, parents, NOBODY)
    return found.reason or found.origin.value


@pytest.mark.parametrize(
    ("child", "mother", "father", "expected"),
    [
        ("0/1", "0/0", "0/0", "de_novo"),
        ("0|1", "0|0", "0/0", "de_novo"),
        ("1/1", "0/0", "0/0", "de_novo"),
        ("0/1", "0/1", "0/0", "inherited"),
        ("0/1", "0/0", "1|1", "inherited"),
        ("0/1", "./.", "0/0", "the mother's call is missing or incomplete"),
        ("0/1", "0/0", ".", "the father's call is missing or incomplete"),
        ("0/1", "0/.", "0/0", "the mother's call is missing or incomplete"),
        ("0/1", "0/0", "0/2", "the father carries another ALT in the record"),
        ("0/1", "./.", "0/1", "inherited"),
        ("0/1", "./1", "0/0", "inherited"),
        ("./1", "0/0", "0/0", "the proband's call is incomplete"),
        ("0/0", "0/0", "0/0", "the proband's genotype does not hold the allele"),
        ("./.", "0/0", "0/0", "the proband's genotype does not hold the allele"),
        ("0/1", "0/0", None, ABSENT),
        ("0/1", "0/1", None, "inherited"),
        ("0/1", "what?", "0/0", "the mother's call is missing or incomplete"),
        ("/0|1", "|0/0", "/0|0", "de_novo"),  # VCF 4.4: phase in front
        ("0/1", "/0|1", "0/0", "inherited"),
        ("0/1", "/.|0", "0/0", "the mother's call is missing or incomplete"),
    ],
)
def test_autosomes(child: str, mother: str | None, father: str | None, expected: str) -> None:
    for contig in ("1", "chr22", "GL000220.1"):
        for sex in ("male", "female", None):
            assert origin(contig, sex, child, mother, father) == expected


@pytest.mark.parametrize(
    ("contig", "sex", "child", "mother", "father", "expected"),
    [
        ("X", "male", "1", "0/0", "1", "de_novo"),  # a son's X is not his father's
        ("chrX", "male", "1/1", "0/0", "./.", "de_novo"),
        ("X", "male", "/1", "/0|0", "|1", "de_novo"),
        ("X", "male", "/1|1", "0/0", "0", "de_novo"),
        ("X", "male", "1", "0/1", "0", "inherited"),
        ("X", "male", "1", "./.", "0", "the mother's call is missing or incomplete"),
        ("X", "male", "0/1", "0/0", "1", "inherited"),  # pseudoautosomal
        ("X", "male", "0/1", "0/0", ".", "the father's call is missing or incomplete"),
        ("X", "female", "0/1", "0/0", "1", "inherited"),
        ("X", "female", "0/1", "0/0", "0", "de_novo"),
        ("X", None, "1", "0/0", "0", "the proband's sex is not stated, and the allele lies on X"),
        ("Y", "male", "1", ".", "0", "de_novo"),
        ("chrY", "male", "1", ".", "1", "inherited"),
        ("Y", "female", "1", ".", "0", "the proband is female, and the allele lies on Y"),
        ("24", None, "1", ".", "0", "the proband's sex is not stated, and the allele lies on Y"),
        ("MT", None, "1", "0", "1", "de_novo"),
        ("chrM", "male", "1", "1", "0", "inherited"),
    ],
)
def test_sex_chromosomes_and_mitochondrion(
    contig: str, sex: str | None, child: str, mother: str, father: str, expected: str
) -> None:
    assert origin(contig, sex, child, mother, father) == expected


def test_new_needs_complete_reference_calls_of_all_who_decide() -> None:
    calls = ["0/0", "0/1", "1/1", "0/2", "./.", "./0", "./1", ".", "0", "1"]
    for child, mother, father in itertools.product(["0/1", "1/1", "0|1"], calls, calls):
        is_new = origin("5", "male", child, mother, father) == "de_novo"
        assert is_new == ({mother, father} <= {"0/0", "0"})


def test_an_allele_that_a_parent_has_in_another_record_is_inherited() -> None:
    parents = {"mother": read_call("0/0"), "father": read_call("0/0")}
    assert judge("1", None, read_call("0/1"), 1, parents, frozenset({"father"})).origin is Origin.INHERITED
    # but not from the parent who does not pass it on
    assert judge("X", "male", read_call("1"), 1, parents, frozenset({"father"})).origin is Origin.DE_NOVO


@pytest.mark.parametrize(
    ("child", "mother", "father", "expected"),
    [
        ("0/1", "0/1", "0/0", "mother"),
        ("0/1", "0/0", "1/1", "father"),
        ("1/2", "0/1", "0/0", "mother"),
        ("1/2", "0/1", "0/2", "mother"),  # a multi-allelic site: the father's other ALT is not this one
        ("1/2", "2/2", "0/1", "father"),
        ("1/2", "1/2", "1/2", None),
        ("0/1", "0/1", "./2", None),
        ("0/1", "0/1", "0/1", None),
        ("0/1", "0/1", "./.", None),
        ("0/1", "0/0", "0/0", None),
        ("1/1", "0/1", "0/0", None),
        ("./1", "0/1", "0/0", None),
    ],
)
def test_the_parent_an_allele_comes_from(child: str, mother: str, father: str, expected: str | None) -> None:
    assert passed_by(1, read_call(child), {"mother": read_call(mother), "father": read_call(father)}, NOBODY) == expected


def test_a_parent_may_carry_the_allele_in_another_record() -> None:
    child, parents = read_call("0/1"), {"mother": read_call("0/1"), "father": read_call("0/0")}
    assert passed_by(1, child, parents, frozenset({"mother"})) == "mother"
    assert passed_by(1, child, parents, frozenset({"father"})) is None
    assert passed_by(1, child, {**parents, "mother": read_call("0/0")}, frozenset({"mother"})) == "mother"


def test_y_and_mt_have_one_copy() -> None:
    assert not any(map(has_two_copies, ("Y", "chrY", "24", "MT", "chrM", "M", "chrmt")))
    assert all(map(has_two_copies, ("1", "chr22", "X", "chrX", "23", "GL000220.1")))


def test_copies_are_told_from_phased_calls_alone() -> None:
    assert [read_call(text).copy_of(1) for text in ("0|1", "1|0", "0/1", "1|1", "1", ".|1", "0|1/0")] == [1, 0, *[None] * 5]
    assert [read_call(text).copy_of(1) for text in ("|0|1", "|1|0", "/0|1", "|0/1", "/1|1", "|1")] == [1, 0, *[None] * 4]
    assert read_call("1|2").copy_of(2) == 1
