"""The evaluation part of a run file: what it means, and every mistake in it told at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dnagrinder.errors import ConfigError
from dnagrinder.training.evaluation_plan import LENGTHS, EvaluationPlan, Track, parse_evaluation


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.fa", "b.fa", "r.bed", "v.vcf"):
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.fixture
def document() -> dict[str, Any]:
    return {
        "bases": 100,
        "tracks": [
            {"name": "a", "fasta": "a.fa", "intervals": ["1:0-200000", "2:5-9000"]},
            {"name": "b", "fasta": "b.fa", "intervals": ["1:0-200000"], "repeats": "r.bed"},
        ],
        "zero_shot": {"fasta": "a.fa", "vcf": "v.vcf", "interval": "1:0-5000"},
    }


def test_paths_are_relative_to_the_data(folder: Path, document: dict[str, Any]) -> None:
    plan, problems = parse_evaluation(document, folder)
    assert problems == []
    assert plan is not None
    assert plan.tracks[1].repeats == folder / "r.bed"
    assert plan.tracks[0].places == [("1", 0, 200_000), ("2", 5, 9000)]
    assert plan.zero_shot is not None
    assert plan.zero_shot.vcf == folder / "v.vcf"
    assert (plan.bases, plan.seed, plan.lengths, plan.reference_length) == (100, 1, LENGTHS, 1024)
    assert plan.held_out == ["a.fa 1:0-200000", "a.fa 2:5-9000", "b.fa 1:0-200000", "a.fa 1:0-5000"]
    assert plan.with_bases(90).bases == 90
    assert plan.with_bases(None) is plan


def test_variants_may_be_left_out(folder: Path, document: dict[str, Any]) -> None:
    del document["zero_shot"]
    plan, problems = parse_evaluation(document, folder)
    assert problems == []
    assert plan is not None
    assert plan.zero_shot is None


def test_all_problems_at_once(folder: Path, document: dict[str, Any]) -> None:
    document["tracks"][0] |= {"fasta": "absent.fa", "intervals": ["1:9-5", "1:0-10"]}
    document["tracks"][1] |= {"repeats": "absent.bed", "colour": "red"}
    document["tracks"].append("c")
    document["zero_shot"] |= {"vcf": "absent.vcf", "common": 2}
    document |= {"bases": 1, "lengths": [64, 32], "extra": 1}
    plan, problems = parse_evaluation(document, folder)
    assert plan is None
    told = "; ".join(problems)
    for fragment in (
        "track 1: interval '1:9-5' is not",
        "track 1: 1:0-10 is shorter than 2,000",
        "track 1: FASTA",
        "track 2: unknown key(s) colour",
        "track 3: expected a mapping, found 'c'",
        "zero_shot: VCF",
        "zero_shot: common must lie between 0 and 1, found 2",
        "evaluation: unknown key(s) extra",
    ):
        assert fragment in told


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"bases": 1}, "bases must be at least 8 for each track, found 1"),
        ({"lengths": [64, 32]}, "lengths must rise"),
        ({"lengths": [16, 1024]}, "lengths must rise from at least 32"),
        ({"lengths": []}, "lengths must rise"),
        ({"lengths": [64, 128]}, "reference_length 1024 is not one of the lengths"),
        ({"lengths": [1024, 200_001]}, "no interval is as long as the longest of the lengths, 200,001 bases"),
        ({"tracks": []}, "tracks need different names, found none"),
        ({"bases": "many"}, "evaluation: "),
    ],
)
def test_a_wrong_value_is_named(folder: Path, document: dict[str, Any], change: dict[str, Any], fragment: str) -> None:
    plan, problems = parse_evaluation(document | change, folder)
    assert plan is None
    assert any(fragment in problem for problem in problems)


@pytest.mark.parametrize("document", [None, [], {}, {"tracks": "a"}, {"fasta": "a.fa", "intervals": []}])
def test_no_tracks_is_one_problem(folder: Path, document: Any) -> None:
    assert parse_evaluation(document, folder) == (None, ["evaluation: expected a mapping with a list called tracks"])


def test_the_length_curve_needs_room_on_the_first_track(folder: Path) -> None:
    short, long = (Track(name, folder / "a.fa", (f"1:0-{size}",)) for name, size in (("s", 5000), ("l", 200_000)))
    assert EvaluationPlan((long, short)).tracks[0] is long
    with pytest.raises(ConfigError, match="no interval is as long as the longest"):
        EvaluationPlan((short, long))
