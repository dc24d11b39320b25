"""Scoring a long table in parts, so that a killed run loses one part at most.

Finished parts lie in a hidden folder beside the output, ``.<output>.parts/<digest>-<number>.parquet``; the digest covers the
alleles and everything that decides their scores, so parts of another run are never taken up. They are removed when all that
is made of the scores has been written.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from dnagrinder.errors import InputError
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, read_parquet, write_parquet

NAME_END = 50  # characters of a long output's name that the folder keeps: a name holds 255 bytes at most
PART = 2000  # alleles of a part: about two minutes of `mini` on two CPU cores

Progress = Callable[[int, int], None]
Score = Callable[[pa.Table, Progress | None], pa.Table]


@contextmanager
def scored_in_parts(
    alleles: pa.Table,
    out: Path,
    provenance: dict[str, Any],
    score: Score,
    on_progress: Progress | None = None,
) -> Iterator[pa.Table]:
    """Score ``alleles`` part by part with ``score(part, on_progress)``; the block writes what it wants, ``out`` last.

    Parts lie beside ``out`` and are kept if the block fails, so that nothing need be scored again.

    Yields:
        SCORE_SCHEMA, in the order of ``alleles``.
    """
    folder = out.with_name(f".{out.name[-NAME_END:]}.parts")
    digest = _digest(alleles, provenance)
    parts = []
    for number, first in enumerate(range(0, len(alleles), PART)):
        path, rows = folder / f"{digest}-{number:06d}.parquet", alleles.slice(first, PART)
        part = _finished(path, rows)
        if part is None:
            part = score(rows, _moved(on_progress, first, len(alleles)))
            write_parquet(part, path, provenance)
        parts.append(part.replace_schema_metadata(None))
    yield pa.concat_tables(parts).combine_chunks() if parts else SCORE_SCHEMA.empty_table()
    shutil.rmtree(folder, ignore_errors=True)


def _moved(on_progress: Progress | None, first: int, total: int) -> Progress | None:
    """What is done of a part, told as what is done of the whole."""
    if on_progress is None:
        return None
    return lambda done, _: on_progress(first + done, total)


def _finished(path: Path, rows: pa.Table) -> pa.Table | None:
    """The part's table; None where it is absent, unreadable or of other alleles, and must be scored again."""
    try:
        part = read_parquet(path)
    except InputError:
        return None
    return part if _spelled(part) == _spelled(rows) else None


def _spelled(table: pa.Table) -> list[list[str | int]]:
    return [table[name].to_pylist() for name in ALLELE_COLUMNS]


def _digest(alleles: pa.Table, provenance: dict[str, Any]) -> str:
    value = hashlib.sha256(context_digest(provenance).encode())
    for name in ALLELE_COLUMNS:
        value.update(json.dumps(alleles[name].to_pylist()).encode())
    return value.hexdigest()[:32]
