"""From a scored, labelled VCF to a calibration file, and from that to the evidence of an allele."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.variants import Allele
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.calibration.calibrate import calibrate
from dnagrinder.scoring.calibration.classes import CLASSES, consequence_class
from dnagrinder.scoring.calibration.evidence import BY_CODE
from dnagrinder.scoring.calibration.file import (
    Calibration,
    judge,
    of_json,
    read_calibration,
    to_json,
    usable,
    write_calibration,
)
from dnagrinder.scoring.calibration.hold_out import HeldOut, HoldOut, gene_folds, rows_of
from dnagrinder.scoring.calibration.local_posterior import Method
from dnagrinder.scoring.calibration.observations import Fate, LabelRules, read_scored
from tests.scoring.calibration_inputs import EXPERT, separated, write_scored

METHOD = Method(draws=100)
ALL = LabelRules(min_stars=0, max_frequency=1.0)


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    """Missense with enough variants, synonymous with too few, nonsense which is never calibrated."""
    rows = [*separated(1500), *separated(20, term="synonymous_variant", first=4000)]
    rows += separated(200, term="nonsense", first=5000)
    path = tmp_path_factory.mktemp("scored") / "labelled.vcf"
    return calibrate(read_scored(write_scored(path, rows), LabelRules()), LabelRules(), METHOD)


def allele(contig: str = "chr1", alt: str = "C") -> Allele:
    return Allele(contig, 9, "A", alt)


# Reading


def test_every_record_has_one_fate(tmp_path: Path) -> None:
    rows = [
        f"chr1 1 A C CLNSIG=Pathogenic;{EXPERT};DG_SCORE=-1",
        f"chr1 2 A C CLNSIG=Benign/Likely_benign;{EXPERT};DG_SCORE=1",
        f"chr1 3 A C CLNSIG=Uncertain_significance;{EXPERT};DG_SCORE=1",
        "chr1 4 A C DG_SCORE=1",
        "chr1 5 A C CLNSIG=Benign;CLNREVSTAT=no_assertion_criteria_provided;DG_SCORE=1",
        f"chr1 6 A C CLNSIG=Benign;{EXPERT};AF=0.02;DG_SCORE=1",
        f"chr1 7 A CT CLNSIG=Benign;{EXPERT};DG_SCORE=1",
        f"chr1 8 A C CLNSIG=Benign;{EXPERT};DG_SCORE=.",
        f"chr1 9 A C,G CLNSIG=Benign;{EXPERT};DG_SCORE=1,2",
        f"chr1 1 A C CLNSIG=Benign;{EXPERT};DG_SCORE=1",
        f"chr1 10 A C CLNSIG=2;{EXPERT};DG_SCORE=1",
        f"chr1 11 A . CLNSIG=Benign;{EXPERT}",
        f"chr1 12 A C CLNSIG=Pathogenic|risk_factor;{EXPERT};DG_SCORE=1",
    ]
    scored = read_scored(write_scored(tmp_path / "in.vcf", rows), LabelRules())
    assert sum(scored.fates.values()) == len(rows)
    assert {fate.value: count for fate, count in scored.fates.items() if count} == {
        "pathogenic": 1,
        "benign": 1,
        "unlabelled": 4,
        "few_stars": 1,
        "frequent": 1,
        "not_snv": 2,
        "not_scored": 1,
        "multiallelic": 1,
        "duplicate": 1,
    }
    assert [one.pathogenic for one in scored.observations] == [True, False, None, None, None, None, None]


def test_labels_of_another_field(tmp_path: Path) -> None:
    rows = ["chr1 1 A C TRUTH=LP;DG_SCORE=1", "chr1 2 A C TRUTH=b;DG_SCORE=1", "chr1 3 A C TRUTH=vus;DG_SCORE=1"]
    rules = LabelRules.of_option("info:TRUTH", 1, 0.01)
    scored = read_scored(write_scored(tmp_path / "in.vcf", rows), rules)
    assert [one.pathogenic for one in scored.observations] == [True, False, None]
    with pytest.raises(ConfigError, match="clinvar or info:TAG"):
        LabelRules.of_option("clinva", 1, 0.01)
    with pytest.raises(ConfigError, match="no name of an INFO field"):
        LabelRules.of_option("info:", 1, 0.01)


def test_files_that_cannot_be_calibrated_on(tmp_path: Path) -> None:
    path = write_scored(tmp_path / "in.vcf", ["chr1 1 A C DG_SCORE=1"])
    with pytest.raises(InputError, match="no INFO/ABSENT"):
        read_scored(path, LabelRules("ABSENT"))
    with pytest.raises(InputError, match=r"no scored variant has a label that counts \(1 uncertain"):
        calibrate(read_scored(path, LabelRules()), LabelRules(), METHOD)
    bare = tmp_path / "bare.vcf"
    bare.write_text("".join(line for line in path.read_text().splitlines(True) if "##dnagrinder" not in line))
    with pytest.raises(InputError, match="holds no scores of ours"):
        read_scored(bare, LabelRules())
    unstarred = tmp_path / "unstarred.vcf"
    unstarred.write_text("".join(line for line in path.read_text().splitlines(True) if "CLNREVSTAT" not in line))
    with pytest.raises(ConfigError, match="--min-stars 0"):
        read_scored(unstarred, LabelRules())


def test_a_background_scored_otherwise_is_refused(tmp_path: Path) -> None:
    labelled = read_scored(write_scored(tmp_path / "in.vcf", separated(60)), LabelRules())
    other = read_scored(write_scored(tmp_path / "other.vcf", separated(60), weights="w1"), LabelRules(tag=None))
    with pytest.raises(InputError, match="different checkpoint"):
        calibrate(labelled, LabelRules(), METHOD, background=other)


@pytest.mark.parametrize(
    ("consequence", "expected"),
    [
        (None, "unannotated"),
        ("missense_variant&splice_region_variant", "missense"),  # VEP
        ("splice_region_variant&intron_variant", "splice_region"),  # SnpEff
        ("synonymous", "synonymous"),  # bcftools csq
        ("non-coding_transcript_variant&nonsense", "loss_of_function"),  # ClinVar
        ("5_prime_UTR_variant", "5_prime_utr"),
        ("no_sequence_alteration", "other"),
    ],
)
def test_consequences_fall_into_classes(consequence: str | None, expected: str) -> None:
    assert consequence_class(consequence) == expected


def test_the_class_is_that_of_the_entry_chosen(tmp_path: Path) -> None:
    entries = (
        "upstream_gene_variant|MODIFIER|NEXT",
        "intron_variant|MODIFIER|A",
        "missense_variant&splice_region_variant||B",
    )
    row = f"chr1 1 A C CLNSIG=Pathogenic;DG_SCORE=-1;ANN={','.join(f'C|{entry}' for entry in entries)}"
    (found,) = read_scored(write_scored(tmp_path / "in.vcf", [row]), ALL).observations
    assert (found.group, found.gene) == ("missense", "B")


def test_no_term_is_in_two_classes() -> None:
    terms = [term for members in CLASSES.values() for term in members]
    assert len(terms) == len(set(terms))
    assert all(not term.endswith("_variant") and term == term.lower() for term in terms)


# Calibrating


def test_each_class_is_calibrated_or_says_why_not(calibration: Calibration) -> None:
    by_name = {one.name: one for one in calibration.classes}
    assert list(by_name) == ["loss_of_function", "missense", "synonymous"]
    assert by_name["missense"].reason is None
    assert (by_name["missense"].pathogenic, by_name["missense"].benign, by_name["missense"].genes) == (1500, 1500, 8)
    assert by_name["missense"].contigs == ("1", "2")
    assert by_name["synonymous"].reason == (
        "too few variants: 20 pathogenic and 20 benign, needed are 10 of each and 100 together"
    )
    assert by_name["loss_of_function"].reason == "PVS1, not PP3 or BP4, is the criterion for loss of function"
    assert by_name["loss_of_function"].thresholds == ()


def test_thresholds_point_downwards_for_pathogenic(calibration: Calibration) -> None:
    found = calibration.of_class("missense")
    assert found is not None
    begins = {level.code: at for level, at in usable(found.thresholds, METHOD).items()}
    assert begins["PP3_Strong"] < begins["PP3_Moderate"] < begins["PP3_Supporting"] < -1.5
    assert -1.5 < begins["BP4_Supporting"] < begins["BP4_Moderate"]
    assert "PP3_VeryStrong" not in begins
    assert all(one.low is None or one.high is None or one.low <= one.high for one in found.thresholds)
    assert [point.score for point in found.curve] == sorted(point.score for point in found.curve)


def test_benign_variants_of_genes_without_a_pathogenic_one_do_not_count(tmp_path: Path) -> None:
    rows = [*separated(60), f"chr1 999 A C CLNSIG=Benign;{EXPERT};GENEINFO=SAFE:1;MC=S|missense_variant;DG_SCORE=0"]
    found = calibrate(read_scored(write_scored(tmp_path / "in.vcf", rows), ALL), ALL, METHOD).of_class("missense")
    assert found is not None
    assert (found.benign, found.dropped, found.background) == (60, 1, 121)


def test_a_whole_gene_is_in_one_fold() -> None:
    places = gene_folds(["a"] * 50 + ["b"] * 30 + ["c"] * 20 + ["d"] * 10 + ["e"] * 10, folds=3)
    assert places == {"a": 0, "b": 1, "c": 2, "d": 2, "e": 1}


def test_held_out_genes_are_judged_by_the_others(tmp_path: Path) -> None:
    """One gene's labels are the wrong way round: thresholds of the other genes must fail on it."""
    honest = separated(400, genes=1, seed=3)
    swapped = [
        row.replace("GENE0", "LIAR").replace("=Pathogenic", "=B").replace("=Likely_benign", "=P")
        for row in separated(400, genes=1, first=2000)
    ]
    found = calibrate(read_scored(write_scored(tmp_path / "in.vcf", honest + swapped), ALL), ALL, METHOD).of_class(
        "missense"
    )
    assert found is not None
    assert found.hold_out is not None
    assert found.hold_out.folds == 2
    counts = {row.code: row for row in found.hold_out.rows}
    assert sum(row.pathogenic + row.benign for row in found.hold_out.rows) == 1600
    assert found.hold_out.ratio(counts["PP3_Strong"])[2] < 1
    assert found.hold_out.ratio(counts["BP4_Moderate"])[1] > 1


