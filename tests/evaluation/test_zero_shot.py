"""Questions about known variants: who is asked about what, and what a perfect and a blind predictor answer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from dnagrinder.errors import BuildMismatchError, InputError
from dnagrinder.evaluation.sites import SURROUNDINGS
from dnagrinder.evaluation.zero_shot import Questions, answer, ask
from dnagrinder.genome.reference import ReferenceGenome
from tests.evaluation.conftest import TRAINED, VARIANT_SPACING

PLACE = ("1", TRAINED, 74_000)


@pytest.fixture
def questions(reference: ReferenceGenome, vcf: Path) -> Questions:
    return ask(reference, vcf, PLACE, 0.05, 100, np.random.default_rng(1))


def test_invariant_bases_touch_no_record(questions: Questions, sequence: str) -> None:
    varying = set()
    for number, start in enumerate(range(TRAINED + 300, 74_000, VARIANT_SPACING)):
        varying |= set(range(start, start + (4 if number % 6 == 3 else 1)))
    assert len(questions.invariant) == 100
    for change in (*questions.invariant, *questions.matched):
        assert change.start not in varying
        assert TRAINED + SURROUNDINGS <= change.start < 74_000 - SURROUNDINGS
    for change in questions.invariant:
        assert "ACGT"[change.ref] == sequence[change.start]
        assert change.alt != change.ref
    assert len({change.start for change in questions.invariant}) == 100


def test_common_variants_are_single_base_changes_above_the_frequency(questions: Questions) -> None:
    allowed = {start: number for number, start in enumerate(range(TRAINED + 300, 74_000, VARIANT_SPACING))}
    assert questions.records == len(allowed)
    assert len(questions.common) > 50
    for change in questions.common:
        assert allowed[change.start] % 6 in (0, 1)
        assert (change.alt - change.ref) % 4 == 1 + allowed[change.start] % 3


def test_matches_share_neighbours_and_change(questions: Questions, sequence: str) -> None:
    assert len({change.start for change in questions.matched}) == len(questions.matched) == len(questions.common)
    for change, match in zip(questions.common, questions.matched, strict=True):
        assert (change.ref, change.alt) == (match.ref, match.alt)
        assert sequence[change.start - 1 : change.start + 2] == sequence[match.start - 1 : match.start + 2]


def test_answers_of_an_oracle_and_of_a_blind_predictor(questions: Questions) -> None:
    changes = (*questions.invariant, *questions.common, *questions.matched)
    assert [site.start for site in questions.sites] == [change.start for change in changes]
    oracle = np.full((len(changes), 4), math.log(0.1))
    common = range(len(questions.invariant), len(questions.invariant) + len(questions.common))
    for row, change in enumerate(changes):
        oracle[row, change.ref] = math.log(0.3 if row in common else 0.7)
    blind = np.full((len(changes), 4), math.log(0.25))
    found = answer(questions, {"oracle": oracle, "blind": blind}, 1)
    for part in ("invariant", "common"):
        for measure in ("auroc", "preferred"):
            assert found[part]["predictors"]["oracle"][measure]["value"] == 1.0
            assert found[part]["predictors"]["blind"][measure] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert found["common"]["pairs"] == len(questions.common)


def test_a_vcf_of_another_build_is_refused(reference: ReferenceGenome, vcf: Path, tmp_path: Path, sequence: str) -> None:
    wrong = tmp_path / "wrong.vcf"
    ref = sequence[TRAINED + 300]
    other = "ACGT"[("ACGT".index(ref) + 1) % 4]
    wrong.write_text(
        vcf.read_text().replace(f"\t{TRAINED + 301}\t.\t{ref}\t{other}", f"\t{TRAINED + 301}\t.\t{other}\t{ref}")
    )
    with pytest.raises(BuildMismatchError, match=f"REF of 1:{TRAINED + 301} is {other}.*has {ref}"):
        ask(reference, wrong, PLACE, 0.05, 100, np.random.default_rng(1))


def test_what_a_vcf_lacks_is_said(reference: ReferenceGenome, vcf: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no variant with AF of at least 0\.9"):
        ask(reference, vcf, PLACE, 0.9, 100, np.random.default_rng(1))
    bare = tmp_path / "bare.vcf"
    bare.write_text("##fileformat=VCFv4.2\n##contig=<ID=1>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    with pytest.raises(InputError, match="has no INFO/AF"):
        ask(reference, bare, PLACE, 0.05, 100, np.random.default_rng(1))
    bare.write_text("nonsense\n")
    with pytest.raises(InputError, match="cannot be read"):
        ask(reference, bare, PLACE, 0.05, 100, np.random.default_rng(1))
