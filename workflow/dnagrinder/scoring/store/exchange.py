"""Scores carried from store to store: a context out into a file, and in again with checksum and attribution.

The file's header line is the JSON of ``schema``, ``provenance`` (tool version, sha256 of weights, tokenizer, reference and
parameters) and ``imports`` (whom the exporting lab had rows from).
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.errors import ConfigError, InputError, StoreError
from dnagrinder.genome.files import existing_file, file_sha256
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.store.collection import ALLELES
from dnagrinder.scoring.store.formats import HEADER, read_scores, write_bcf, write_tsv
from dnagrinder.scoring.store.parts import (
    PART_ROWS,
    Origin,
    Part,
    contig_index,
    contig_rows,
    decided,
    find_context,
    parts_written,
    read_settled,
)
from dnagrinder.scoring.tables import ALLELE_COLUMNS, table_alleles

SCHEMA = 1  # raised by every change of the header line or the columns
_SHA256 = re.compile("[0-9a-f]{64}").fullmatch
_NUMBERED = re.compile(r"(?:chr)?(\d+)", re.ASCII).fullmatch
_LETTERED = ("X", "Y", "M", "MT")


def export_scores(root: Path, out: Path, context: str | None = None, reference: Path | None = None) -> dict[str, Any]:
    """Write one context, each allele once, as ``*.tsv.gz`` (index ``.tbi``) or ``*.bcf`` (index ``.csi``).

    Memory holds the rows of one contig. Same rows, same bytes.

    Args:
        context: its name or the beginning of it; None for the only one.
        reference: FASTA of the context; gives the order and lengths of the contigs. Without it: 1, 2, ..., X, Y, M, others.

    Returns:
        context, alleles, and the sha256 of the file, for the other lab to compare.

    Raises:
        ConfigError: another ending. StoreError: no such context, a damaged part, or nothing to export.
        InputError: the reference is not the context's.
    """
    if not out.name.endswith((".tsv.gz", ".bcf")):
        raise ConfigError(f"output {out}: scores are exported as *.tsv.gz or *.bcf; give such a name")
    folder = find_context(root, context)
    alleles = read_settled(folder, partial(_export, out, reference))
    return {"context": folder.name, "alleles": alleles, "sha256": file_sha256(out)}


def _export(out: Path, reference: Path | None, paths: list[Path]) -> int:
    if not paths:
        raise StoreError(f"nothing to write into {out}: the context holds no scores")
    provenance, imports = _origins(paths)
    header = json.dumps({"schema": SCHEMA, "provenance": provenance, "imports": imports}, sort_keys=True)
    index = contig_index(paths)
    contigs = _contigs(list(index), reference, provenance)
    tables = (_in_order(decided(contig_rows(name, index[name]), ALLELES)) for name, _ in contigs if name in index)
    return write_bcf(out, header, contigs, tables) if out.suffix == ".bcf" else write_tsv(out, header, tables)


def _origins(paths: Sequence[Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Provenance of the context (tool versions may differ: the first) and the distinct sources of its imported rows."""
    provenances, sources = {}, {}
    for path in paths:
        with Part(path) as part:
            origin = part.origin
        provenances[json.dumps(origin.provenance, sort_keys=True)] = origin.provenance
        if origin.source:
            sources[json.dumps(origin.source, sort_keys=True)] = origin.source
    return provenances[min(provenances)], [sources[key] for key in sorted(sources)]


def _contigs(names: list[str], reference: Path | None, provenance: dict[str, Any]) -> list[tuple[str, int | None]]:
    """Contigs (name, length or None) in the order of the file; ``names`` that the reference lacks come last."""
    known: list[tuple[str, int | None]] = []
    if reference is not None:
        with ReferenceGenome.open(reference) as genome:
            if genome.digest() != provenance["reference_sha256"]:
                raise InputError(
                    f"reference {reference} is not the one that the scores were made with; give that one or none"
                )
            known = [(contig.name, contig.length) for contig in genome.contigs]
    others = set(names) - {name for name, _ in known}
    return known + [(name, None) for name in sorted(others, key=_natural_place)]


