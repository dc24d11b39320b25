"""The sample sheet: which sample's variants lie in which file, and in which of its columns.

A *callset* is one distinct VCF or BCF. It is named after its sample where one row of the sheet uses the file, else
after the file. A file with one sample column, or none, needs no column named, whatever the column is called.
Findings are collected in lists of messages; nothing here raises for what a user wrote.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import os
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from dnagrinder.errors import InputError
from dnagrinder.genome.files import bounded_lines
from dnagrinder.genome.vcf_lines import LONGEST_HEADER

Row = dict[str, str | None]


@dataclass(frozen=True)
class Sample:
    """One row of the sheet.

    Attributes:
        name: the sample's name in all results, safe as a folder name.
        callset: name of the callset that holds its variants.
        column: the sample's column in that file; None where the file has none.
        family, role, sex, phenotype: as the sheet says; None where it does not. Who has a family has a role.
    """

    name: str
    callset: str
    column: str | None
    family: str | None = None
    role: str | None = None
    sex: str | None = None
    phenotype: str | None = None

    @property
    def selector(self) -> str:
        """The sample as the command line takes it: ``name=column``, or the name alone where there is no column."""
        return self.name if self.column is None else f"{self.name}={self.column}"


@dataclass(frozen=True)
class Callset:
    """One distinct file of variants.

    Attributes:
        name: safe as a folder name, unique in the run.
        vcf: path as it stands in the sheet.
        columns: sample columns that the sheet asks for, in the order of the sheet; empty for a file of sites.
    """

    name: str
    vcf: str
    columns: tuple[str, ...]


def read_rows(path: Path) -> tuple[list[Row], list[str]]:
    """Rows of a tab-separated sheet and the problems of its form; empty fields are None, ``#`` lines are skipped.

    A header line may begin with ``#``, as that of a VCF.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        return [], [f"sample sheet {path}: {error.strerror or error}"]
    except UnicodeDecodeError:
        return [], [f"sample sheet {path}: not UTF-8 text; save it as tab-separated text"]
    lines = _without_comments([line for line in text.splitlines() if line.strip()])
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    header = [field.strip() for field in next(reader, [])]
    problems = []
    if not header:
        problems.append(f"sample sheet {path}: empty; it needs a header line with the columns sample and vcf")
    repeated = sorted({name for name in header if header.count(name) > 1})
    problems += [f"sample sheet {path}: column {name!r} stands there twice" for name in repeated]
    rows = []
    for number, fields in enumerate(reader, start=1):
        if len(fields) > len(header):
            problems.append(f"sample sheet {path}, row {number}: {len(fields)} fields under {len(header)} columns")
            continue
        padded = fields + [""] * (len(header) - len(fields))
        rows.append({name: value.strip() or None for name, value in zip(header, padded, strict=True)})
    if header and not rows and not problems:
        problems.append(f"sample sheet {path}: no rows under the header line")
    return rows, problems


def _fields(line: str) -> list[str]:
    return [field.strip() for field in line.split("\t")]


def _without_comments(lines: list[str]) -> list[str]:
    """Header line and rows of the sheet.

    Where the first line that is no comment lacks ``sample`` or ``vcf``, it is no header: then the last comment before it
    whose first column is ``sample``, and that has ``vcf``, is the header, without its ``#``.
    """
    first = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    rows = [line for line in lines[first:] if not line.startswith("#")]
    if rows and {"sample", "vcf"} <= {*_fields(rows[0])}:
        return rows
    headers = [line.removeprefix("#") for line in lines[:first]]
    marked = [line for line in headers if _fields(line)[0] == "sample" and "vcf" in _fields(line)]
    return [*marked[-1:], *rows]


def vcf_columns(path: Path) -> tuple[str, ...] | None:
    """Names of the sample columns of a VCF (plain, gzip, bgzip) or BCF; None where the file has no readable header.

    What is wrong with such a file is told by the reader of variants, which knows the whole format.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        with cast(BinaryIO, gzip.open(path)) if packed else path.open("rb") as handle:
            if handle.read(5) == b"BCF\x02\x02":
                (length,) = struct.unpack("<I", handle.read(4))
                text: BinaryIO = io.BytesIO(handle.read(min(length, LONGEST_HEADER)))
            else:
                handle.seek(0)
                text = handle
            for line in bounded_lines(text.read, f"VCF {path}"):
                if line.startswith(b"#CHROM\t"):
                    return tuple(line.decode("utf-8").rstrip("\r\n\0").split("\t")[9:])
                if not line.startswith(b"#"):
                    return None
    except (InputError, OSError, EOFError, zlib.error, struct.error, UnicodeDecodeError):
        return None
    return None


def safe_name(text: str) -> str:
    """The text with every run of characters that a folder name should not have replaced by one underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".-") or "callset"


def name_callsets(samples_by_file: dict[str, list[str]]) -> dict[str, str]:
    """A unique name for each file: its sample's where it has one sample, else its stem, numbered where taken.

    Args:
        samples_by_file: file as it stands in the sheet to the names of its samples, in the order of the sheet.
    """
    names = {file: samples[0] for file, samples in samples_by_file.items() if len(samples) == 1}
    taken = set(names.values())
    for file in sorted(set(samples_by_file) - set(names)):
        stem = safe_name(re.sub(r"(\.vcf|\.bcf)?(\.gz|\.bgz)?$", "", Path(file).name))
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        names[file] = name
        taken.add(name)
    return names


