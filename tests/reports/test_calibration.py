"""The page of a calibration and the command that makes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.reports.calibration import warnings, write_calibration_page
from dnagrinder.scoring.calibration.calibrate import calibrate
from dnagrinder.scoring.calibration.file import Calibration, read_calibration
from dnagrinder.scoring.calibration.local_posterior import Method
from dnagrinder.scoring.calibration.observations import LabelRules, ScoredVcf, read_scored
from tests.scoring.calibration_inputs import separated, write_scored

METHOD = Method(draws=100)
HOSTILE = "<script>alert(1)</script>"


def measured(path: Path, rows: list[str], **header: str) -> tuple[Calibration, ScoredVcf]:
    """A calibration of made-up rows, and the variants."""
    scored = read_scored(write_scored(path, rows, **header), LabelRules())
    return calibrate(scored, LabelRules(), METHOD), scored


def test_the_page_tells_levels_and_limits(tmp_path: Path) -> None:
    rows = [*separated(1500), *separated(20, term="synonymous_variant", first=4000)]
    write_calibration_page(*measured(tmp_path / "in.vcf", rows), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 3
    for text in (
        "too few variants: 20 pathogenic and 20 benign",
        "Labels are not truth.",
        "Missense: 8 genes",
        "The background is the labelled file itself",
        "Held-out genes",
        "REVEL",
        "0.0441",
    ):
        assert text in page
    assert re.search(r"PP3 Strong</th>.*≤ −", page)
    assert re.search(r"PP3 VeryStrong</th>.*(not met|not used)", page)
    assert not re.search(r"(src|href)=\"(?!#)", page)


def test_equal_calibrations_give_equal_pages(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_calibration_page(*measured(tmp_path / "in.vcf", separated(200)), tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_text_from_outside_is_escaped(tmp_path: Path) -> None:
    rows = [row.replace("GENE0", HOSTILE) for row in separated(200)]
    write_calibration_page(*measured(tmp_path / "<b>in.vcf", rows, checkpoint=HOSTILE), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert HOSTILE not in page
    assert "<b>in" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


def test_a_score_that_says_nothing_is_said_to(tmp_path: Path) -> None:
    calibration, _ = measured(tmp_path / "in.vcf", separated(200, distance=0.0))
    assert "Missense: no level is met" in [finding.title for finding in warnings(calibration)]
    few, _ = measured(tmp_path / "few.vcf", separated(20))
    assert next(warnings(few)).title == "No class could be calibrated"


def test_genes_that_contradict_are_named(tmp_path: Path) -> None:
    swapped = [
        row.replace("GENE0", "LIAR").replace("=Pathogenic", "=B").replace("=Likely_benign", "=P")
        for row in separated(400, genes=1, first=2000)
    ]
    calibration, _ = measured(tmp_path / "in.vcf", separated(400, genes=1) + swapped)
    assert "Missense: held-out genes contradict PP3_Strong" in [finding.title for finding in warnings(calibration)]


def test_the_command_writes_file_and_page(tmp_path: Path) -> None:
    vcf = write_scored(tmp_path / "in.vcf", separated(300))
    unlabelled = [re.sub("CLNSIG=[^;]*;", "", row) for row in separated(60, seed=2)]
    crowd = write_scored(tmp_path / "crowd.vcf", unlabelled)
    arguments = ["calibrate", str(vcf), "--draws", "100", "--background", str(crowd), "--json"]
    outputs = ["--out", str(tmp_path / "c.json"), "--page", str(tmp_path / "c.html")]
    result = CliRunner().invoke(app, [*arguments, *outputs])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert (shown["records"], shown["pathogenic"], shown["benign"]) == (600, 300, 300)
    assert "PP3_Supporting" in shown["levels_used"]["missense"]
    calibration = read_calibration(tmp_path / "c.json")
    assert calibration.digest == shown["sha256"]
    assert [file.role for file in calibration.data] == ["labelled", "background"]
    assert calibration.classes[0].background == 120
    assert shown["sha256"] in (tmp_path / "c.html").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--neutral", "in.vcf"], "--neutral and --reference go together"),
        (["--labels", "truth"], "clinvar or info:TAG"),
        (["--draws", "3"], "draws must lie between"),
        (["--out", "in.vcf"], "is also an input"),
    ],
)
def test_wrong_options_are_told(tmp_path: Path, monkeypatch, options: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_scored(Path("in.vcf"), separated(60))
    result = CliRunner().invoke(app, ["calibrate", "in.vcf", "--out", "c.json", "--page", "c.html", *options])
    assert message in str(result.exception)
    assert not Path("c.json").exists()
