"""Every real call set at hand, scored: nothing is lost, a second time takes no model, a new file only what is new in it.

Of each file some records are taken, evenly spread over it; ``genome/test_against_bcftools.py`` reads the files whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from genome.test_against_bcftools import real_pairs, without_contig_lengths

from dnagrinder.errors import BuildMismatchError
from dnagrinder.genome.files import open_text
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.vcf import VcfFile
from dnagrinder.pipeline import score_vcf
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.session import ScoringSession, open_session

RECORDS = 120  # at most, of each file; an even number
PARAMETERS = ScoringParameters(window=32)  # the least: the promises do not depend on it, the time does

pytestmark = [pytest.mark.data, pytest.mark.slow]


def some_records(vcf: Path, out: Path, part: int) -> Path:
    """Header and every second (``part`` 0 or 1) of at most RECORDS records."""
    with open_text(vcf) as lines:
        total = sum(not line.startswith("#") for line in lines)
    every, number = max(1, -(-total // RECORDS)), -1
    with open_text(vcf) as lines, out.open("w", encoding="utf-8") as kept:
        for line in lines:
            number += not line.startswith("#")
            if line.startswith("#") or (number % every == 0 and number // every % 2 == part):
                kept.write(str(line))
    return out


@pytest.fixture(scope="module")
def session_for(shared_data: Path, tiny: Path) -> Iterator[Callable[[str], ScoringSession]]:
    """The session of a reference, opened once."""
    with ExitStack() as stack:

        @cache
        def session(reference: str) -> ScoringSession:
            path = shared_data / reference
            return stack.enter_context(open_session(path, str(tiny), PARAMETERS, device="cpu", threads=1))

        yield session


@pytest.mark.parametrize(("vcf", "reference"), [pair[:2] for pair in real_pairs()])
def test_a_real_file_is_scored_once(
    shared_data: Path, tmp_path: Path, session_for: Callable[[str], ScoringSession], vcf: str, reference: str
) -> None:
    session, path, store = session_for(reference), shared_data / vcf, tmp_path / "store"
    try:
        with ReferenceGenome.open(shared_data / reference) as genome, VcfFile(path, ()) as file:
            genome.check_build(file.contigs, "header")
    except BuildMismatchError:
        path = without_contig_lengths(path, tmp_path)
    half = some_records(path, tmp_path / "half.vcf", 0)
    whole = tmp_path / "whole.vcf"
    whole.write_text(half.read_text() + "".join(_records(some_records(path, tmp_path / "other.vcf", 1))))

    def scored(source: Path) -> dict[str, int]:
        counts = score_vcf(session, source, tmp_path / "out.vcf.gz", store=store)
        assert counts["alleles_in"] == counts["scored"] + counts["from_store"] + counts["rejected"] > 0
        assert counts["rejected"] == sum(counts["rejected_by_reason"].values())
        return counts

    first = scored(half)
    assert first["from_store"] == 0
    before = session.engine.forwards
    again = scored(half)
    assert (again["scored"], again["from_store"]) == (0, first["scored"])
    assert session.engine.forwards == before
    more = scored(whole)
    assert more["from_store"] >= first["scored"]
    assert more["alleles_in"] > first["alleles_in"] or not list(_records(tmp_path / "other.vcf"))
    before = session.engine.forwards
    assert scored(whole)["scored"] == 0
    assert session.engine.forwards == before


def _records(vcf: Path) -> Iterator[str]:
    with vcf.open(encoding="utf-8") as lines:
        yield from (line for line in lines if not line.startswith("#"))
