"""Every scored allele of a cohort once, with its carriers.

The genome is cut into tiles of about equally many rows of all samples' tables, and one tile is worked on at a time: memory
follows from the tile and the number of samples, not from the genome. Of sorted tables, as sorted VCFs give, a tile reads the
row groups that lie in it; of others all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dnagrinder.errors import InputError, InvariantError
from dnagrinder.reports.tables import SAMPLE_SCHEMA, read_summary
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, allele_keys

#: Columns of an allele that do not depend on the sample; annotations are those of its first carrier.
SHARED = (
    *ALLELE_COLUMNS,
    "kind",
    "gene",
    "consequence",
    "clinical_significance",
    *(name for name in SCORE_SCHEMA.names if name not in (*ALLELE_COLUMNS, "status")),
)
COHORT_SCHEMA = pa.schema(
    [
        *(SAMPLE_SCHEMA.field(name) for name in SHARED),
        ("carriers", pa.int32()),  # number of samples
        ("samples", pa.list_(pa.string())),  # their names, sorted
    ]
)
_TILE_ROWS = 16_000_000  # of all samples together: some 128 MB of carriers
_HELD_ROWS = 1_000_000  # rows that are held before they are joined to the alleles found so far: some 200 MB
_BIN = 4096  # bases; tiles begin at multiples


@dataclass(frozen=True)
class _Tile:
    """Half-open interval of a contig."""

    contig: str
    start: int
    end: int


class _SampleTable:
    """The scores.parquet of one sample, opened for each reading: a cohort may have more files than a process may open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.spans: list[tuple[int, str, int, int, int]] = []  # (row group, contig, first start, last start, rows)
        with self._open() as file:
            for group in range(file.num_row_groups):
                places = file.read_row_group(group, columns=["contig", "start"])
                by_contig = places.group_by("contig").aggregate([("start", "min"), ("start", "max"), ("start", "count")])
                for row in by_contig.to_pylist():
                    self.spans.append((group, row["contig"], row["start_min"], row["start_max"], row["start_count"]))

    def rows(self, tile: _Tile) -> pa.Table:
        """The rows of SHARED whose alleles start in the tile."""
        groups = [
            group
            for group, contig, first, last, _ in self.spans
            if contig == tile.contig and first < tile.end and last >= tile.start
        ]
        schema = pa.schema([COHORT_SCHEMA.field(name) for name in SHARED])
        if not groups:
            return schema.empty_table()
        with self._open() as file:
            rows = file.read_row_groups(groups, columns=list(SHARED)).select(SHARED).cast(schema)
        inside = pc.and_(pc.greater_equal(rows["start"], tile.start), pc.less(rows["start"], tile.end))
        return rows.filter(pc.and_(inside, pc.equal(rows["contig"], tile.contig)))

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        """The file; damage that a reading inside the block meets is told as the table's."""
        if not self._path.is_file():
            raise InputError(f"table {self._path} is missing")
        try:
            with pq.ParquetFile(self._path) as file:
                if absent := [name for name in SHARED if name not in file.schema_arrow.names]:
                    raise InputError(f"table {self._path} has no column {', '.join(absent)}")
                yield file
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"table {self._path} cannot be read: {error}") from error


def cohort_tiles(folders: Sequence[Path], rows: int = _TILE_ROWS) -> Iterator[pa.Table]:
    """Every scored allele of the samples in ``folders`` once, tile after tile.

    The tables (COHORT_SCHEMA) follow one another sorted by contig, start, ref and alt. Neither the order of ``folders`` nor
    ``rows``, about the rows of all samples in a tile, changes what they say; samples' tables may be unsorted.

    Raises:
        InputError: a sample's table or summary is missing or damaged.
        InvariantError: an allele has different scores in different samples.
    """
    named = sorted((read_summary(folder)["sample"], folder) for folder in folders)
    tables = [_SampleTable(folder / "scores.parquet") for _, folder in named]
    names = pa.array([name for name, _ in named], pa.string())
    for tile in _tiles(tables, rows):
        yield _carried(tables, tile, names)


def _tiles(tables: Sequence[_SampleTable], rows: int) -> Iterator[_Tile]:
    """Tiles of about ``rows`` rows, taking the rows of a row group as evenly spread over its span."""
    spans: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for table in tables:
        for _, contig, first, last, count in table.spans:
            spans[contig].append((first // _BIN, last // _BIN, count))
    for contig in sorted(spans):
        first, last, count = np.array(spans[contig]).T
        steps = np.zeros(last.max() + 2)
        density = count / (last - first + 1)
        np.add.at(steps, first, density)
        np.add.at(steps, last + 1, -density)
        before = np.concatenate([[0.0], np.cumsum(np.cumsum(steps)[:-1])])  # rows before each bin
        parts = max(1, int(before[-1] // rows))
        cuts = np.searchsorted(before, before[-1] * np.arange(1, parts) / parts) * _BIN
        bounds = np.unique([0, *cuts, (last.max() + 1) * _BIN]).tolist()
        yield from (_Tile(contig, start, end) for start, end in pairwise(bounds))


def _carried(tables: Sequence[_SampleTable], tile: _Tile, names: pa.Array) -> pa.Table:
    """The alleles of one tile, sorted, with their carriers."""
    alleles = pa.schema([COHORT_SCHEMA.field(name) for name in SHARED]).empty_table()
    pairs: list[NDArray[np.int64]] = []  # allele * samples + sample, sorted and without repeats
    held: list[tuple[int, pa.Table]] = []
    for sample, table in enumerate(tables):
        held.append((sample, table.rows(tile)))
        enough = sum(len(rows) for _, rows in held) >= max(_HELD_ROWS, len(alleles))  # so the work stays linear in rows
        if enough or sample == len(tables) - 1:
            new = pa.concat_tables([rows for _, rows in held])
            alleles, codes = _joined(alleles, new)
            owners = np.repeat([number for number, _ in held], [len(rows) for _, rows in held])
            pairs.append(np.unique(codes * len(tables) + owners))
            held = []
    order = pc.sort_indices(alleles, [(name, "ascending") for name in ALLELE_COLUMNS])
    place = np.empty(len(alleles), np.int64)
    place[order.to_numpy()] = np.arange(len(alleles))
    allele, carrier = np.divmod(np.concatenate(pairs), len(tables))  # batches hold samples in ascending order
    carriers = carrier[np.argsort(place[allele], kind="stable")]
    counts = np.bincount(place[allele], minlength=len(alleles))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    listed = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), names.take(pa.array(carriers)))
    columns = [*(alleles[name].take(order) for name in SHARED), pa.array(counts, pa.int32()), listed]
    return pa.table(columns, schema=COHORT_SCHEMA).combine_chunks()


def _joined(alleles: pa.Table, rows: pa.Table) -> tuple[pa.Table, NDArray[np.int64]]:
    """(``alleles`` and behind them those of ``rows`` that are new, each once; the place there of every row)."""
    every = pa.concat_tables([alleles, rows])
    codes = allele_keys(every).dictionary_encode().indices.to_numpy().astype(np.int64)  # in the order of first appearance
    _, first = np.unique(codes, return_index=True)
    scores = every["score"].to_numpy()
    if not np.array_equal(scores[first][codes], scores, equal_nan=True):
        raise InvariantError("an allele has different scores in different samples; score the cohort in one run")
    return every.take(pa.array(first)).combine_chunks(), codes[len(alleles) :]
