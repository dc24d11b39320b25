"""Small files that inflate to gigabytes of one line: a clear error, and memory that stays bounded."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest

from dnagrinder.genome import files, vcf_lines
from dnagrinder.samplesheet import vcf_columns

GIGABYTES = 3
MOST_RESIDENT = 1 << 30  # bytes, a third of what the bombs hold
BLOCK = 65_280
HEADER = b"##fileformat=VCFv4.2\n##contig=<ID=1>\n"
COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
# getrusage would tell the most of the process that started this one, if that was more
REPORT = """
from dnagrinder.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status:
        (kibibytes,) = (int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    print("resident", kibibytes * 1024)
"""


def bgzip_block(content: bytes) -> bytes:
    """One block of bgzip (SAM specification, section 4.1)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    head = bytes.fromhex("1f8b08040000000000ff060042430200") + (len(packed) + 25).to_bytes(2, "little")
    return head + packed + zlib.crc32(content).to_bytes(4, "little") + len(content).to_bytes(4, "little")


def bomb(path: Path, start: bytes, letter: bytes = b"A", *, bgzip: bool = True) -> Path:
    """A file that begins like a good one and goes on with gigabytes of one letter; some megabytes on disk."""
    block = letter * (BLOCK // len(letter))
    packed = bgzip_block(block) if bgzip else gzip.compress(block)
    with path.open("wb") as file:
        file.write(bgzip_block(start) if bgzip else gzip.compress(start))
        for _ in range(GIGABYTES * (1 << 30) // BLOCK // 1000):
            file.write(packed * 1000)
        file.write(BGZF_END if bgzip else b"")
    assert path.stat().st_size < 20 << 20
    return path


def bcf_bomb(path: Path) -> Path:
    """A BCF whose only record says that it is gigabytes long."""
    text = (HEADER + COLUMNS).rstrip(b"\n") + b"\n\0"
    start = b"BCF\2\2" + len(text).to_bytes(4, "little") + text + (GIGABYTES << 30).to_bytes(4, "little") + bytes(4)
    return bomb(path, start, b"\0")


def run(*arguments: str) -> tuple[int, str, int]:
    """Exit code, standard error and most resident memory, in bytes, of our command line."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr, int(done.stdout.split()[-1])


MAKERS: dict[str, Callable[[Path], Path]] = {
    "record": lambda folder: bomb(folder / "bomb.vcf.gz", HEADER + COLUMNS + b"1\t5\t.\tA\t"),
    "header": lambda folder: bomb(folder / "bomb.vcf.gz", HEADER + b"##x="),
    "many header lines": lambda folder: bomb(folder / "bomb.vcf.gz", HEADER, b"##a=b\n"),
    "bcf": lambda folder: bcf_bomb(folder / "bomb.bcf"),
    "no vcf": lambda folder: bomb(folder / "bomb.vcf.gz", b""),
}


@pytest.mark.parametrize("kind", list(MAKERS))
def test_variants(tmp_path: Path, kind: str) -> None:
    path = MAKERS[kind](tmp_path)
    (tmp_path / "genome.fa").write_text(">1\nACGTACGTAC\n")
    outputs = [f"--{name}={tmp_path / 'out' / name}" for name in ("alleles", "ledger", "genotypes", "summary")]
    code, told, resident = run("read-variants", str(path), f"--reference={tmp_path / 'genome.fa'}", *outputs)
    assert code == 3, told
    assert len(told.strip().splitlines()) == 1, told
    assert "long" in told
    assert resident < MOST_RESIDENT
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("start", [b">1\nACGT\n>", b"", b">1 \n>1\n"])
def test_a_fasta_of_one_endless_line(tmp_path: Path, start: bytes) -> None:
    path = bomb(tmp_path / "genome.fa.gz", start, bgzip=False)
    code, told, resident = run("prepare-reference", str(path), f"--out={tmp_path / 'out' / 'genome.fa.gz'}")
    assert code == 3, told
    assert len(told.strip().splitlines()) == 1, told
    assert resident < MOST_RESIDENT
    assert list((tmp_path / "out").iterdir()) == []


def test_a_plain_gzip_vcf_does_not_fill_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "passing"))
    (tmp_path / "passing").mkdir()
    (tmp_path / "genome.fa").write_text(">1\nACGTACGTAC\n")
    path = bomb(tmp_path / "bomb.vcf.gz", HEADER + COLUMNS + b"1\t5\t.\tA\t", bgzip=False)
    outputs = [f"--{name}={tmp_path / 'out' / name}" for name in ("alleles", "ledger", "genotypes", "summary")]
    code, told, resident = run("read-variants", str(path), f"--reference={tmp_path / 'genome.fa'}", *outputs)
    assert code == 3
    assert "line 4: longer than 256 MiB" in told
    assert resident < MOST_RESIDENT
    assert [path for path in (tmp_path / "passing").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("kind", ["record", "header", "bcf", "no vcf"])
def test_looking_for_sample_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(files, "LONGEST_LINE", 1 << 20)
    columns = vcf_columns(MAKERS[kind](tmp_path))
    assert columns == (() if kind in ("record", "bcf") else None)


def test_long_lines_that_are_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_READ", 100)
    lines = [b"x" * size for size in (0, 99, 100, 101, 350, 1)]
    for end in (b"", b"\n"):
        path = tmp_path / "lines.gz"
        with pysam.BGZFile(str(path), "wb", None) as file:
            file.write(b"\n".join(lines) + end)
        with pysam.BGZFile(str(path), "rb", None) as file:
            assert list(files.bounded_lines(file.read, "x")) == lines
    monkeypatch.setattr(files, "LONGEST_LINE", 300)
    with pysam.BGZFile(str(path), "rb", None) as file, pytest.raises(files.InputError, match="x, line 5: longer than"):
        list(files.bounded_lines(file.read, "x"))
    assert vcf_lines.LONGEST_HEADER < 1 << 28
