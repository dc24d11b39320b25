"""Scoring a long table in parts, so that a killed run loses one part at most.

Finished parts lie in a hidden folder beside the output, ``.<output>.parts/<digest>-<number>.parquet``; the digest covers the
alleles and everything that decides their scores, so parts of another run are never taken up. The last act is one table with
all rows, after which the folder is removed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from dnagrinder.errors import InputError
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, read_parquet, write_parquet

PART = 2000  # alleles of a part: about two minutes of `mini` on two CPU cores

Score = Callable[[pa.Table, Callable[[int, int], None]], pa.Table]


def score_in_parts(
    alleles: pa.Table,
    out: Path,
    provenance: dict[str, Any],
    score: Score,
    on_progress: Callable[[int, int], None],
) -> pa.Table:
    """Score ``alleles`` part by part with ``score(part, on_progress)`` and write the whole to ``out``.

    Returns:
        The table written (SCORE_SCHEMA, in the order of ``alleles``).
    """
    folder = out.with_name(f".{out.name}.parts")
    digest = _digest(alleles, provenance)
    parts = []
    for number, first in enumerate(range(0, len(alleles), PART)):
        path = folder / f"{digest}-{number:06d}.parquet"
        part = _finished(path)
        if part is None:
            rows = alleles.slice(first, PART)
            part = score(rows, lambda done, _, first=first: on_progress(first + done, len(alleles)))  # type: ignore[misc]
            write_parquet(part, path, provenance)
        parts.append(part.replace_schema_metadata(None))
    whole = pa.concat_tables(parts) if parts else SCORE_SCHEMA.empty_table()
    write_parquet(whole.combine_chunks(), out, provenance)
    shutil.rmtree(folder, ignore_errors=True)
    return whole


def _finished(path: Path) -> pa.Table | None:
    """The part's table; None where it is absent or unreadable and must be scored again."""
    try:
        return read_parquet(path)
    except InputError:
        return None


def _digest(alleles: pa.Table, provenance: dict[str, Any]) -> str:
    value = hashlib.sha256(context_digest(provenance).encode())
    for name in ALLELE_COLUMNS:
        value.update(json.dumps(alleles[name].to_pylist()).encode())
    return value.hexdigest()[:32]
