"""What htslib reads over in a VCF's text: a lost line end, a cut line, a NUL byte, a POS that is no plain number.

In each of these htslib goes on with a part of the line, so alleles or genotypes would be lost without a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pysam

from dnagrinder.errors import InputError
from dnagrinder.genome.files import compression

_FIXED = 8  # columns before FORMAT
_POSITION = re.compile(rb"[^\t]*\t(?:0|[1-9][0-9]*)\t").match
_SHOWN = 60


def checked_lines(text: Path, samples: int, shown: Path) -> Iterator[bytes]:
    """Data lines of a plain or bgzip VCF, without line ends.

    ``samples`` is the number of sample columns in the header; ``shown`` is the user's name of the file.

    Raises:
        InputError: a data line with other columns than the header or whose POS is not a plain number; a NUL byte anywhere
            up to there, since in the header it hides sample columns.
        OSError: the file is damaged.
    """
    in_header = True
    with text.open("rb") if compression(text) == "none" else pysam.BGZFile(str(text), "rb", None) as lines:
        for number, raw in enumerate(lines, start=1):
            line = raw.rstrip(b"\r\n")
            if problem := _damage(line) or (None if in_header else _problem(line, samples)):
                beginning = line[:_SHOWN].decode(errors="replace")
                raise InputError(f"VCF {shown}, line {number}: {problem} (it begins {beginning!r})")
            if in_header:
                in_header = not line.startswith(b"#CHROM")
            else:
                yield line


def _damage(line: bytes) -> str | None:
    return "it holds a NUL byte, as damaged files do; transfer or write it again" if b"\0" in line else None


def _problem(line: bytes, samples: int) -> str | None:
    """What is wrong with a data line."""
    most = _FIXED + 1 + samples
    fewest = most if samples else _FIXED  # a file without samples may have FORMAT or not
    columns = line.count(b"\t") + 1
    if not fewest <= columns <= most:
        named = f"{most}" if samples else f"{fewest} or {most}"
        return f"it has {columns} columns, the header asks for {named}; a line end may be lost or the line is cut"
    if not _POSITION(line):
        position = line.split(b"\t", 2)[1].decode(errors="replace")
        return f"its POS is {position!r}, which is not a plain whole number"
    return None
