"""Score tables as Parquet: deterministic bytes, provenance in the schema's metadata, written aside then renamed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dnagrinder.errors import InputError
from dnagrinder.genome.files import written_aside
from dnagrinder.genome.variants import Allele

if TYPE_CHECKING:
    from dnagrinder.scoring.alleles import AlleleScore

METADATA_KEY = b"dnagrinder"
ROW_GROUP = 65_536  # rows that a reader takes or passes over together
ALLELE_COLUMNS = ("contig", "start", "ref", "alt")
ALLELE_SCHEMA = pa.schema([("contig", pa.string()), ("start", pa.int64()), ("ref", pa.string()), ("alt", pa.string())])
SCORE_SCHEMA = pa.schema(
    [
        *ALLELE_SCHEMA,
        ("score", pa.float64()),
        ("spread", pa.float64()),
        ("views", pa.int32()),
        ("log_p_ref", pa.float64()),
        ("log_p_alt", pa.float64()),
        ("cosine_distance", pa.float64()),
        ("l2_distance", pa.float64()),
        ("method", pa.string()),
        ("status", pa.string()),
    ]
)


def write_parquet(table: pa.Table, path: Path, provenance: dict[str, Any] | None = None) -> None:
    """Write a table with zstd; same content gives the same bytes. ``provenance`` goes into the schema's metadata."""
    if provenance is not None:
        text = json.dumps(provenance, sort_keys=True).encode()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA_KEY: text})
    with written_aside(path) as partial:
        pq.write_table(table, partial, compression="zstd", row_group_size=ROW_GROUP)


@contextmanager
def rows_written(path: Path, schema: pa.Schema, provenance: dict[str, Any]) -> Iterator[Callable[[pa.Table], None]]:
    """A function that adds rows of ``schema`` to a table; it appears when the block ends well.

    Memory holds fewer than ROW_GROUP rows between calls. The bytes depend on the rows alone, not on the pieces.
    """
    schema = schema.with_metadata({METADATA_KEY: json.dumps(provenance, sort_keys=True).encode()})
    held = schema.empty_table()
    with written_aside(path) as aside, pq.ParquetWriter(aside, schema, compression="zstd") as out:

        def add(rows: pa.Table) -> None:
            nonlocal held
            held = pa.concat_tables([held, rows.replace_schema_metadata(schema.metadata)])
            while len(held) >= ROW_GROUP:
                out.write_table(held.slice(0, ROW_GROUP))
                held = held.slice(ROW_GROUP)

        yield add
        if len(held):
            out.write_table(held)


def read_parquet(
    path: Path, columns: Sequence[str] | None = None, filters: Sequence[tuple[str, str, Any]] | None = None
) -> pa.Table:
    """Read a table, or its rows that pass all ``filters`` (column, comparison, value; pyarrow's).

    Raises InputError where the file is absent, no Parquet, or lacks a column.
    """
    if not path.is_file():
        raise InputError(f"table {path} is missing")
    try:
        return pq.read_table(path, columns=list(columns) if columns else None, filters=list(filters) if filters else None)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"table {path} cannot be read: {error}") from error


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The table in pieces of at most ROW_GROUP rows, in file order; memory holds one.

    Raises InputError where the file is absent, no Parquet, or lacks a column.
    """
    if not path.is_file():
        raise InputError(f"table {path} is missing")
    try:
        with pq.ParquetFile(path) as file:
            if absent := [name for name in columns if name not in file.schema_arrow.names]:
                raise InputError(f"table {path} has no column {', '.join(absent)}")
            for batch in file.iter_batches(ROW_GROUP, columns=list(columns)):
                yield pa.Table.from_batches([batch]).select(list(columns))
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"table {path} cannot be read: {error}") from error


def read_provenance(path: Path) -> dict[str, Any]:
    """The provenance that ``write_parquet`` put into a table."""
    metadata = pq.read_schema(path).metadata or {}
    if METADATA_KEY not in metadata:
        raise InputError(f"table {path} carries no dnagrinder provenance; it was not written by dnagrinder score-alleles")
    traced: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    return traced


def scores_table(scores: Iterable[AlleleScore], status: str = "scored") -> pa.Table:
    """Scores as a table of SCORE_SCHEMA; a distance that is not known is null."""
    rows = [
        {
            **{column: getattr(item.allele, column) for column in ALLELE_COLUMNS},
            "score": item.score,
            "spread": item.spread,
            "views": item.views,
            "log_p_ref": item.log_p_ref,
            "log_p_alt": item.log_p_alt,
            "cosine_distance": None if math.isnan(item.cosine_distance) else item.cosine_distance,
            "l2_distance": None if math.isnan(item.l2_distance) else item.l2_distance,
            "method": item.method,
            "status": status,
        }
        for item in scores
    ]
    return pa.Table.from_pylist(rows, schema=SCORE_SCHEMA)


def table_alleles(table: pa.Table) -> list[Allele]:
    """The alleles of a table's rows."""
    columns = [table.column(name).to_pylist() for name in ALLELE_COLUMNS]
    return [Allele(*row) for row in zip(*columns, strict=True)]


def allele_keys(table: pa.Table) -> pa.Array:
    """``contig:start:ref:alt`` per row (start 0-based); unambiguous, since only the contig may hold a colon."""
    parts = [pc.cast(table[name].combine_chunks(), pa.large_string()) for name in ALLELE_COLUMNS]
    return pc.binary_join_element_wise(*parts, pa.scalar(":", pa.large_string()))