def _natural_place(name: str) -> tuple[int, int, str]:
    if match := _NUMBERED(name):
        return 0, int(match[1]), name
    plain = name.removeprefix("chr")
    return 1, _LETTERED.index(plain) if plain in _LETTERED else len(_LETTERED), name


def _in_order(rows: pa.Table) -> pa.Table:
    return rows.sort_by([(name, "ascending") for name in ALLELE_COLUMNS])


def import_scores(root: Path, file: Path, source: str, expected_sha256: str | None = None) -> dict[str, Any]:
    """Add the rows of an exported file to the store, into the context that its header states; all of them or none.

    The parts keep ``source`` (who gave it), the file's name and sha256, and the sources that the file itself names. The same
    file imported again changes nothing.

    Returns:
        context, rows, sha256, and new_context: whether the store had no such context before.

    Raises:
        ConfigError: an unusable ``source``.
        InputError: another sha256, not exported scores, another schema, damage, or a row that is no score.
    """
    if not source.strip() or not source.isprintable():
        raise ConfigError(f"source names who gave the scores, in printable characters; found {source!r}")
    sha256 = file_sha256(existing_file(file, "score file"))
    if expected_sha256 and sha256 != expected_sha256.lower():
        raise InputError(f"score file {file} has sha256 {sha256}, expected {expected_sha256}; transfer it again")
    rows = 0
    try:
        text, tables = read_scores(file)
        provenance, imports = _stated(text, file)
        origin = Origin(provenance, {"name": source, "file": file.name, "sha256": sha256, "imports": imports})
        folder = root / context_digest(provenance)
        new_context = not folder.is_dir()
        with parts_written(folder) as write:
            for table in _gathered(tables):
                _check_rows(table, file)
                write(table, origin)
                rows += len(table)
    except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
        raise InputError(f"score file {file} is damaged or holds something else: {error}; ask for it again") from error
    return {"context": folder.name, "rows": rows, "sha256": sha256, "new_context": new_context}


def _stated(text: str, file: Path) -> tuple[dict[str, Any], list[Any]]:
    """(provenance, imports) of the header line. Raises InputError where it cannot be trusted to name a context."""
    try:
        stated = json.loads(text)
        schema, provenance, imports = stated["schema"], stated["provenance"], list(stated["imports"])
        sums = [provenance[f"{name}_sha256"] for name in ("tokenizer", "reference", "parameters")]
        complete = all(map(_SHA256, [provenance["checkpoint"]["sha256"], *sums])) and isinstance(
            provenance["tool_version"], str
        )
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"score file {file}: its line ##{HEADER}= cannot be read ({error!r}); ask for it again") from error
    if schema != SCHEMA:
        raise InputError(
            f"score file {file} has schema {schema}, this version reads {SCHEMA}; use the version that wrote it"
        )
    if not complete:
        raise InputError(f"score file {file}: its line ##{HEADER}= lacks a sha256 or the tool's version; ask for it again")
    return provenance, imports


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows in tables of about a full part."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= PART_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _check_rows(table: pa.Table, file: Path) -> None:
    """Refuse rows without a normalised allele, a finite score, views or method. Raises InputError."""
    try:
        table_alleles(table)
    except (TypeError, ValueError) as error:
        raise InputError(f"score file {file}: {error}; ask for it again") from error
    good = pc.and_(pc.is_finite(table["score"]), pc.greater(table["views"], 0))
    good = pc.and_(pc.fill_null(good, False), pc.is_valid(table["method"]))
    first_bad = pc.index(good, False).as_py()
    if first_bad >= 0:
        row = table.slice(first_bad, 1).to_pylist()[0]
        raise InputError(f"score file {file}: a row without finite score, views or method: {row}; ask for the file again")
