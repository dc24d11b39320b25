"""The forms that variants come in: plain, gzip, bgzip, BCF, a stream, and gVCF with its reference blocks."""

from __future__ import annotations

import gzip
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pysam
import pytest
from tiny_checkpoint import make_tiny_checkpoint
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import InputError
from dnagrinder.scoring.tables import read_parquet
from tests.reports.conftest import Callset, Cohort, make_callset, write_reference
from tests.reports.test_vcf import annotate, data_lines, stripped

needs_bcftools = pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is absent")


def annotate_arguments(callset: Callset) -> list[str]:
    """The command without input and output."""
    return [*map(str, callset.scores), f"--alleles={callset.alleles}", f"--ledger={callset.ledger}"]


def bgzipped(source: Path, path: Path) -> Path:
    """The file, packed in blocks."""
    with pysam.BGZFile(str(path), "wb", None) as out:
        out.write(source.read_bytes())
    return path


@pytest.mark.parametrize("form", ["plain", "gzip", "bgzip"])
def test_a_stream_in_and_out_gives_the_text_of_the_file(cohort: Cohort, tmp_path: Path, form: str) -> None:
    annotate(cohort.callset, tmp_path / "out.vcf.gz")
    content = {
        "plain": cohort.callset.vcf.read_bytes(),
        "gzip": gzip.compress(cohort.callset.vcf.read_bytes()),
        "bgzip": bgzipped(cohort.callset.vcf, tmp_path / "in.vcf.gz").read_bytes(),
    }[form]
    result = CliRunner().invoke(
        app, ["annotate", "-", *annotate_arguments(cohort.callset), "--out=-", "--json"], input=content
    )
    assert result.exit_code == 0, result.output
    ours = [line for line in result.stdout_bytes.splitlines(keepends=True) if not line.startswith(b"##dnagrinder=")]
    theirs = gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()).splitlines(keepends=True)
    assert ours == [line for line in theirs if not line.startswith(b"##dnagrinder=")]  # it names the version
    assert '"alleles_in"' in result.stderr


def test_a_stream_may_be_bcf(cohort: Cohort, tmp_path: Path) -> None:
    with (
        pysam.VariantFile(str(cohort.callset.vcf)) as source,
        pysam.VariantFile(str(tmp_path / "in.bcf"), "wb", header=source.header) as out,
    ):
        for record in source:
            out.write(record)
    command = ["annotate", "-", *annotate_arguments(cohort.callset), "-o", "-"]
    result = CliRunner().invoke(app, command, input=(tmp_path / "in.bcf").read_bytes())
    assert result.exit_code == 0, result.output
    records = [line for line in result.stdout_bytes.splitlines() if not line.startswith(b"#")]
    assert len(records) == len(data_lines(cohort.callset.vcf))
    assert all(b"DG_STATUS=" in line for line in records)


def test_nothing_of_a_broken_stream_comes_out(cohort: Cohort) -> None:
    content = gzip.compress(cohort.callset.vcf.read_bytes())[:-900]
    result = CliRunner().invoke(app, ["annotate", "-", *annotate_arguments(cohort.callset), "-o", "-"], input=content)
    assert result.exit_code != 0
    assert result.stdout_bytes == b""


def test_a_pipe_with_a_name_is_told_to_come_by_standard_input(cohort: Cohort, tmp_path: Path) -> None:
    fifo = tmp_path / "in.vcf"
    os.mkfifo(fifo)
    command = ["annotate", str(fifo), *annotate_arguments(cohort.callset), "-o", str(tmp_path / "out.vcf.gz")]
    result = CliRunner().invoke(app, command)
    assert isinstance(result.exception, InputError)
    assert f"{fifo} is a pipe, not a regular file, and a VCF is read twice; give - " in str(result.exception)


