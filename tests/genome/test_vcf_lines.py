"""Lines that htslib would read in part: each is told with its number, none is read."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pysam
import pytest

from dnagrinder.errors import InputError
from dnagrinder.genome.vcf import VcfFile

WriteVcf = Callable[..., Path]
GT = '##FORMAT=<ID=GT,Number=1,Type=String,Description="">\n##contig=<ID=c1>\n'
GOOD = "c1 4 . A G . . . GT 0/1 1/1"


def written(write_vcf: WriteVcf, *lines: str, packing: str = "none", samples: tuple[str, ...] = ("s1", "s2")) -> Path:
    """A VCF of good lines and the given ones, with NUL for ``~``."""
    path = write_vcf(*lines, header=GT, samples=samples)
    path.write_bytes(path.read_bytes().replace(b"~", b"\0"))
    if packing == "bgzip":
        pysam.tabix_compress(str(path), f"{path}.gz")
    elif packing == "gzip":
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
    return path if packing == "none" else Path(f"{path}.gz")


@pytest.mark.parametrize("packing", ["none", "gzip", "bgzip"])
@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("c1 5 . C G . . . GT 0/1 1/11 6 . A G . . . GT 0/1 1/1", "it has 21 columns, the header asks for 11"),
        ("c1 5 . C G . . .", "it has 8 columns, the header asks for 11"),
        ("c1 5 . C G . . AF=~0.5 GT 0/1 1/1", "it holds a NUL byte"),
        ("c1 5 . C G . . . GT 0/1 1/1~1", "it holds a NUL byte"),
        ("c1 +5 . C G . . . GT 0/1 1/1", "its POS is '+5'"),
        ("c1 05 . C G . . . GT 0/1 1/1", "its POS is '05'"),
    ],
    ids=["glued", "cut", "nul", "nul-at-the-end", "plus", "zero"],
)
@pytest.mark.parametrize("wanted", [None, ("s2",), ()], ids=["all", "one", "none"])
def test_a_line_that_htslib_reads_in_part_is_told(
    write_vcf: WriteVcf, packing: str, bad: str, problem: str, wanted: tuple[str, ...] | None
) -> None:
    path = written(write_vcf, GOOD, bad, GOOD, packing=packing)
    with VcfFile(path, wanted) as vcf:
        records = vcf.records()
        assert next(records).position == 4
        with pytest.raises(InputError, match=rf"{path.name}, line 6: {re.escape(problem)}.* \(it begins 'c1"):
            next(records)


def test_a_file_without_samples_may_have_format_or_not(write_vcf: WriteVcf) -> None:
    path = written(write_vcf, "c1 4 . A G . . .", "c1 5 . C G . . . GT", samples=())
    with VcfFile(path) as vcf:
        assert [record.position for record in vcf.records()] == [4, 5]
    path = written(write_vcf, "c1 4 . A G . . . c1 5 . C G . . .", samples=())
    with pytest.raises(InputError, match="it has 16 columns, the header asks for 8 or 9"), VcfFile(path) as vcf:
        list(vcf.records())


def test_a_nul_byte_that_hides_sample_columns_is_told(write_vcf: WriteVcf) -> None:
    path = written(write_vcf, "c1 4 . A G . . .", samples=("s1", "~s2"))
    with VcfFile(path) as vcf, pytest.raises(InputError, match="line 4: it holds a NUL byte"):
        list(vcf.records())
