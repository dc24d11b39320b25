"""The provenance that tables share, and tables ordered by how unexpected their alleles are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dnagrinder.errors import InputError
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.tables import ALLELE_COLUMNS, read_provenance


def common_provenance(tables: Sequence[Path]) -> dict[str, Any]:
    """The provenance that all ``tables`` carry.

    Raises:
        InputError: no table, a table without provenance, or tables made by different models, references or parameters.
    """
    if not tables:
        raise InputError("no score table given")
    first = read_provenance(tables[0])
    for path in tables[1:]:
        if context_digest(read_provenance(path)) != context_digest(first):
            raise InputError(
                f"{path} and {tables[0]} were made with different models, references or parameters; score them alike first"
            )
    return first


def most_unexpected(table: pa.Table, count: int) -> NDArray[np.int64]:
    """Rows of the ``count`` distinct alleles with the lowest score; ties by contig, start, ref, alt, then first row.

    Rows without a finite score do not take part.
    """
    scores = table["score"].to_numpy()
    rows = np.flatnonzero(np.isfinite(scores))
    rows = rows[np.argsort(scores[rows], kind="stable")]
    taken = min(count, len(rows))
    while taken:
        limit = scores[rows[taken - 1]]
        within = rows[: np.searchsorted(scores[rows], limit, side="right")]
        keys = zip(*(table[name].take(pa.array(within)).to_pylist() for name in ALLELE_COLUMNS), strict=True)
        first_rows: dict[tuple[Any, ...], int] = {}
        for row, key in sorted(zip(within.tolist(), keys, strict=True)):
            first_rows.setdefault((scores[row], *key), row)
        if len(first_rows) >= count or len(within) == len(rows):
            return np.array([first_rows[key] for key in sorted(first_rows)][:count], dtype=np.int64)
        taken = min(2 * len(within), len(rows))
    return np.empty(0, dtype=np.int64)


def least_expected(table: pa.Table, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of the most unexpected SNVs and of the most unexpected other alleles, ``count`` in all.

    The two are scored by different methods, and the longer an indel the lower its score, so one list by score would hold
    indels only: each kind gets half, or what the other leaves. ``table`` needs contig, start, ref, alt, kind and score.
    """
    is_snv = pc.equal(table["kind"], "snv").to_numpy()
    kinds = [np.flatnonzero(is_snv), np.flatnonzero(~is_snv)]
    snvs, others = (rows[most_unexpected(table.take(pa.array(rows)), count)] for rows in kinds)
    of_snvs = min(len(snvs), max(count - count // 2, count - len(others)))
    return snvs[:of_snvs], others[: count - of_snvs]
