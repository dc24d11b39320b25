"""Haplotypes and their scores as a table: one row a distinct haplotype, with all its carriers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dnagrinder.genome.cis import MNV_GAP, CisHaplotype, CisReader
from dnagrinder.scoring.parameters import HAPLOTYPE_METHOD
from dnagrinder.scoring.tables import ALLELE_COLUMNS, ALLELE_SCHEMA

if TYPE_CHECKING:
    from dnagrinder.scoring.haplotypes import HaplotypeScore

HAPLOTYPE_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        *ALLELE_SCHEMA,  # the whole as one allele; start is 0-based
        ("kind", pa.string()),  # mnv or haplotype
        ("members", pa.list_(pa.string())),  # keys of the alleles, left to right
        ("copies", pa.int32()),  # chromosome copies that carry it
        ("carriers", pa.list_(pa.string())),  # sample of each copy
        ("joint", pa.float64()),
        ("joint_spread", pa.float64()),
        ("singles", pa.list_(pa.float64())),  # of each member, in their order
        ("singles_sum", pa.float64()),
        ("epistasis", pa.float64()),
        ("epistasis_spread", pa.float64()),
        ("rows", pa.int32()),  # orders x strands x views that the scores are means of
        ("block_score", pa.float64()),
        ("block_spread", pa.float64()),
    ]
)


def sorted_haplotypes(reader: CisReader) -> list[CisHaplotype]:
    """Haplotypes by contig, start, ref and alt of the whole, then by members: the order of tables.

    What the file spells in several ways is one haplotype, with the carriers of all, its edits as in the leftmost spelling.
    """
    spellings: dict[tuple[Any, ...], list[CisHaplotype]] = defaultdict(list)
    for item in reader:
        spellings[(*(getattr(item.allele, name) for name in ALLELE_COLUMNS), tuple(_keys(item)))].append(item)
    columns = {name: column for column, name in enumerate(reader.outcomes)}
    return [_united(spellings[key], columns) for key in sorted(spellings)]


def _united(spellings: Sequence[CisHaplotype], columns: Mapping[str, int]) -> CisHaplotype:
    leftmost = min(spellings, key=lambda item: [astuple(member.edit) for member in item.members])
    carriers = sorted((name for item in spellings for name in item.carriers), key=columns.__getitem__)
    return replace(leftmost, carriers=tuple(carriers))


def haplotype_id(haplotype: CisHaplotype) -> str:
    """``H`` and 12 hexadecimal digits of the sha256 of the keys of the whole and of its members: the same in every run."""
    text = json.dumps([haplotype.allele.key, *_keys(haplotype)])
    return f"H{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def haplotypes_table(scores: Iterable[HaplotypeScore]) -> pa.Table:
    """Scores as a table of HAPLOTYPE_SCHEMA, in the order given."""
    rows = [
        {
            "id": haplotype_id(item.haplotype),
            **{column: getattr(item.haplotype.allele, column) for column in ALLELE_COLUMNS},
            "kind": item.haplotype.kind,
            "members": _keys(item.haplotype),
            "copies": len(item.haplotype.carriers),
            "carriers": list(item.haplotype.carriers),
            "joint": item.joint,
            "joint_spread": item.joint_spread,
            "singles": list(item.singles),
            "singles_sum": item.singles_sum,
            "epistasis": item.epistasis,
            "epistasis_spread": item.epistasis_spread,
            "rows": item.rows,
            "block_score": item.block_score,
            "block_spread": item.block_spread,
        }
        for item in scores
    ]
    return pa.Table.from_pylist(rows, schema=HAPLOTYPE_SCHEMA)


def haplotype_provenance(
    provenance: Mapping[str, Any], distance: int, outcomes: Mapping[str, Mapping[str, int]]
) -> dict[str, Any]:
    """``provenance`` and, under ``haplotypes``, the distance, the method, and each sample's carried copies by outcome."""
    counted = {
        sample: dict(sorted((str(name), times) for name, times in counts.items())) for sample, counts in outcomes.items()
    }
    return {
        **provenance,
        "haplotypes": {"distance": distance, "mnv_gap": MNV_GAP, "method": HAPLOTYPE_METHOD, "outcomes": counted},
    }


def haplotype_counts(table: pa.Table, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of a table written with that provenance: haplotypes, mnvs among them, those whose |epistasis| exceeds its
    spread, and all carried copies by outcome."""
    exceeding = pc.greater(pc.abs(table["epistasis"]), table["epistasis_spread"])
    outcomes: Counter[str] = Counter()
    for counts in provenance["haplotypes"]["outcomes"].values():
        outcomes.update(counts)
    return {
        "haplotypes": len(table),
        "mnvs": pc.sum(pc.equal(table["kind"], "mnv")).as_py() or 0,
        "epistasis_above_spread": pc.sum(exceeding).as_py() or 0,
        "carried_copies": outcomes.total(),
        "copies_by_outcome": dict(sorted(outcomes.items())),
    }


def _keys(haplotype: CisHaplotype) -> list[str]:
    return [member.allele.key for member in haplotype.members]