@needs_bcftools
def test_score_variants_in_a_pipe(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BCF in at one end, VCF out at the other: the records of the same job on files."""
    sequence = write_reference(tmp_path / "reference.fa", 3_000)
    sites = [(n, sequence[n - 1], "ACGT".replace(sequence[n - 1], "")[0]) for n in (700, 1_500, 2_000)]
    text = "##fileformat=VCFv4.2\n##contig=<ID=20,length=3000>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "in.vcf").write_text(text + "".join(f"20\t{n}\t.\t{ref}\t{alt}\t.\t.\t.\n" for n, ref, alt in sites))
    model = make_tiny_checkpoint(tmp_path / "model")
    path = os.pathsep.join(str(repository / folder) for folder in ("workflow", "kernels"))
    options = ["-r", "reference.fa", "-c", str(model), "--device", "cpu", "--threads", "1"]
    pipe = f"bcftools view -Ou in.vcf | '{sys.executable}' -m dnagrinder score-variants - {shlex.join(options)} -o - --json"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{pipe} 2> told | bcftools view -H > piped"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + (tmp_path / "told").read_text()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["score-variants", "in.vcf", *options, "-o", "out.vcf.gz"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "piped").read_bytes().splitlines() == data_lines(tmp_path / "out.vcf.gz")
    assert '"scored": 3' in (tmp_path / "told").read_text()


@pytest.fixture(scope="module")
def gvcf(tmp_path_factory: pytest.TempPathFactory) -> Callset:
    """Reference blocks with END, called sites with <NON_REF> beside their ALT, and a block of <*>."""
    folder = tmp_path_factory.mktemp("gvcf")
    sequence = write_reference(folder / "reference.fa", 6_000)
    header = (
        "##fileformat=VCFv4.2\n"
        '##ALT=<ID=NON_REF,Description="Represents any possible alternative allele at this location">\n'
        '##ALT=<ID=*,Description="The same, as bcftools writes it">\n'
        '##INFO=<ID=END,Number=1,Type=Integer,Description="Stop position of the interval">\n'
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
        '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Allelic depths">\n'
        '##FORMAT=<ID=PL,Number=G,Type=Integer,Description="Likelihoods">\n'
        "##contig=<ID=20,length=6000>\n"
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tNA1\n"
    )
    lines = []
    for start in range(1_000, 4_000, 100):  # 0-based
        ref = sequence[start]
        alt = "ACGT".replace(ref, "")[start % 3]
        lines.append(f"20\t{start + 1}\t.\t{ref}\t{alt},<NON_REF>\t60.10\t.\tDP=30\tGT:AD:PL\t0/1:9,21,0:1,2,3,4,5,6\n")
        place, block = start + 2, sequence[start + 1]
        symbol = "<*>" if start % 500 == 0 else "<NON_REF>"
        lines.append(f"20\t{place}\t.\t{block}\t{symbol}\t.\t.\tEND={place + 98}\tGT:AD:PL\t0/0:30,0:0,90,1350\n")
    (folder / "in.g.vcf").write_text(header + "".join(lines))
    return make_callset(folder, folder / "in.g.vcf", folder / "reference.fa")


def test_reference_blocks_are_rejected_by_name_and_keep_their_bytes(gvcf: Callset, tmp_path: Path) -> None:
    counts = annotate(gvcf, tmp_path / "out.g.vcf.gz")
    assert (counts.records, counts.alleles_in, counts.rejected_by_reason) == (60, 90, {"NON_REF": 60})
    assert set(read_parquet(gvcf.ledger)["reason"].to_pylist()) == {"NON_REF"}
    after = data_lines(tmp_path / "out.g.vcf.gz")
    assert [stripped(line) for line in after] == data_lines(gvcf.vcf)
    assert after[1].split(b"\t")[7].endswith(b";DG_SCORE=.;DG_SPREAD=.;DG_COS=.;DG_L2=.;DG_STATUS=NON_REF")
    assert after[0].split(b"\t")[7].endswith((b"DG_STATUS=scored,NON_REF", b"DG_STATUS=from_store,NON_REF"))


def test_the_index_knows_how_far_a_block_reaches(gvcf: Callset, tmp_path: Path) -> None:
    annotate(gvcf, tmp_path / "out.g.vcf.gz")
    with pysam.TabixFile(str(tmp_path / "out.g.vcf.gz")) as tabix:
        found = list(tabix.fetch("20", 1_050, 1_051))
    assert [line.split("\t")[1] for line in found] == ["1002"]


@needs_bcftools
def test_bcftools_takes_our_fields_off_again(gvcf: Callset, tmp_path: Path) -> None:
    annotate(gvcf, tmp_path / "out.g.vcf.gz")
    names = ",".join(f"INFO/DG_{name}" for name in ("SCORE", "SPREAD", "COS", "L2", "STATUS"))
    seen = [
        subprocess.run(["bcftools", *command], capture_output=True, check=True)
        for command in (["annotate", "-x", names, tmp_path / "out.g.vcf.gz"], ["view", gvcf.vcf])
    ]
    assert [one.stderr for one in seen] == [b"", b""]
    mine, original = ([line for line in one.stdout.splitlines() if not line.startswith(b"#")] for one in seen)
    assert mine == original
