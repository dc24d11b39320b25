"""Places of a genome, and the rows of large sorted tables that lie at them, with as little reading as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

Span = tuple[str, int, int]  # contig, smallest start, largest start
_CONTIG_SHIFT = 40  # bits of a start


class RowGroups(Protocol):
    """A table with columns contig and start that is read row group by row group.

    ``span`` is a group's span, None where it cannot be said.
    """

    groups: int

    def span(self, group: int) -> Span | None: ...

    def read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table: ...


@dataclass(frozen=True)
class Loci:
    """Distinct places.

    Attributes:
        contigs: distinct contig names, (contigs,).
        places: ``contig number * 2^40 + start``, sorted and distinct, (places,) int64.
    """

    contigs: pa.Array
    places: NDArray[np.int64]

    @classmethod
    def of(cls, rows: pa.Table) -> Loci:
        """The places of a table with columns contig and start (0-based)."""
        contigs = pc.unique(rows["contig"])
        return cls(contigs, np.unique(_places(rows, contigs)))

    def rows_of(self, part: RowGroups, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The part's rows at these places, whatever else they hold; reads the row groups that can hold any."""
        for group in range(part.groups):
            if self.may_meet(part.span(group)):
                hit = self._hits(part.read([group], ["contig", "start"]))
                if hit.any():
                    yield part.read([group], columns).filter(pa.array(hit))

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


def group_span(file: pq.ParquetFile, group: int) -> Span | None:
    """Span of a row group, by its statistics; None where it holds several contigs or does not say."""
    names, about = file.schema_arrow.names, file.metadata.row_group(group)
    contig, start = (about.column(names.index(name)).statistics for name in ("contig", "start"))
    if contig is None or start is None or not (contig.has_min_max and start.has_min_max) or contig.min != contig.max:
        return None
    return contig.min, start.min, start.max
