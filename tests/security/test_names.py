"""Names and texts made to break out of commands, pages and folders, through the whole workflow."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner
from workflow_run import Run

from dnagrinder.cli import app
from dnagrinder.errors import ConfigError
from dnagrinder.samplesheet import safe_name
from dnagrinder.settings import load_settings
from dnagrinder.training.run_file import read_run_file
from tests.faults.conftest import new_run, tiny

__all__ = ["new_run", "tiny"]
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
SHELL = "a b'c\"d;touch pwned;$(touch pwned)`touch pwned`&|*?~"
COLUMN = f"{SHELL}{SCRIPT}"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 9)}]\n" for last, name in zip("abcdefg", "bcdefgh", strict=True)
)
FOLDER, FILE = "in 'put\" $(touch pwned)", "-x;touch pwned; ' \" $HOME `touch pwned` & é.vcf"


def hostile(source: Path, target: Path) -> None:
    """The run's VCF with another name for its sample, and scripts in ID, FILTER, INFO and the header."""
    lines = []
    for line in source.read_text().splitlines():
        fields = line.split("\t")
        if line.startswith("#CHROM"):
            lines.append('##INFO=<ID=CSQ,Number=.,Type=String,Description="Format: Allele|Consequence|SYMBOL|IMPACT">')
            lines.append(f'##INFO=<ID=NOTE,Number=1,Type=String,Description="{SCRIPT}">')
            fields[9] = COLUMN
        elif not line.startswith("#"):
            text = SCRIPT.replace(" ", "_").replace("=", "~")
            fields[2] = SCRIPT.replace(" ", "_")
            fields[7] = f"NOTE={text};CSQ={fields[4]}|{text}|{text}|HIGH"
        lines.append("\t".join(fields))
    target.parent.mkdir(parents=True)
    target.write_text("\n".join(lines) + "\n")


def test_hostile_names_and_texts_do_no_harm(new_run: Callable[..., Run]) -> None:
    run = new_run(results_dir="out 'of\" $(touch pwned)", regions=None)
    hostile(run.folder / "one.vcf", run.folder / FOLDER / FILE)
    sheet = ["sample\tvcf\tvcf_sample", f"one\t{FOLDER}/{FILE}\t{COLUMN}"]
    (run.folder / "config" / "samples.tsv").write_text("\n".join(sheet) + "\n")
    run.snakemake("-p")
    assert not list(run.folder.rglob("pwned"))
    results = run.folder / "out 'of\" $(touch pwned)"
    rows = pq.read_table(results / "samples" / "one" / "scores.parquet").to_pylist()
    assert rows[0]["id"] == SCRIPT.replace(" ", "_")
    assert "<script>" in str(rows[0]["gene"])
    pages = list(results.rglob("*.html"))
    assert len(pages) == 2
    for page in pages:
        text = page.read_text()
        assert "<script>alert" not in text
        assert "<img src" not in text
        assert "onerror=alert" not in text.replace(html.escape("onerror=alert"), "").replace("_onerror=alert", "")
    assert html.escape("<script>alert(1)</script>") in (results / "samples" / "one" / "report.html").read_text()
    json.loads((results / "cohort" / "dnagrinder_mqc.json").read_text())


@pytest.mark.parametrize(
    "name", ["../up", "/etc/x", "a/b", "..", ".hidden", "-option", "a b", "a\nb", "a;b", "$(x)", "<b>", "{x}", "é", "a\\b"]
)
def test_a_sample_cannot_leave_the_results(tmp_path: Path, name: str) -> None:
    (tmp_path / "samples.tsv").write_text(f"sample\tvcf\n{name}\tx.vcf\n")
    settings = {"reference": "x.fa", "samples": "samples.tsv", "checkpoint": "mini", "check_inputs": False}
    with pytest.raises(ConfigError):
        load_settings(settings, tmp_path)


@pytest.mark.parametrize("name", ["../../up.vcf", "/etc/passwd", "..", "a/../b.vcf", "-x.vcf", ".vcf.gz", "a\nb", "*.vcf"])
def test_a_callset_cannot_leave_the_results(name: str) -> None:
    safe = safe_name(name)
    assert Path(safe).name == safe
    assert safe[0] not in ".-"
    assert safe.isascii()
    assert safe.isprintable()


def test_a_link_in_the_sheet_is_read_and_never_written(tmp_path: Path) -> None:
    """Two names of one file are one callset; results go to the folder of results, not to where a link points."""
    (tmp_path / "real").mkdir()
    header = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n"
    (tmp_path / "real" / "x.vcf").write_text(header)
    (tmp_path / "link.vcf").symlink_to(tmp_path / "real" / "x.vcf")
    (tmp_path / "x.fa").write_text(">1\nA\n")
    (tmp_path / "samples.tsv").write_text("sample\tvcf\na\tlink.vcf\nb\treal/x.vcf\n")
    settings = load_settings({"reference": "x.fa", "samples": "samples.tsv", "checkpoint": "mini"}, tmp_path)
    assert [callset.name for callset in settings.callsets] == ["link"]
    assert {sample.callset for sample in settings.samples} == {"link"}


def test_a_file_like_an_option_is_a_file_behind_two_dashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--help").write_text("")
    result = CliRunner().invoke(app, ["prepare-reference", "--out", "x.fa.gz", "--", "--help"])
    assert "is empty" in str(result.exception)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [pwned]",
        "!!python/object/new:os.mkdir [pwned]",
        "name: !!python/name:os.system",
        "[" * 5000,
        "a: &a [*a]",
        LAUGHS,
    ],
    ids=["apply", "new", "name", "deep", "endless", "billion laughs"],
)
def test_yaml_that_would_do_more_than_hold_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ConfigError):
        read_run_file(tmp_path / "run.yaml")
    assert not (tmp_path / "pwned").exists()


def test_settings_that_aliases_blow_up(tmp_path: Path) -> None:
    values: object = "x"
    for _ in range(9):
        values = [values] * 9
    with pytest.raises(ConfigError, match="more than 100,000 values"):
        load_settings({"reference": "x.fa", "samples": values}, tmp_path)


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [pwned]", "!!python/name:os.mkdir"])
def test_snakemake_runs_no_yaml(new_run: Callable[..., Run], tag: str) -> None:
    run = new_run()
    with (run.folder / "config" / "config.yaml").open("a") as file:
        file.write(f"store: {tag}\n")
    with pytest.raises(AssertionError, match=r"(not valid JSON or YAML|is not of type)"):
        run.snakemake("-n")
    assert not (run.folder / "pwned").exists()
