"""What htslib reads over in a VCF's text: a lost line end, a cut line, a NUL byte, a POS that is no plain number.

In each of these htslib goes on with a part of the line, so alleles or genotypes would be lost without a word. It also takes
lines, headers and BCF records of any size into memory, and a small bgzip file can hold gigabytes of one line: everything is
measured here before htslib sees it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

import pysam

from dnagrinder.errors import InputError
from dnagrinder.genome.files import LONGEST_LINE, bounded_lines, compression

LONGEST_HEADER = 1 << 26  # bytes: a million contigs and their lengths
_BCF = b"BCF\2\2"
_FIXED = 8  # columns before FORMAT
_POSITION = re.compile(rb"[^\t]*\t(?:0|[1-9][0-9]*)\t").match
_SHOWN = 60


def line_problems(text: Path, samples: int, shown: Path) -> Iterator[InputError | None]:
    """For each data line of a plain or bgzip VCF what is wrong with it, None for a good one; ends behind a bad one.

    A bad line has other columns than the header or a POS that is not a plain number, or there is a NUL byte in it or
    anywhere before, since in the header it hides sample columns. Damage of the file itself ends the lines: htslib meets it
    too and knows better where. ``samples`` is the number of sample columns in the header; ``shown`` is the user's name of
    the file.

    Raises:
        InputError: a line is too long to be read.
    """
    in_header = True
    with suppress(OSError), _opened(text) as file:
        for number, raw in enumerate(bounded_lines(file.read, f"VCF {shown}"), start=1):
            line = raw.rstrip(b"\r")
            if problem := _damage(line) or (None if in_header else _problem(line, samples)):
                beginning = line[:_SHOWN].decode(errors="replace")
                yield InputError(f"VCF {shown}, line {number}: {problem} (it begins {beginning!r})")
                return
            if not in_header:
                yield None
            in_header = in_header and not line.startswith(b"#CHROM")


def record_problems(bcf: Path, shown: Path) -> Iterator[None]:
    """None for each record of a BCF (VCF 4.3 specification, section 6.3), as ``line_problems``: only sizes are looked at.

    Raises:
        InputError: a record of more than LONGEST_LINE bytes.
    """
    with suppress(OSError), _opened(bcf) as file:
        _skip(file, _header_size(file.read(len(_BCF) + 4)))
        number = 0
        while sizes := file.read(8):
            number += 1
            size = sum(struct.unpack("<II", sizes.ljust(8, b"\0")))
            if size > LONGEST_LINE:
                raise InputError(f"BCF {shown}, record {number}: {size:,} bytes long; the file is damaged")
            _skip(file, size)
            yield None


def check_header_size(text: Path, shown: Path) -> None:
    """Refuse a VCF or BCF whose header is longer than LONGEST_HEADER, before htslib reads it. Raises InputError.

    What is no VCF, or a damaged one, passes: htslib knows better what is wrong with it.
    """
    held = 0
    with suppress(OSError):
        with _opened(text) as file:
            start = file.read(len(_BCF) + 4)
        if start.startswith(_BCF):
            held = _header_size(start)
        else:
            with _opened(text) as file:
                for line in bounded_lines(file.read, f"VCF {shown}"):
                    held += len(line)
                    if held > LONGEST_HEADER or not line.startswith(b"##"):
                        break
    if held > LONGEST_HEADER:
        raise InputError(f"VCF {shown}: its header is longer than {LONGEST_HEADER >> 20} MiB; the file is damaged or no VCF")


def _opened(path: Path) -> BinaryIO:
    packed = compression(path) != "none"
    return cast(BinaryIO, pysam.BGZFile(str(path), "rb", None) if packed else path.open("rb"))


def _header_size(start: bytes) -> int:
    """Bytes of a BCF's header text, from the file's first bytes."""
    return int.from_bytes(start[len(_BCF) : len(_BCF) + 4], "little")


def _skip(file: BinaryIO, size: int) -> None:
    while size and (skipped := len(file.read(min(size, 1 << 20)))):
        size -= skipped


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
