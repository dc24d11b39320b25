"""How often, how strongly and over what distance alleles of one copy interact for the model.

dnagrinder score-haplotypes phased.vcf.gz --reference genome.fa.gz --out haplotypes.parquet
python -m tests.benchmarks.haplotypes haplotypes.parquet

Prints a Markdown table: haplotypes by kind and by the widest gap between neighbours, chromosome copies that carry them, the
share whose |epistasis| exceeds its spread, the median of |epistasis|, and the share with a positive difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dnagrinder.genome.variants import Allele
from dnagrinder.reports.page import share
from dnagrinder.scoring.tables import read_parquet

GAPS = ((0, 2), (3, 10), (11, 25), (26, 50), (51, 1000))


def widest_gap(members: Sequence[str]) -> int:
    """Most unchanged bases between neighbours, from their keys; 0 where their left-aligned spellings touch or cross."""
    places = [(allele.trimmed()[0], len(allele.trimmed()[1])) for allele in map(Allele.from_key, members)]
    return max(0, *(right - left - length for (left, length), (right, _) in pairwise(sorted(places))))


def row(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """One line of the table."""
    difference = np.array([one["epistasis"] for one in rows])
    exceeds = np.abs(difference) > np.array([one["epistasis_spread"] for one in rows])
    copies = np.array([one["copies"] for one in rows])
    cells = [
        name,
        f"{len(rows):,}",
        f"{copies.sum():,}",
        share(int(exceeds.sum()), len(rows)),
        share(int(copies[exceeds].sum()), int(copies.sum())),
        f"{np.median(np.abs(difference)):.3f}",
        share(int((difference > 0).sum()), len(rows)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    rows = read_parquet(parser.parse_args().table).to_pylist()
    print("| haplotypes | n | copies | above spread | of copies | median \\|epistasis\\| | difference above 0 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(row("all", rows))
    for kind in ("mnv", "haplotype"):
        if chosen := [one for one in rows if one["kind"] == kind]:
            print(row(kind, chosen))
    for low, high in GAPS:
        if chosen := [one for one in rows if low <= widest_gap(one["members"]) <= high]:
            print(row(f"widest gap {low} to {high}", chosen))


if __name__ == "__main__":
    main()
