"""Regions of interest from BED files (0-based, half-open), checked against the reference."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd

from dnagrinder.errors import InputError
from dnagrinder.genome.files import bounded_text, existing_file, open_text
from dnagrinder.genome.reference import ReferenceGenome

_HEADERS = ("#", "track", "browser")
_STRANDS = ("+", "-", ".")


_BEYOND = 2**62  # larger coordinates are shown as this one: they must fit a 64-bit column


class RegionReason(StrEnum):
    """Why a region of the BED file is not used."""

    CONTIG_ABSENT = "CONTIG_ABSENT"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    EMPTY = "EMPTY"
    LONGER_THAN_WINDOW = "LONGER_THAN_WINDOW"  # embeddings only: a region must lie within one window


@dataclass(frozen=True)
class Regions:
    """A BED file: what lies on the reference and what does not.

    Attributes:
        accepted: columns contig (the reference's name), start, end (0-based half-open), name, score, strand (null where
            the file has no such column), line (1-based); one row per BED line in file order, duplicates kept.
        rejected: line, contig (as in the file), start, end, name, reason (RegionReason), detail.
    """

    accepted: pd.DataFrame
    rejected: pd.DataFrame


def read_bed(path: Path | str, reference: ReferenceGenome) -> Regions:
    """Read BED3 to BED12, plain or compressed; track, browser, comment and blank lines are skipped.

    Raises:
        InputError: names file and line: too few columns, a start or end that is no number, start beyond end, a strand
            other than + - . or a damaged file.
    """
    path = existing_file(path, "BED")
    accepted: list[tuple[object, ...]] = []
    rejected: list[tuple[object, ...]] = []
    for number, line in _data_lines(path):
        name, start, end, label, score, strand = _fields(line, f"BED {path}, line {number}")
        contig = reference.resolve(name)
        if contig is None:
            reason, detail = RegionReason.CONTIG_ABSENT, f"contig {name} is not in reference {reference.path.name}"
        elif end > reference.length(contig):
            reason, detail = RegionReason.OUT_OF_RANGE, f"the contig ends at {reference.length(contig)}"
        elif start == end:
            reason, detail = RegionReason.EMPTY, "start equals end: no base"
        else:
            accepted.append((contig, start, end, label, score, strand, number))
            continue
        rejected.append((number, name, min(start, _BEYOND), min(end, _BEYOND), label, reason.value, detail))
    return Regions(
        _frame(accepted, ["contig", "start", "end", "name", "score", "strand", "line"]),
        _frame(rejected, ["line", "contig", "start", "end", "name", "reason", "detail"]),
    )


def _data_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open_text(path) as lines:
            for number, raw in enumerate(bounded_text(lines, f"BED {path}"), start=1):
                line = raw.rstrip("\r\n")
                if line.strip() and not line.startswith(_HEADERS):
                    yield number, line
    except (EOFError, OSError, zlib.error) as error:
        raise InputError(f"BED {path} is truncated or damaged: {error}") from error


def _fields(line: str, where: str) -> tuple[str, int, int, str | None, str | None, str | None]:
    fields = line.split("\t") if "\t" in line else line.split()
    if len(fields) < 3:
        raise InputError(f"{where}: a region needs contig, start and end; found {line[:60]!r}")
    try:
        start, end = int(fields[1]), int(fields[2])
    except ValueError:
        raise InputError(f"{where}: start and end must be whole numbers; found {fields[1]!r} and {fields[2]!r}") from None
    if not 0 <= start <= end:
        raise InputError(f"{where}: start {start} and end {end} are no 0-based half-open interval")
    name, score, strand = [*(field or None for field in fields[3:6]), None, None, None][:3]
    if strand is not None and strand not in _STRANDS:
        raise InputError(f"{where}: strand must be +, - or .; found {strand!r}")
    return fields[0], start, end, name, score, strand


def _frame(rows: list[tuple[object, ...]], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns)
    numbers = {"start": "int64", "end": "int64", "line": "int64"}
    return frame.astype({column: numbers.get(column, "str") for column in columns})
