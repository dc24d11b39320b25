"""The score store: what was scored once is not scored again under the same model, reference and parameters.

Layout: ``<store>/<context>/<sha256 of the file>.parquet`` for alleles, ``<store>/<context>/bases/`` and
``.../haplotypes/`` for the other collections; <context> is the digest of checkpoint, tokenizer, reference and parameters, so
the whole key of a score is folder + key of its collection.

Why Parquet files and no database: a store is shared by jobs of a cluster over a network file system, where embedded engines
either allow one writing process (DuckDB) or lean on file locks that such systems do not keep (SQLite). Files that are
written aside, renamed and never changed need no lock, no server and no recovery; any number of jobs may read and add at
once, and a killed one leaves nothing half-written (``store.parts``). The price is that parts grow in number; ``dnagrinder
store prune`` merges them, beside running jobs (``store.upkeep``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.store.collection import ALLELES, BASES, HAPLOTYPES
from dnagrinder.scoring.store.shelf import Shelf
from dnagrinder.scoring.tables import SCORE_SCHEMA


class ScoreStore:
    """Scores of one context (model, reference, parameters) under ``root``.

    Attributes:
        folder: the context's.
        bases, haplotypes: the collections beside the alleles' scores.
    """

    def __init__(self, root: Path, provenance: dict[str, Any]) -> None:
        self.folder = root / context_digest(provenance)
        self._alleles, self.bases, self.haplotypes = (
            Shelf(self.folder / collection.name, provenance) for collection in (ALLELES, BASES, HAPLOTYPES)
        )

    def prepare(self) -> None:
        """Make the store's folder, before hours are spent on scores for it. Raises StoreError where it cannot be written."""
        self._alleles.prepare()

    def add(self, scores: pa.Table) -> None:
        """Keep the rows (SCORE_SCHEMA), on disk when this returns; rows already present are allowed."""
        self._alleles.add(scores)

    def split(self, alleles: pa.Table) -> tuple[pa.Table, pa.Table]:
        """(scores held, with status "from_store"; alleles not held), both in the order of ``alleles`` (each once).

        Raises:
            StoreError: a part is damaged or does not belong here.
        """
        found, missing = self._alleles.split(alleles)
        status = pa.array(["from_store"] * len(found), pa.string())
        found = found.set_column(SCORE_SCHEMA.get_field_index("status"), "status", status)
        return found.cast(SCORE_SCHEMA).combine_chunks(), missing
