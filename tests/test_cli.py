"""The command line as a whole: what scripts rely on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dnagrinder import __version__
from dnagrinder.cli import app, main
from dnagrinder.commands.options import PARQUET, TEXT, check_formats

COMMANDS = [
    "score-variants",
    "score-regions",
    "read-variants",
    "annotate",
    "calibrate",
    "report",
    "pretrain",
    "train-tokenizer",
    "evaluate",
    "info",
    "prepare-reference",
    "unique-alleles",
    "score-alleles",
    "score-context",
    "prescore",
    "score-haplotypes",
    "sample-tables",
    "family-candidates",
    "explain",
    "store",
]


def test_version():
    assert CliRunner().invoke(app, ["--version"]).stdout == f"dnagrinder {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert len(result.stdout) > 200


def test_info_gives_the_papers_parameter_count():
    result = CliRunner().invoke(app, ["info", "--model", "base", "--json"])
    assert json.loads(result.stdout)["parameters"] == 63_596_800


def test_an_error_is_one_line_and_a_code(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dnagrinder", "info", "--checkpoint", "absent\nname"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 6
    error = capsys.readouterr().err
    assert error.startswith("dnagrinder: error: checkpoint absent name")
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "genome.fa").write_text(">1\nACGT\n")
    out = tmp_path / "file" / "genome.fa.gz"
    monkeypatch.setattr(sys, "argv", ["dnagrinder", "prepare-reference", str(tmp_path / "genome.fa"), "--out", str(out)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 10
    assert capsys.readouterr().err.startswith("dnagrinder: error: ")


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["read-variants", "--help"],
        ["report", "sample", "--help"],
        ["explain", "--help"],
        ["store", "stats", "--help"],
    ],
)
def test_commands_without_a_model_do_not_wait_for_torch(command, repository):
    code = f"import sys; sys.argv[1:] = {command!r}\nfrom dnagrinder.cli import app\n"
    code += "try:\n    app()\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules, 'torch was loaded'\n"
    path = ":".join(str(repository / folder) for folder in ("workflow", "kernels"))
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["score-variants", "a.vcf", "-r", "r.fa", "-o", "o.vcf.gz", "--ledger", "a.vcf"],
        ["score-variants", "a.vcf", "-r", "r.fa", "-o", "o.vcf.gz", "--ledger", "./o.vcf.gz"],
        ["score-variants", "a.vcf", "-r", "r.fa.gz", "-o", "r.fa.gz"],
        ["score-regions", "r.bed", "-r", "r.fa", "-o", "r.parquet", "--bedgraph", "r.bed"],
        [
            "read-variants",
            "a.vcf",
            "-r",
            "r.fa",
            "--alleles",
            "a.vcf",
            "--ledger",
            "l",
            "--genotypes",
            "g",
            "--summary",
            "s",
        ],
        ["annotate", "a.vcf.gz", "s.parquet", "--alleles", "a", "--ledger", "l", "--out", "a.vcf.gz"],
    ],
)
def test_no_output_may_be_an_input_or_another_output(arguments, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dnagrinder", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 5
    assert "is also an input or another output" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


READ = ["read-variants", "a.vcf", "-r", "r.fa", "--summary", "s.json"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["score-variants", "a.vcf", "-r", "r.fa", "-o", "o.vcf.gz", "--haplotypes", "h.tsv"], "Parquet; call it h.parquet"),
        (["score-variants", "a.vcf", "-r", "r.fa", "-o", "o.vcf.gz", "--ledger", "l.csv"], "or Parquet; call it l.tsv"),
        (["score-variants", "a.vcf", "-r", "r.fa", "-o", "o.vcf.gz", "--ledger", "l.tsv.gz"], "or Parquet; call it l.tsv"),
        (["score-haplotypes", "a.vcf", "-r", "r.fa", "-o", "h.TSV"], "Parquet; call it h.parquet"),
        (["score-haplotypes", "a.vcf", "-r", "r.fa", "-o", "h", "--tsv", "h.parquet"], "text; call it h.tsv"),
        (["score-alleles", "a.parquet", "-r", "r.fa", "-o", "s.tsv"], "Parquet; call it s.parquet"),
        (["score-context", "a.parquet", "-r", "r.fa", "-o", "c.json"], "Parquet; call it c.parquet"),
        (["score-regions", "r.bed", "-r", "r.fa", "-o", "rr.tsv"], "Parquet; call it rr.parquet"),
        (["score-regions", "r.bed", "-r", "r.fa", "-o", "rr.parquet", "--ledger", "l.csv"], "text; call it l.tsv"),
        (["embed", "r.bed", "-r", "r.fa", "-o", "rr.csv"], "Parquet; call it rr.parquet"),
        (["embed", "r.bed", "-r", "r.fa", "-o", "rr", "--ledger", "l.parquet"], "text; call it l.tsv"),
        (["prescore", "r.bed", "-r", "r.fa", "--store", "s", "--ledger", "l.csv"], "text; call it l.tsv"),
        ([*READ, "--alleles", "a.tsv", "--ledger", "l", "--genotypes", "g"], "Parquet; call it a.parquet"),
        ([*READ, "--alleles", "a", "--ledger", "l.tsv", "--genotypes", "g"], "Parquet; call it l.parquet"),
        (["report", "cohort", "s", "-o", "c.html", "--scores", "s.tsv", "--multiqc", "c_mqc.json"], "call it s.parquet"),
    ],
)
def test_a_name_that_promises_another_format_is_refused_first(arguments, told, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dnagrinder", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 5
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_distance_without_haplotypes_is_refused():
    command = ["score-variants", "a.vcf", "-r", "r.fa", "-o", "o.vcf.gz", "--distance", "10"]
    assert "--distance 10 is of haplotypes" in str(CliRunner().invoke(app, command).exception)


def test_names_that_promise_nothing_else_are_taken():
    check_formats([None, Path("a.parquet"), Path("a"), Path("sample.NA12878")], PARQUET)
    check_formats([Path("l.tsv"), Path("l.txt"), Path("l.parquet"), Path("l.alleles")], TEXT, PARQUET)
