"""Means of neutral contexts: what they are, where they come from, and that scores lose them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import BuildMismatchError, ConfigError, InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.calibration.calibrate import calibrate, means_at
from dnagrinder.scoring.calibration.file import of_json, read_calibration, to_json
from dnagrinder.scoring.calibration.local_posterior import Method
from dnagrinder.scoring.calibration.neutral import (
    WEIGHT,
    NeutralCorrection,
    NeutralMeans,
    all_contexts,
    context_key,
    neutral_means,
)
from dnagrinder.scoring.calibration.observations import LabelRules, read_scored
from dnagrinder.sequence import reverse_complement
from tests.scoring.calibration_inputs import write_scored

UNLABELLED = LabelRules(tag=None, max_frequency=1.0)
ANY = LabelRules(min_stars=0, max_frequency=1.0)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory):
    """400 random bases on chr1, all known but the 100th."""
    bases = "".join(np.random.default_rng(4).choice(list("ACGT"), 400))
    path = tmp_path_factory.mktemp("genome") / "reference.fa"
    path.write_text(f">chr1\n{bases[:99]}N{bases[100:]}\n")
    with ReferenceGenome.open(path) as reference:
        yield reference


def rows(genome: ReferenceGenome, score, first: int = 0, last: int = 400) -> list[str]:
    """A change at every known base, its score given by ``score(ref)``."""
    found = []
    for start in range(first, last):
        ref = genome.fetch("chr1", start, start + 1)
        if ref != "N":
            alt = "ACGT"[("ACGT".index(ref) + 1 + start % 3) % 4]
            found.append(f"chr1 {start + 1} {ref} {alt} DG_SCORE={score(ref):.6g}")
    return found


def test_a_context_and_its_reverse_complement_are_one() -> None:
    assert len(all_contexts()) == len(set(all_contexts())) == 1536
    assert context_key("ACGTA", "C") == context_key("TACGT", "G") == "TACGT>G"
    for key in all_contexts()[::37]:
        five, _, alt = key.partition(">")
        assert context_key(reverse_complement(five), reverse_complement(alt)) == key


def test_means_are_drawn_towards_shorter_contexts() -> None:
    """One context seen 30 times with 2, another of the same trinucleotide 10 times with -1."""
    means = neutral_means([("ACGTA".replace("G", "C"), "T", 2.0)] * 30 + [("GCCTG", "T", -1.0)] * 10)
    overall = (30 * 2 - 10) / 40
    triple = (50 + WEIGHT * ((50 + WEIGHT * overall) / (40 + WEIGHT))) / (40 + WEIGHT)
    assert means.of("ACCTA", "T") == pytest.approx((60 + WEIGHT * triple) / 40)
    assert means.of("GCCTG", "T") == pytest.approx((-10 + WEIGHT * triple) / 20)
    assert means.of("TCCTT", "T") == pytest.approx(triple)
    assert means.of("CAGGT", "A") == means.of("ACCTG", "T")
    assert means.of("AAAAA", "G") == pytest.approx(overall)
    assert means.sites == 40


def test_a_table_with_a_hole_is_refused() -> None:
    whole = dict.fromkeys(all_contexts(), 0.5)
    assert NeutralMeans(whole, 3).of("ACGTA", "C") == 0.5
    for spoilt in ({**whole, "AAAAA>C": float("nan")}, dict(list(whole.items())[1:])):
        with pytest.raises(InputError, match="1536"):
            NeutralMeans(spoilt, 3)
    with pytest.raises(InputError, match="no scored single-base change"):
        neutral_means([])


def test_scores_that_are_all_context_become_nothing(genome: ReferenceGenome, tmp_path: Path) -> None:
    """Where a score depends on the substitution alone, its means take all of it away."""
    path = write_scored(tmp_path / "n.vcf", rows(genome, lambda ref: -3.0 if ref in "CG" else 1.0))
    means = means_at(read_scored(path, UNLABELLED), genome)
    scored = read_scored(path, UNLABELLED, NeutralCorrection(means, genome))
    left = np.array([one.score for one in scored.observations])
    assert np.abs(left).max() < 0.6
    assert np.abs(left).mean() < 0.2
    assert scored.fates["no_context"] == 4 + 4  # the ends, and beside N


def test_regions_choose_the_sites(genome: ReferenceGenome, tmp_path: Path) -> None:
    path = write_scored(tmp_path / "n.vcf", rows(genome, lambda _: 1.0))
    regions = pd.DataFrame({"contig": ["chr1", "chr1"], "start": [200, 210], "end": [260, 220]})
    assert means_at(read_scored(path, UNLABELLED), genome, regions).sites == 60
    with pytest.raises(InputError, match="no scored single-base change"):
        means_at(read_scored(path, UNLABELLED), genome, regions.iloc[:0])


def test_another_reference_is_noticed(genome: ReferenceGenome, tmp_path: Path) -> None:
    for row in ("chr1 500 A C DG_SCORE=1", f"chr1 11 {'AC'[genome.fetch('chr1', 10, 11) == 'A']} G DG_SCORE=1"):
        scored = read_scored(write_scored(tmp_path / "n.vcf", [row]), UNLABELLED)
        with pytest.raises(BuildMismatchError, match="give the FASTA"):
            means_at(scored, genome)


def test_a_calibration_keeps_and_applies_its_means(genome: ReferenceGenome, tmp_path: Path) -> None:
    """The same scores, once bare and once with +5 for every change of a C or G: corrected they get the same evidence."""
    generator = np.random.default_rng(2)
    neutral = write_scored(tmp_path / "n.vcf", rows(genome, lambda ref: 5.0 * (ref in "CG")))
    means = means_at(read_scored(neutral, UNLABELLED), genome)
    labelled = []
    for row in rows(genome, lambda _: 0.0, 2, 398):
        label = "Pathogenic" if generator.random() < 0.5 else "Benign"
        bare = generator.normal(-4.0 if label == "Pathogenic" else 0.0)
        shift = 5.0 * (row.split()[2] in "CG")
        labelled.append(row.replace("DG_SCORE=0", f"DG_SCORE={bare + shift};CLNSIG={label};MC=S|missense_variant"))
    scored = read_scored(write_scored(tmp_path / "l.vcf", labelled), ANY, NeutralCorrection(means, genome))
    calibration = calibrate(scored, ANY, Method(draws=100), neutral=means)
    assert of_json(to_json(calibration)) == calibration
    with pytest.raises(ConfigError, match="--reference"):
        Judge(calibration, calibration.origin)
    judge = Judge(calibration, calibration.origin, genome)
    codes = {}
    for base in "AC":
        start = next(s for s in range(5, 390) if genome.fetch("chr1", s, s + 1) == base)
        one = Allele("chr1", start, base, "T")
        codes[base] = [judge.evidence(one, "missense_variant", score + 5.0 * (base == "C")).code for score in (-7, 3)]
    assert codes["A"] == codes["C"]
    assert codes["A"][0].startswith("PP3")
    assert codes["A"][1].startswith("BP4")
    edge = Allele("chr1", 0, genome.fetch("chr1", 0, 1), "ACGT"["ACGT".index(genome.fetch("chr1", 0, 1)) - 1])
    assert judge.evidence(edge, "missense_variant", -7.0).code == "no_calibration:context"


def test_the_command_corrects_for_context(genome: ReferenceGenome, tmp_path: Path) -> None:
    labelled = []
    for number, row in enumerate(rows(genome, lambda _: 1.0)):
        label = "CLNSIG=Pathogenic" if number % 2 else "CLNSIG=Benign"
        labelled.append(f"{row};{label};MC=S|missense_variant")
    vcf = write_scored(tmp_path / "l.vcf", labelled)
    neutral = write_scored(tmp_path / "n.vcf", rows(genome, lambda _: 1.0))
    regions = tmp_path / "n.bed"
    regions.write_text("chr1\t200\t250\n")
    out = tmp_path / "c.json"
    options = ["--neutral", str(neutral), "--neutral-regions", str(regions), "--reference", str(genome.path)]
    options += ["--min-stars", "0", "--draws", "100", "--out", str(out), "--page", str(tmp_path / "c.html")]
    result = CliRunner().invoke(app, ["calibrate", str(vcf), *options])
    assert result.exit_code == 0, result.output
    calibration = read_calibration(out)
    assert calibration.neutral is not None
    assert calibration.neutral.sites == 50
    assert [file.role for file in calibration.data] == ["labelled", "neutral", "neutral_regions"]
    assert {point.score for point in calibration.classes[0].curve} == {0.0}  # all of every score was context
    assert "corrected for neutral context" in (tmp_path / "c.html").read_text()
