"""What a context of the store keeps: collections of rows, each with its columns, its key and the rule that decides.

Allele scores lie in the context's own folder, every other collection in a folder below it. A collection's first columns are
contig and start (0-based), by which rows are found. All columns are numbers or text, so that rows can be compared and
sorted by any of them; what is a list elsewhere is JSON here, which gives every float64 back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.scoring.tables import ALLELE_COLUMNS, ALLELE_SCHEMA, SCORE_SCHEMA

BASE_LOG_PROBS = ("log_p_a", "log_p_c", "log_p_g", "log_p_t")


@dataclass(frozen=True)
class Collection:
    """One kind of rows.

    Attributes:
        name: of its folder below the context's; "" for the context's own.
        unit: what a key stands for, in the plural.
        schema: columns and types, those of the key first.
        key: columns that tell what a row is about.
        compared: columns whose values may be told apart in nats where one key has several rows.
    """

    name: str
    unit: str
    schema: pa.Schema
    key: tuple[str, ...]
    compared: tuple[str, ...]

    @property
    def rule(self) -> list[tuple[str, str]]:
        """Which row counts where a key has several: the first in this order.

        One made here before an imported one, then the smallest values.
        """
        values = self.schema.names[len(self.key) :]
        own = [("status", "descending")] if "status" in values else []
        return own + [(name, "ascending") for name in values if name != "status"]

    def keys(self, rows: pa.Table) -> pa.Array:
        """The key of each row as text; no name of a contig holds a tab."""
        parts = [pc.cast(rows[name].combine_chunks(), pa.large_string()) for name in self.key]
        return pc.binary_join_element_wise(*parts, pa.scalar("\t", pa.large_string()))


ALLELES = Collection("", "alleles", SCORE_SCHEMA, ALLELE_COLUMNS, ("score",))
#: Natural logs of the four bases' probabilities at a reference base, of both strands and all views.
BASES = Collection(
    "bases",
    "sites",
    pa.schema(
        [
            ("contig", pa.string()),
            ("start", pa.int64()),
            ("ref", pa.string()),
            *((name, pa.float64()) for name in BASE_LOG_PROBS),
        ]
    ),
    ("contig", "start"),
    BASE_LOG_PROBS,
)
#: Scores of haplotypes, without their carriers. The method is part of the key: no context's digest covers it.
HAPLOTYPES = Collection(
    "haplotypes",
    "haplotypes",
    pa.schema(
        [
            *ALLELE_SCHEMA,  # the whole as one allele
            ("members", pa.string()),  # JSON list of the alleles' keys, left to right
            ("method", pa.string()),
            ("joint", pa.float64()),
            ("joint_spread", pa.float64()),
            ("singles", pa.string()),  # JSON list of numbers, in the order of the members
            ("epistasis", pa.float64()),
            ("epistasis_spread", pa.float64()),
            ("rows", pa.int32()),
            ("block_score", pa.float64()),
            ("block_spread", pa.float64()),
        ]
    ),
    (*ALLELE_COLUMNS, "members", "method"),
    ("joint", "epistasis", "block_score"),
)
COLLECTIONS = (ALLELES, BASES, HAPLOTYPES)
_BELOW = {collection.name: collection for collection in COLLECTIONS if collection.name}


def collection_of(folder: Path) -> Collection:
    """The collection whose parts lie in a folder of the store."""
    return _BELOW.get(folder.name, ALLELES)


def context_of(folder: Path) -> Path:
    """The context's folder that a collection's folder belongs to."""
    return folder.parent if collection_of(folder).name else folder


def collection_folders(context: Path) -> list[Path]:
    """Where the parts of each of COLLECTIONS lie, present or not."""
    return [context / collection.name for collection in COLLECTIONS]
