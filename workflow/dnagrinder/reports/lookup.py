"""Scores of given alleles out of score tables that may be far larger than memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dnagrinder.errors import InputError, InvariantError
from dnagrinder.scoring.store.loci import Loci, group_span
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, allele_keys

#: What score tables add to an allele.
SCORE_COLUMNS = tuple(name for name in SCORE_SCHEMA.names if name not in ALLELE_COLUMNS)


class ScoreTables:
    """Score tables opened for look-ups; a context manager.

    A look-up reads the row groups that can hold one of its alleles. As score tables are sorted, those of neighbouring
    alleles are few, and a call set in sorted order reads each group about once.

    Raises:
        InputError: a table is missing, no Parquet, or lacks a column.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._resources = ExitStack()
        try:
            self._files = [self._resources.enter_context(_ScoreFile(path)) for path in paths]
        except BaseException:
            self._resources.close()
            raise

    def __enter__(self) -> ScoreTables:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._resources.close()

    def attach(self, alleles: pa.Table, columns: Sequence[str] = SCORE_COLUMNS) -> pa.Table:
        """``alleles`` (with columns contig, start, ref, alt) and ``columns`` of the score tables, row for row.

        Memory holds the rows of these alleles and one row group; of a table's several rows for an allele the first counts.

        Raises:
            InvariantError: an allele has no score.
        """
        wanted, loci = allele_keys(alleles), Loci.of(alleles)
        read = [*ALLELE_COLUMNS, *columns]
        schema = pa.schema([SCORE_SCHEMA.field(name) for name in read])
        found = pa.concat_tables(
            [schema.empty_table(), *(rows for file in self._files for rows in loci.rows_of(file, read))]
        )
        rows = pc.index_in(wanted, value_set=allele_keys(found))
        if rows.null_count:
            first = wanted[rows.is_null().index(True).as_py()].as_py()
            raise InvariantError(
                f"{rows.null_count} of {len(alleles)} accepted alleles have no score (first: {first}); the score tables "
                "are not those of this call set"
            )
        for name in columns:
            alleles = alleles.append_column(SCORE_SCHEMA.field(name), found[name].take(rows))
        return alleles


class _ScoreFile:
    """One table, as :meth:`Loci.rows_of` reads it."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"table {path} is missing")
        self._path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"table {path} cannot be read: {error}") from error
        names = self._file.schema_arrow.names
        if absent := [name for name in SCORE_SCHEMA.names if name not in names]:
            self._file.close()
            raise InputError(f"table {path} has no column {', '.join(absent)}; it is no score table")
        self.groups: int = self._file.num_row_groups
        self._spans = [group_span(self._file, group) for group in range(self.groups)]

    def __enter__(self) -> _ScoreFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def span(self, group: int) -> tuple[str, int, int] | None:
        """(contig, smallest start, largest start) of a row group; None where it holds several contigs or does not say."""
        return self._spans[group]

    def read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Columns of some row groups, in the types of SCORE_SCHEMA."""
        schema = pa.schema([SCORE_SCHEMA.field(name) for name in columns])
        try:
            return self._file.read_row_groups(list(groups), columns=list(columns)).select(list(columns)).cast(schema)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"table {self._path} cannot be read: {error}") from error
