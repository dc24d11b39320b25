"""The main job without Snakemake: one VCF in, one annotated VCF out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from dnagrinder import __version__
from dnagrinder.errors import InvariantError
from dnagrinder.genome.cis import DEFAULT_DISTANCE
from dnagrinder.genome.files import scratch_folder
from dnagrinder.genome.tables import write_variant_tables
from dnagrinder.reports.tables import write_tsv
from dnagrinder.reports.vcf import annotate_vcf, check_destination
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.calibration.file import Calibration
from dnagrinder.scoring.calibration.origin import ScoreOrigin
from dnagrinder.scoring.parts import scored_in_parts
from dnagrinder.scoring.session import Progress, ScoringSession
from dnagrinder.scoring.shards import unique_alleles
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.tables import SCORE_SCHEMA, read_parquet, write_parquet


def score_vcf(
    session: ScoringSession,
    vcf: Path,
    out: Path,
    *,
    ledger: Path | None = None,
    store: Path | None = None,
    calibration: Calibration | None = None,
    haplotypes: Path | None = None,
    distance: int = DEFAULT_DISTANCE,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Read, score and annotate one VCF; with ``calibration`` every ALT also gets its evidence, within its scope.

    A run that was killed is gone on with: finished parts lie beside ``out`` (:mod:`dnagrinder.scoring.parts`).

    Args:
        haplotypes: where to write the scores of alleles with at most ``distance`` bases between them on one chromosome
            copy, of all samples of the file (None: they are not scored).

    Returns:
        Counts: records, alleles_in, scored, from_store, rejected, rejected_by_reason, ref_checked, ref_matched,
        unique_alleles, with ``haplotypes`` their number; ``alleles_in = scored + from_store + rejected`` holds.

    Raises:
        InputError, BuildMismatchError: from the VCF. InvariantError: the counts do not add up.
    """
    check_destination(vcf, out)
    origin = ScoreOrigin.of_provenance(session.provenance)
    judge = Judge(calibration, origin, session.reference) if calibration else None
    with scratch_folder(out) as folder:
        alleles, rejected = folder / "alleles.parquet", folder / "ledger.parquet"
        summary = write_variant_tables(
            vcf,
            session.reference,
            alleles=alleles,
            ledger=rejected,
            genotypes=folder / "genotypes.parquet",
            summary=folder / "summary.json",
            samples=[],
            window=session.parameters.window,
        )
        unique = unique_alleles([alleles])
        cache = ScoreStore(store, session.provenance) if store else None
        if cache:
            cache.prepare()
            if haplotypes:
                cache.haplotypes.prepare()
        held, missing = cache.split(unique) if cache else (SCORE_SCHEMA.empty_table(), unique)
        if haplotypes:  # before hours are spent on alleles: genotypes that cannot be read are found here
            together, traced = session.score_haplotypes(vcf, distance, on_progress=on_progress, store=cache)
            write_parquet(together, haplotypes, traced)
        with scored_in_parts(missing, out, session.provenance, session.score_alleles, on_progress) as scores:
            table = folder / "scores.parquet"
            write_parquet(pa.concat_tables([held, scores]), table, session.provenance)
            if ledger:
                _write_ledger(rejected, ledger)
            counts = annotate_vcf(
                vcf,
                out,
                alleles=alleles,
                ledger=rejected,
                scores=[table],
                provenance=session.provenance,
                tool_version=__version__,
                judge=judge,
                haplotypes=haplotypes,
            )
            if cache:  # last: a run that fails before and is started again says "scored" as it would have
                cache.add(scores)
    result = {
        "records": summary["records"],
        "alleles_in": summary["alleles_in"],
        "scored": counts.scored,
        "from_store": counts.from_store,
        "rejected": summary["rejected"],
        "rejected_by_reason": summary["rejected_by_reason"],
        "ref_checked": summary["ref_checked"],
        "ref_matched": summary["ref_matched"],
        "unique_alleles": len(unique),
    }
    if haplotypes:
        result["haplotypes"] = len(together)
    if result["alleles_in"] != result["scored"] + result["from_store"] + result["rejected"]:
        raise InvariantError(f"{vcf}: alleles in, scored, stored and rejected do not add up: {result}")
    return result


def _write_ledger(source: Path, destination: Path) -> None:
    table = read_parquet(source)
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.suffix == ".parquet":
        write_parquet(table, destination)
        return
    write_tsv(table, destination)