def test_one_gene_cannot_be_held_out(tmp_path: Path) -> None:
    scored = read_scored(write_scored(tmp_path / "in.vcf", separated(100, genes=1)), ALL)
    found = calibrate(scored, ALL, METHOD).of_class("missense")
    assert found is not None
    assert found.hold_out is None


def test_ratio_of_held_out_variants() -> None:
    rows = rows_of(["PP3_Strong"] * 9 + ["indeterminate"] * 11 + ["BP4_Strong"], [True] * 9 + [False] * 12)
    assert rows == (HeldOut("PP3_Strong", 9, 0), HeldOut("indeterminate", 0, 11), HeldOut("BP4_Strong", 0, 1))
    ratio, low, high = HoldOut(2, rows, 0).ratio(rows[0])
    assert ratio == pytest.approx((9.5 / 10) / (0.5 / 13))
    assert low < ratio < high


# The file


def test_the_file_holds_all_of_a_calibration(calibration: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    write_calibration(calibration, path)
    again = read_calibration(path)
    assert again == calibration
    assert to_json(again) == path.read_text() == to_json(calibration)
    assert again.digest == calibration.digest
    stated = json.loads(path.read_text())
    assert stated["origin"]["checkpoint_sha256"] == "w0"
    assert [one["code"] for one in stated["classes"][1]["thresholds"]] == list(BY_CODE)


def _lenient(stated: dict) -> None:
    stated["classes"][1]["thresholds"][1]["bound"] = 5.0


def _overlapping(stated: dict) -> None:
    for threshold in stated["classes"][1]["thresholds"][:3]:
        threshold["bound"] = 3.0


def _points(stated: dict) -> None:
    stated["classes"][1]["thresholds"][0]["points"] = 8


def _gone(stated: dict) -> None:
    del stated["classes"][1]["thresholds"][0]


def _origin(stated: dict) -> None:
    stated["origin"]["checkpoint_sha256"] = ""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_lenient, "a stronger level of PP3 is easier to reach"),
        (_overlapping, "both PP3 and BP4"),
        (_points, "has 1 points, found 8"),
        (_gone, "either a reason or a threshold for each"),
        (_origin, "checkpoint_sha256 not stated"),
        (lambda stated: stated.update(format="other"), "no 'dnagrinder calibration 1' file"),
        (lambda stated: stated.update(extra=1), "extra"),
        (lambda stated: stated.pop("method"), "method"),
        (lambda stated: stated["classes"].append(stated["classes"][0]), "stands twice"),
    ],
)
def test_a_spoilt_file_is_refused(calibration: Calibration, tmp_path: Path, spoil, message: str) -> None:
    stated = json.loads(to_json(calibration))
    spoil(stated)
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(stated))
    with pytest.raises(InputError, match=message):
        read_calibration(path)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"format": "dnagrinder calibration 1", "classes": 3}'])
