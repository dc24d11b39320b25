"""The score store: an allele scored once is not scored again under the same model, reference and parameters.

Layout: ``<store>/<context>/<sha256 of content>.parquet``; <context> is the digest of checkpoint, tokenizer, reference and
parameters. Parts are only ever added, each written aside and renamed, so several runs may add at the same time and a killed
one leaves nothing half-written.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dnagrinder.errors import InputError, StoreError
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.tables import ALLELE_COLUMNS, METADATA_KEY, SCORE_SCHEMA, read_provenance, write_parquet


class ScoreStore:
    """Scores of one context (model, reference, parameters) under ``root``."""

    def __init__(self, root: Path, provenance: dict[str, Any]) -> None:
        self._provenance = provenance
        self._folder = root / context_digest(provenance)

    def prepare(self) -> None:
        """Make the store's folder, before hours are spent on scores for it. Raises StoreError where it cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"store {self._folder} cannot be made: {error}") from error
        if not os.access(self._folder, os.W_OK):
            raise StoreError(f"store {self._folder} cannot be written; give another folder or its write permission")

    def add(self, scores: pa.Table) -> None:
        """Keep the rows (SCORE_SCHEMA); rows already present are allowed."""
        if not len(scores):
            return
        rows = scores.select(SCORE_SCHEMA.names).sort_by([(name, "ascending") for name in ALLELE_COLUMNS])
        sink = pa.BufferOutputStream()
        pq.write_table(rows, sink, compression="zstd")
        name = hashlib.sha256(sink.getvalue()).hexdigest()
        target = self._folder / f"{name}.parquet"
        if not target.exists():
            try:
                write_parquet(rows, target, self._provenance)
            except OSError as error:
                raise StoreError(f"store {self._folder} cannot be written: {error}") from error

    def split(self, alleles: pa.Table) -> tuple[pa.Table, pa.Table]:
        """(scores held, with status "from_store"; alleles not held), both in the order of ``alleles``."""
        held = self._load()
        keys = list(ALLELE_COLUMNS)
        found = alleles.select(keys).join(held, keys, join_type="inner").sort_by([(name, "ascending") for name in keys])
        missing = alleles.select(keys).join(held.select(keys), keys, join_type="left anti")
        status = pa.array(["from_store"] * len(found), pa.string())
        found = found.set_column(found.schema.get_field_index("status"), "status", status)
        return (
            found.select(SCORE_SCHEMA.names).cast(SCORE_SCHEMA).combine_chunks(),
            missing.sort_by([(name, "ascending") for name in keys]).combine_chunks(),
        )

    def _load(self) -> pa.Table:
        parts = []
        for path in sorted(self._folder.glob("*.parquet")):
            try:
                traced = read_provenance(path)
                part = pq.read_table(path).select(SCORE_SCHEMA.names).cast(SCORE_SCHEMA)
            except (pa.ArrowException, OSError, KeyError, ValueError, InputError) as error:
                raise StoreError(
                    f"store part {path} cannot be read ({error}); remove it, its alleles are scored again"
                ) from error
            if context_digest(traced) != self._folder.name:
                raise StoreError(f"store part {path} was made by another model, reference or parameters; remove it")
            parts.append(part.replace_schema_metadata({METADATA_KEY: b""}))
        table = pa.concat_tables(parts) if parts else SCORE_SCHEMA.empty_table()
        rows = table.append_column("row", pa.array(range(len(table)), pa.int64()))
        first = rows.group_by(list(ALLELE_COLUMNS)).aggregate([("row", "min")])
        return table.take(first["row_min"])
