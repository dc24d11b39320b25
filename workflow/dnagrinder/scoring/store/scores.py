"""The score store: an allele scored once is not scored again under the same model, reference and parameters.

Layout: ``<store>/<context>/<sha256 of the file>.parquet``; <context> is the digest of checkpoint, tokenizer, reference and
parameters, so the whole key of a score is folder + allele.

Why Parquet files and no database: a store is shared by jobs of a cluster over a network file system, where embedded engines
either allow one writing process (DuckDB) or lean on file locks that such systems do not keep (SQLite). Files that are
written aside, renamed and never changed need no lock, no server and no recovery; any number of jobs may read and add at
once, and a killed one leaves nothing half-written (``store.parts``). The price is that parts grow in number; ``dnagrinder
store prune`` merges them, beside running jobs (``store.upkeep``).

A look-up takes what it needs: row groups whose statistics meet the wanted places, of those the columns contig and start, and
whole rows only where a wanted place lies. Memory holds the wanted alleles and their rows, however large the store.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dnagrinder.errors import StoreError
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.store.parts import Origin, Part, Span, decided, parts_written, read_settled
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, allele_keys

_CONTIG_SHIFT = 40  # bits of a start


class ScoreStore:
    """Scores of one context (model, reference, parameters) under ``root``.

    Attributes:
        folder: where its parts lie.
    """

    def __init__(self, root: Path, provenance: dict[str, Any]) -> None:
        self._provenance = provenance
        self._spans: dict[Path, list[Span | None]] = {}  # of parts looked at; parts never change
        self.folder = root / context_digest(provenance)

    def prepare(self) -> None:
        """Make the store's folder, before hours are spent on scores for it. Raises StoreError where it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"store {self.folder} cannot be made: {error}") from error
        if not os.access(self.folder, os.W_OK):
            raise StoreError(f"store {self.folder} cannot be written; give another folder or its write permission")

    def add(self, scores: pa.Table) -> None:
        """Keep the rows (SCORE_SCHEMA), on disk when this returns; rows already present are allowed."""
        with parts_written(self.folder) as write:
            write(scores, Origin(self._provenance))

    def split(self, alleles: pa.Table) -> tuple[pa.Table, pa.Table]:
        """(scores held, with status "from_store"; alleles not held), both in the order of ``alleles`` (each once).

        Raises:
            StoreError: a part is damaged or does not belong here.
        """
        wanted = alleles.select(list(ALLELE_COLUMNS))
        held = read_settled(self.folder, lambda paths: self._rows_at(Loci.of(wanted), paths))
        rows = pc.index_in(allele_keys(wanted), value_set=allele_keys(held))
        found = held.take(rows.drop_null())
        status = pa.array(["from_store"] * len(found), pa.string())
        found = found.set_column(SCORE_SCHEMA.get_field_index("status"), "status", status)
        return found.cast(SCORE_SCHEMA).combine_chunks(), wanted.filter(rows.is_null()).combine_chunks()

    def _rows_at(self, loci: Loci, paths: list[Path]) -> pa.Table:
        """Rows of the parts at the loci; a part that is known to hold none is not opened again."""
        found = [SCORE_SCHEMA.empty_table()]
        for path in paths:
            if any(map(loci.may_meet, self._spans.get(path, [None]))):
                with Part(path) as part:
                    self._spans[path] = part.spans()
                    found.append(loci.rows_of(part))
        return decided(pa.concat_tables(found))


class RowGroups(Protocol):
    """A table of scores that is read row group by row group.

    ``span`` is a group's (contig, smallest start, largest start), None where it cannot be said; ``read`` gives columns in
    the types of SCORE_SCHEMA.
    """

    groups: int

    def span(self, group: int) -> tuple[str, int, int] | None: ...

    def read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table: ...


@dataclass(frozen=True)
class Loci:
    """Distinct places of alleles.

    Attributes:
        contigs: distinct contig names, (contigs,).
        places: ``contig number * 2^40 + start``, sorted and distinct, (places,) int64.
    """

    contigs: pa.Array
    places: NDArray[np.int64]

    @classmethod
    def of(cls, alleles: pa.Table) -> Loci:
        """The places of a table with columns contig and start."""
        contigs = pc.unique(alleles["contig"])
        return cls(contigs, np.unique(_places(alleles, contigs)))

    def rows_of(self, part: RowGroups, columns: Sequence[str] = tuple(SCORE_SCHEMA.names)) -> pa.Table:
        """The part's rows at these places, whatever their ref and alt; reads the row groups that can hold any."""
        found = []
        for group in range(part.groups):
            if self.may_meet(part.span(group)):
                hit = self._hits(part.read([group], ["contig", "start"]))
                if hit.any():
                    found.append(part.read([group], columns).filter(pa.array(hit)))
        return pa.concat_tables([pa.schema([SCORE_SCHEMA.field(name) for name in columns]).empty_table(), *found])

    def may_meet(self, span: Span | None) -> bool:
        """Whether a wanted place may lie in the span; always for None."""
        if span is None:
            return True
        number = self.contigs.index(span[0]).as_py()
        if number < 0:
            return False
        first, last = (np.int64(number << _CONTIG_SHIFT) + np.int64(start) for start in span[1:])
        return bool(np.searchsorted(self.places, first) < np.searchsorted(self.places, last, side="right"))

    def _hits(self, rows: pa.Table) -> NDArray[np.bool_]:
        if not len(self.places):
            return np.zeros(len(rows), bool)
        places = _places(rows, self.contigs)
        nearest = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
        hits: NDArray[np.bool_] = self.places[nearest] == places
        return hits


def _places(rows: pa.Table, contigs: pa.Array) -> NDArray[np.int64]:
    numbers = pc.fill_null(pc.index_in(rows["contig"], value_set=contigs), -1).to_numpy().astype(np.int64)
    places: NDArray[np.int64] = (numbers << _CONTIG_SHIFT) + rows["start"].to_numpy()
    return places