def test_what_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "no.json"
    path.write_text(text)
    with pytest.raises(InputError):
        read_calibration(path)
    if text:
        with pytest.raises(InputError):
            of_json(text)


# Applying


def test_scores_get_their_level(calibration: Calibration) -> None:
    uses = Judge(calibration, calibration.origin)
    found = calibration.of_class("missense")
    assert found is not None
    for level, at in usable(found.thresholds, METHOD).items():
        outside = at + METHOD.increment * (1 if level.points > 0 else -1)
        assert uses.evidence(allele(), "missense_variant", at).code == level.code
        assert abs(uses.evidence(allele(), "missense_variant", outside).points or 0) < abs(level.points)
    assert uses.evidence(allele(), "missense_variant", -99.0).code == "PP3_Strong"
    assert uses.evidence(allele(), "missense_variant", -99.0).points == 4
    middle = uses.evidence(allele("2"), "missense_variant", -1.5)
    assert (middle.code, middle.points) == ("indeterminate", 0)


def test_levels_beyond_what_windows_can_show_are_not_given(calibration: Calibration) -> None:
    found = calibration.of_class("missense")
    assert found is not None
    reached = tuple(replace(one, bound=-9.0) if one.level.points == 8 else one for one in found.thresholds)
    assert judge(reached, -50.0, METHOD).code == "PP3_Strong"
    assert judge(reached, -50.0, replace(METHOD, points=2000)).code == "PP3_VeryStrong"


