"""One collection of one context: rows added, rows found, and what is not found made and added piece by piece.

A look-up takes what it needs: row groups whose statistics meet the wanted places, of those the columns contig and start, and
whole rows only where a wanted place lies. Memory holds the wanted keys and their rows, however large the store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.errors import StoreError
from dnagrinder.scoring.store.collection import Collection, collection_of
from dnagrinder.scoring.store.loci import Loci, Span
from dnagrinder.scoring.store.parts import Origin, Part, decided, parts_written, read_settled


class Shelf:
    """The rows of a collection in a context.

    Attributes:
        folder: where its parts lie.
        collection: what it keeps.
    """

    def __init__(self, folder: Path, provenance: dict[str, Any]) -> None:
        self._provenance = provenance
        self._spans: dict[Path, list[Span | None]] = {}  # of parts looked at; parts never change
        self.folder, self.collection = folder, collection_of(folder)

    def prepare(self) -> None:
        """Make the folder, before hours are spent on rows for it. Raises StoreError where it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"store {self.folder} cannot be made: {error}") from error
        if not os.access(self.folder, os.W_OK):
            raise StoreError(f"store {self.folder} cannot be written; give another folder or its write permission")

    def add(self, rows: pa.Table) -> None:
        """Keep rows of the collection's schema, on disk when this returns; rows already present are allowed."""
        with parts_written(self.folder) as write:
            write(rows, Origin(self._provenance))

    def split(self, wanted: pa.Table) -> tuple[pa.Table, pa.Table]:
        """(rows held, keys not held), both in the order of ``wanted``, a table with the columns of the key (each once).

        Raises:
            StoreError: a part is damaged or does not belong here.
        """
        wanted = wanted.select(list(self.collection.key))
        held = read_settled(self.folder, lambda paths: self._rows_at(Loci.of(wanted), paths))
        rows = pc.index_in(self.collection.keys(wanted), value_set=self.collection.keys(held))
        return held.take(rows.drop_null()).combine_chunks(), wanted.filter(rows.is_null()).combine_chunks()

    def _rows_at(self, loci: Loci, paths: list[Path]) -> pa.Table:
        """Rows of the parts at the loci; a part that is known to hold none is not opened again."""
        found = [self.collection.schema.empty_table()]
        for path in paths:
            if any(map(loci.may_meet, self._spans.get(path, [None]))):
                with Part(path) as part:
                    self._spans[path] = part.spans()
                    found += loci.rows_of(part, self.collection.schema.names)
        return decided(pa.concat_tables(found), self.collection)


def completed(
    collection: Collection, wanted: pa.Table, make: Callable[[pa.Table], Iterator[pa.Table]], shelf: Shelf | None
) -> pa.Table:
    """The rows of all keys of ``wanted``, in its order: those on the shelf, and the others as ``make`` gives them.

    Every piece is on disk before the next one is begun, so a killed job goes on where it was.

    Args:
        wanted: columns of the collection's key, each key once.
        make: gives the rows of keys, in their order, piece by piece.
        shelf: None where nothing is kept.

    Raises:
        StoreError: the store cannot be read or written.
    """
    held, missing = shelf.split(wanted) if shelf else (collection.schema.empty_table(), wanted)
    rows = [held]
    for piece in make(missing):
        if shelf:
            shelf.add(piece)
        rows.append(piece)
    table = pa.concat_tables(rows)
    return table.take(pc.index_in(collection.keys(wanted), value_set=collection.keys(table))).combine_chunks()
