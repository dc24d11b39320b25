"""The commands that score haplotypes, on the embedded example and on the real panel."""

from __future__ import annotations

import json
from pathlib import Path

import pysam
import pytest
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import InputError
from dnagrinder.scoring.haplotype_tables import HAPLOTYPE_SCHEMA
from dnagrinder.scoring.tables import read_parquet, read_provenance
from tests.tiny_checkpoint import make_tiny_checkpoint


@pytest.fixture(scope="module")
def common(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options of every run: a tiny model, a small window."""
    model = make_tiny_checkpoint(tmp_path_factory.mktemp("model"))
    reference = repository / "config" / "example" / "reference.fa.gz"
    return [f"--reference={reference}", f"--checkpoint={model}", "--window=128", "--device=cpu", "--json"]


def run(*arguments: str | Path) -> dict[str, object]:
    """What a command prints."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told: dict[str, object] = json.loads(result.stdout)
    return told


def test_score_haplotypes(repository: Path, common: list[str], tmp_path: Path) -> None:
    vcf, out, tsv = repository / "config" / "example" / "joint.vcf.gz", tmp_path / "h.parquet", tmp_path / "h.tsv"
    told = run("score-haplotypes", vcf, *common, f"--out={out}", f"--tsv={tsv}", "--distance=25")
    table, traced = read_parquet(out), read_provenance(out)
    assert table.schema.remove_metadata() == HAPLOTYPE_SCHEMA
    assert told["haplotypes"] == len(table) == len(tsv.read_text().splitlines()) - 1 > 5
    assert told["mnvs"] == table["kind"].to_pylist().count("mnv") > 0
    with pysam.VariantFile(str(vcf)) as calls:
        carried = sum(sum(number > 0 for number in call["GT"]) for record in calls for call in record.samples.values())
    assert told["carried_copies"] == carried == sum(told["copies_by_outcome"].values())  # type: ignore[attr-defined]
    assert set(traced["haplotypes"]["outcomes"]) == {"HG00171", "HG01500", "NA06984"}
    assert (traced["haplotypes"]["distance"], traced["parameters"]["window"]) == (25, 128)
    for row in table.to_pylist():
        assert row["epistasis"] == pytest.approx(row["joint"] - row["singles_sum"], abs=1e-9)
        assert row["singles_sum"] == pytest.approx(sum(row["singles"]))
        assert (row["copies"], row["rows"]) == (len(row["carriers"]), 4)
    run("score-haplotypes", vcf, *common, f"--out={tmp_path / 'again.parquet'}", "--distance=25", "--token-budget=600")
    assert (tmp_path / "again.parquet").read_bytes() == out.read_bytes()


def test_only_samples_asked_for_are_read(repository: Path, common: list[str], tmp_path: Path) -> None:
    vcf, out = repository / "config" / "example" / "joint.vcf.gz", tmp_path / "h.parquet"
    run("score-haplotypes", vcf, *common, f"--out={out}", "--sample=NA06984", "--distance=5")
    assert {name for names in read_parquet(out)["carriers"].to_pylist() for name in names} == {"NA06984"}
    result = CliRunner().invoke(app, ["score-haplotypes", str(vcf), *common, f"--out={vcf}"])
    assert result.exit_code != 0


def test_score_variants_writes_them_too(few: Path, common: list[str], tmp_path: Path) -> None:
    out, table = tmp_path / "out.vcf.gz", tmp_path / "h.parquet"
    told = run("score-variants", few, *common, f"--out={out}", f"--haplotypes={table}")
    assert told["haplotypes"] == len(read_parquet(table)) > 0
    members = {key for keys in read_parquet(table)["members"].to_pylist() for key in keys}
    with pysam.VariantFile(str(out)) as vcf:
        named = {f"{r.chrom}:{r.pos}:{r.ref}:{r.alts[0]}" for r in vcf if r.info["DG_HAP"] != (".",)}
    assert named == members


def test_a_file_without_genotypes_is_told(few: Path, common: list[str], tmp_path: Path) -> None:
    sites = tmp_path / "sites.vcf"
    lines = [line if line.startswith("##") else "\t".join(line.split("\t")[:8]) for line in few.read_text().splitlines()]
    sites.write_text("\n".join(lines[:-3]) + "\n")
    table = tmp_path / "h.parquet"
    for command in (
        ["score-haplotypes", str(sites), *common, f"--out={table}"],
        ["score-variants", str(sites), *common, f"--out={tmp_path / 'out.vcf.gz'}", f"--haplotypes={table}"],
    ):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0
        assert f"warning: VCF {sites} has no sample columns" in result.stderr
        assert json.loads(result.stdout)["haplotypes"] == len(read_parquet(table)) == 0
    result = CliRunner().invoke(app, ["score-haplotypes", str(few), *common, f"--out={table}", "--sample=HG00171"])
    assert "warning" not in result.stderr


def test_genotypes_that_cannot_be_read_are_found_before_anything_is_scored(
    few: Path, common: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = few.read_text().rstrip().split("\n")
    few.write_text("\n".join([*lines[:-1], lines[-1].rsplit("\t", 1)[0] + "\t0|7"]) + "\n")
    monkeypatch.setattr("dnagrinder.scoring.packing.Engine._forward", None)
    out, table = tmp_path / "out.vcf.gz", tmp_path / "h.parquet"
    result = CliRunner().invoke(app, ["score-variants", str(few), *common, f"--out={out}", f"--haplotypes={table}"])
    assert isinstance(result.exception, InputError), result.output
    assert "7" in str(result.exception)
    assert not out.exists()


@pytest.mark.data
def test_the_phased_panel_adds_up(shared_data: Path, common: list[str], tmp_path: Path) -> None:
    """300 people of the 1000 Genomes Project, 3 Mb: every carried copy is joined or has its reason; 12 people are scored."""
    folder = shared_data / "grch37"
    vcf = folder / "kgp3_chr20_1-4M.phased300.vcf.gz"
    with pysam.VariantFile(str(vcf)) as calls:
        names = list(calls.header.samples)[:12]
        calls.subset_samples(names)
        carried = sum(sum(number > 0 for number in call["GT"]) for record in calls for call in record.samples.values())
    options = [f"--reference={folder / 'chr20.fa.gz'}", *common[1:], *(f"--sample={name}" for name in names)]
    told = run("score-haplotypes", vcf, *options, f"--out={tmp_path / 'h.parquet'}", "--distance=10")
    assert told["carried_copies"] == carried
    assert told["copies_by_outcome"].keys() <= {"ALONE", "OVERLAP", "TOO_WIDE", "joined"}  # type: ignore[attr-defined]
    assert told["haplotypes"] > 100  # type: ignore[operator]
    assert 0 < told["epistasis_above_spread"] < told["haplotypes"]  # type: ignore[operator]