def choose_column(row: Row, columns: tuple[str, ...] | None) -> tuple[str | None, str | None]:
    """The row's column of its file, and what is wrong with the choice (None where nothing is).

    Args:
        row: a valid row of the sheet.
        columns: sample columns of the file; None where they are not known.
    """
    asked = row.get("vcf_sample")
    wanted = cast(str, asked or row["sample"])
    if columns is None or wanted in columns:
        return wanted, None
    if not asked and len(columns) <= 1:
        return (columns[0] if columns else None), None
    near = difflib.get_close_matches(wanted, columns, n=1)
    there = f"the closest is {near[0]!r}" if near else f"it has {', '.join(columns[:5]) or 'none'}"
    hint = "" if asked else "; name the sample's column in the column vcf_sample of the sheet"
    return None, f"sample {row['sample']!r}: {row['vcf']} has no sample column {wanted!r} ({there}){hint}"


def assign_callsets(
    rows: Sequence[Row], base: Path, *, look: bool
) -> tuple[tuple[Sample, ...], tuple[Callset, ...], list[str]]:
    """Samples and callsets of valid rows, and every problem found in the files' headers.

    Args:
        rows: rows with a sample and a vcf each, sample names unique.
        base: folder that relative paths start from.
        look: whether to open the files; without, a row's column is its vcf_sample or its sample name.
    """
    spelling: dict[str, str] = {}
    files = [spelling.setdefault(os.path.realpath(base / cast(str, row["vcf"])), cast(str, row["vcf"])) for row in rows]
    columns_of = {file: vcf_columns(base / file) if look else None for file in dict.fromkeys(files)}
    names_in: dict[str, list[str]] = {}
    for row, file in zip(rows, files, strict=True):
        names_in.setdefault(file, []).append(cast(str, row["sample"]))
    names = name_callsets(names_in)
    samples: list[Sample] = []
    problems: list[str] = []
    owner: dict[tuple[str, str | None], str] = {}
    for row, file in zip(rows, files, strict=True):
        name = cast(str, row["sample"])
        column, problem = choose_column(row, columns_of[file])
        if problem:
            problems.append(problem)
        elif (file, column) in owner:
            which = f"the column {column!r} of {file}" if column else f"all of {file}"
            problems.append(f"samples {owner[file, column]!r} and {name!r} both take {which}")
        else:
            owner[file, column] = name
            person = {key: row.get(key) for key in ("family", "sex", "phenotype")}
            role = (row.get("role") or "other") if row.get("family") else None
            samples.append(Sample(name=name, callset=names[file], column=column, role=role, **person))
    callsets = tuple(
        Callset(names[file], file, tuple(s.column for s in samples if s.callset == names[file] and s.column))
        for file in names_in
    )
    return tuple(samples), callsets, problems


def row_problems(rows: Sequence[Row], check: Callable[[Any, str], list[str]], base: Path, *, look: bool) -> list[str]:
    """Problems of single rows and of names used twice.

    Args:
        rows: rows as read.
        check: checks one row against the schema; takes the row and the words that say where it stands.
        base: folder that relative paths start from.
        look: whether missing files are problems.
    """
    blank = {name: "x" if name in ("sample", "vcf") else None for name in rows[0]} if rows else {}
    problems = check(blank, "sample sheet, header line") if rows else []
    if problems:
        return problems
    first: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        where = f"sample sheet, row {number}"
        problems += check({name: value for name, value in row.items() if value is not None}, where)
        name, vcf = row.get("sample"), row.get("vcf")
        if name and first.setdefault(name, number) != number:
            problems.append(f"{where}: sample {name!r} stands in row {first[name]} already; names must be unique")
        if look and vcf and not (base / vcf).is_file():
            problems.append(f"{where}: file not found: {vcf}")
    return problems


def family_problems(rows: Sequence[Row]) -> list[str]:
    """What is wrong with the families of valid rows: roles that are missing, twice there, or of the other sex."""
    problems = [
        f"sample sheet: sample {row['sample']!r} is {row['role']} of no family; fill in the column family"
        for row in rows
        if row.get("role") and not row.get("family")
    ]
    expected = {"mother": "female", "father": "male"}
    for row in rows:
        right = expected.get(row.get("role") or "")
        if right and row.get("sex") not in (None, right):
            problems.append(
                f"sample sheet: sample {row['sample']!r} is {row['role']} and {row['sex']}; one of the two is wrong"
            )
    for family in dict.fromkeys(row["family"] for row in rows if row.get("family")):
        members = [row for row in rows if row.get("family") == family]
        for role in ("proband", "mother", "father"):
            named = [str(row["sample"]) for row in members if row.get("role") == role]
            if len(named) > 1:
                problems.append(
                    f"sample sheet: family {family!r} has {len(named)} of role {role}: {', '.join(named)}; one is allowed"
                )
            if role == "proband" and not named:
                problems.append(f"sample sheet: family {family!r} has no proband; give one of its samples the role proband")
    return problems
