"""Rows for the tests of the score store. Imports no torch: the tests that kill processes fork from here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from dnagrinder.scoring.tables import ALLELE_SCHEMA, SCORE_SCHEMA

PROVENANCE: dict[str, Any] = {
    "tool_version": "0.0",
    "checkpoint": {"name": "none", "sha256": "0" * 64},
    "tokenizer_sha256": "1" * 64,
    "reference_sha256": "2" * 64,
    "parameters": {"window": 512},
    "parameters_sha256": "3" * 64,
}
NUMBERS = ("score", "spread", "log_p_ref", "log_p_alt", "cosine_distance", "l2_distance")


def allele_rows(alleles: Sequence[tuple[str, int, str, str]]) -> pa.Table:
    """Alleles (contig, start, ref, alt) as a table."""
    columns = zip(*alleles, strict=True) if alleles else [()] * 4
    return pa.table(dict(zip(ALLELE_SCHEMA.names, map(list, columns), strict=True)), schema=ALLELE_SCHEMA)


def score_rows(alleles: Sequence[tuple[str, int, str, str]], **columns: Any) -> pa.Table:
    """Rows whose numbers follow from the allele, but for the ``columns`` given: one value, or one a row."""
    count = len(alleles)
    base = np.array([start + len(alt) / 8 for _, start, _, alt in alleles], dtype=np.float64)
    filled: dict[str, Any] = {name: base * (place + 1) / 7 for place, name in enumerate(NUMBERS)}
    filled |= {"views": 2, "method": "snv_marginal", "status": "scored"} | columns
    filled = {name: value if np.ndim(value) else [value] * count for name, value in filled.items()}
    table = {name: allele_rows(alleles)[name] for name in ALLELE_SCHEMA.names} | filled
    return pa.table({name: table[name] for name in SCORE_SCHEMA.names}, schema=SCORE_SCHEMA)


def snvs(count: int, seed: int) -> pa.Table:
    """``count`` random SNVs over 24 contigs of 100 million bases, as score rows; a few may be equal."""
    random = np.random.default_rng(seed)
    ref = random.integers(0, 4, count)
    contigs = pa.array([f"chr{number}" for number in range(1, 25)])
    bases = pa.array(list("ACGT"))
    columns = {
        "contig": contigs.take(pa.array(random.integers(0, 24, count))),
        "start": random.integers(0, 100_000_000, count),
        "ref": bases.take(pa.array(ref)),
        "alt": bases.take(pa.array((ref + random.integers(1, 4, count)) % 4)),
        **{name: random.normal(size=count) for name in NUMBERS},
        "views": np.full(count, 2, np.int32),
        "method": pa.array(["snv_marginal"]).take(pa.array(np.zeros(count, np.int8))),
        "status": pa.array(["scored"]).take(pa.array(np.zeros(count, np.int8))),
    }
    return pa.table({name: columns[name] for name in SCORE_SCHEMA.names}, schema=SCORE_SCHEMA)