@pytest.mark.parametrize("part", ["checkpoint", "tokenizer", "reference", "parameters"])
def test_another_origin_has_no_calibration(calibration: Calibration, part: str) -> None:
    other = replace(calibration.origin, **{f"{part}_sha256": "another"})
    found = Judge(calibration, other).evidence(allele(), "missense_variant", -9.0)
    assert (found.code, found.points) == (f"no_calibration:{part}", None)


@pytest.mark.parametrize(
    ("one", "consequence", "score", "reason"),
    [
        (Allele("chr1", 9, "A", "AC"), "missense_variant", -9.0, "not_snv"),
        (allele(), "missense_variant", None, "not_scored"),
        (allele(), "missense_variant", float("nan"), "not_scored"),
        (allele(), "synonymous_variant", -9.0, "class"),
        (allele(), "stop_gained", -9.0, "class"),
        (allele(), None, -9.0, "class"),
        (allele("chr3"), "missense_variant", -9.0, "contig"),
    ],
)
def test_outside_its_scope_there_is_no_calibration(calibration, one, consequence, score, reason) -> None:
    found = Judge(calibration, calibration.origin).evidence(one, consequence, score)
    assert (found.code, found.points) == (f"no_calibration:{reason}", None)


def test_fates_have_a_description_each() -> None:
    from dnagrinder.scoring.calibration.observations import FATES

    assert set(FATES) == set(Fate)
