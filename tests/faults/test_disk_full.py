"""A disk with too little space: every writer says so in one line, leaves nothing half-written, and goes on later."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from workflow_run import Run

from dnagrinder.errors import OutputError, StoreError
from tests.faults.conftest import Recorder, start
from tests.faults.records import Fault

#: Every command that writes, and how to give it the small disk; {results}, {run}, {model} and {disk} are folders.
COMMANDS = {
    "prepare-reference": "{run}/reference.fa.gz --out {disk}/genome.fa.gz",
    "read-variants": "{run}/joint.vcf --reference {genome} --alleles {disk}/a --ledger {disk}/l --genotypes {disk}/g"
    " --summary {disk}/s",
    "unique-alleles": "{results}/callsets/one/alleles.parquet --shards 2 --out-dir {disk} --reference {genome}"
    " --checkpoint {model}",
    "score-alleles": "{shard} --reference {genome} --checkpoint {model} --device cpu --out {disk}/scores.parquet",
    "score-regions": "{run}/exon.bed --reference {genome} --checkpoint {model} --device cpu --out {disk}/regions.parquet"
    " --bedgraph {disk}/regions.bedgraph --ledger {disk}/ledger.tsv",
    "score-context": "{results}/samples/one/scores.parquet --reference {genome} --checkpoint {model} --device cpu --top 2"
    " --out {disk}/context.parquet",
    "annotate": "{run}/joint.vcf {scores} --alleles {results}/callsets/joint/alleles.parquet"
    " --ledger {results}/callsets/joint/ledger.parquet --out {disk}/scored.vcf.gz",
    "sample-tables": "{scores} --alleles {results}/callsets/one/alleles.parquet"
    " --ledger {results}/callsets/one/ledger.parquet --genotypes {results}/callsets/one/genotypes.parquet"
    " --summary {results}/callsets/one/summary.json --sample one=HG00096 --out-dir {disk}",
    "report sample": "{results}/samples/one --checkpoint {model} --annotated-vcf {results}/callsets/one/scored.vcf.gz"
    " --out {disk}/report.html",
    "report cohort": "{results}/samples/one {results}/samples/HG00171 --checkpoint {model} --scores {disk}/scores.parquet"
    " --out {disk}/report.html --multiqc {disk}/dnagrinder_mqc.json",
    "score-variants": "{run}/joint.vcf --reference {genome} --checkpoint {model} --device cpu --out {disk}/scored.vcf.gz"
    " --ledger {disk}/ledger.tsv",
    "score-alleles --store": "{disk}/store {shard} --reference {genome} --checkpoint {model} --device cpu"
    " --out {run}/elsewhere/scores.parquet",
}
SMALL = 4096  # bytes that are left: one page


class Disk:
    """A small tmpfs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, left: int) -> None:
        """Leave so many free bytes."""
        free = os.statvfs(self.folder)
        with self._filler.open("wb") as file:
            file.write(bytes(free.f_bavail * free.f_bsize - left))

    def free(self) -> None:
        """Give the space back."""
        self._filler.unlink()

    def files(self) -> dict[str, bytes]:
        """Everything on it, but what fills it."""
        paths = [path for path in self.folder.rglob("*") if path.is_file() and path != self._filler]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk needs the right to mount: {done.stderr.decode().strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_every_writer_says_that_the_disk_is_full(
    undisturbed: tuple[Run, dict[str, float]],
    disk: Disk,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    record: Recorder,
) -> None:
    from dnagrinder.cli import main

    run = undisturbed[0]
    results = run.folder / "results"
    names = {
        "run": run.folder,
        "results": results,
        "disk": disk.folder,
        "model": run.folder / "model",
        "genome": results / "reference" / "genome.fa.gz",
        "shard": results / "shards" / "shard-0001-of-0002.parquet",
        "scores": " ".join(map(str, [*sorted((results / "scores").iterdir()), results / "shards" / "stored.parquet"])),
    }

    def call(command: str, arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["dnagrinder", *command.split(), *arguments.format(**names).split()])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), capfd.readouterr().err

    wanted, found = {}, {}
    for command, arguments in COMMANDS.items():
        disk.fill(0)
        code, told = call(command, arguments)
        assert code == (StoreError if "store" in command else OutputError).exit_code, (command, told)
        (line,) = [line for line in told.splitlines() if line.startswith("dnagrinder: error: ")]
        assert "No space left on device" in line, command
        assert "Traceback" not in told, command
        assert [name for name, content in disk.files().items() if content or Path(name).name.startswith(".")] == [], command
        disk.free()
        assert call(command, arguments)[0] == 0, command
        found |= {f"{command}/{name}": content for name, content in disk.files().items()}
        for path in disk.folder.rglob("*"):
            if path.is_file():
                path.unlink()
        assert call(command, arguments)[0] == 0, command
        wanted |= {f"{command}/{name}": content for name, content in disk.files().items()}
        subprocess.run(["find", disk.folder, "-mindepth", "1", "-delete"], check=True)
    record(Fault.DISK_FULL, len(COMMANDS), wanted, found)


def test_a_run_goes_on_when_there_is_space_again(
    new_run: Callable[..., Run], wanted: dict[str, bytes], disk: Disk, record: Recorder
) -> None:
    run = new_run()
    (run.folder / "results").symlink_to(disk.folder)
    times = 0
    for left in (8 * SMALL, 40 * SMALL, 40 * SMALL):
        disk.fill(left)
        assert start(run).wait() != 0
        told = "".join(path.read_text() for path in run.folder.glob("logs/**/*.log"))
        assert "No space left on device" in told
        assert "Traceback" not in told
        disk.free()
        times += 1
    assert start(run).wait() == 0, (run.folder / "snakemake.log").read_text()
    record(Fault.DISK_FULL_RUN, times, wanted, run.outputs())
