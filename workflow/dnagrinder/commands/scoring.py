"""Commands of the scoring room: shards, alleles, haplotypes, contexts, and the whole way from VCF to VCF.

The commands that run the model import it themselves: torch takes two seconds that the other commands need not wait.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import typer

from dnagrinder.commands.options import (
    BUDGET,
    DEFAULTS,
    DISTANCE,
    PARQUET,
    TEXT,
    AsJson,
    CalibrationFile,
    CheckpointName,
    Device,
    Distance,
    Lattice,
    MaxAf,
    Panel,
    Precision,
    ReferenceFile,
    Store,
    Threads,
    TokenBudget,
    Views,
    Window,
    check_formats,
    check_paths,
    show,
)
from dnagrinder.commands.streams import input_file, output_vcf
from dnagrinder.errors import ConfigError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.checkpoint import open_checkpoint
from dnagrinder.progress import track
from dnagrinder.reports.filters import Filters
from dnagrinder.reports.haplotypes import write_haplotypes_tsv
from dnagrinder.scoring import shards as sharding
from dnagrinder.scoring.bedgraph import write_bedgraph
from dnagrinder.scoring.calibration.file import read_calibration
from dnagrinder.scoring.haplotype_tables import haplotype_counts
from dnagrinder.scoring.mutagenesis import mutagenesis_tracks
from dnagrinder.scoring.parameters import ScoringParameters, provenance
from dnagrinder.scoring.parts import scored_in_parts
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.tables import (
    ALLELE_COLUMNS,
    SCORE_SCHEMA,
    read_parquet,
    read_provenance,
    table_alleles,
    write_parquet,
)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("score-variants")(score_variants)
    app.command("unique-alleles")(unique_alleles)
    app.command("score-alleles")(score_alleles)
    app.command("score-haplotypes")(score_haplotypes)
    app.command("score-context")(score_context)


def score_variants(
    vcf: Annotated[Path, typer.Argument(help="VCF or BCF, plain or bgzip; - for standard input.")],
    reference: ReferenceFile,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Annotated VCF to write (bgzip; .tbi beside it); - for standard output, as text."),
    ],
    ledger: Annotated[Path | None, typer.Option(help="Also write the rejected alleles here (.tsv or .parquet).")] = None,
    haplotypes: Annotated[
        Path | None, typer.Option(help="Also score phased alleles that lie close together, and write them here (Parquet).")
    ] = None,
    distance: Distance = DISTANCE,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    lattice: Lattice = DEFAULTS.lattice,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    store: Store = None,
    calibration: CalibrationFile = None,
    as_json: AsJson = False,
) -> None:
    """Score every allele of a VCF and write it back annotated: the whole job in one command.

    Started again after a kill, it keeps the finished parts of 2,000 alleles, which lie in a hidden folder beside the output.

    Example: [bold]dnagrinder score-variants calls.vcf.gz --reference GRCh38.fa --out scored.vcf.gz --json[/bold]

    In a pipe: [bold]bcftools view -f PASS calls.bcf | dnagrinder score-variants - -r GRCh38.fa -o - | bgzip > scored.vcf.gz
    [/bold]
    """
    check_paths([vcf, reference, calibration], [out, ledger, haplotypes])
    check_formats([ledger], TEXT, PARQUET)
    check_formats([haplotypes], PARQUET)
    if distance != DISTANCE and haplotypes is None:
        raise ConfigError(f"--distance {distance} is of haplotypes, which need --haplotypes FILE; give both or neither")
    judged_by = read_calibration(calibration) if calibration else None
    from dnagrinder.pipeline import score_vcf
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window, views, precision, lattice=lattice)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("score-variants", "alleles") as progress,
        output_vcf(out) as written,
        input_file(vcf) as source,
    ):
        result = score_vcf(
            session,
            source,
            written,
            ledger=ledger,
            store=store,
            calibration=judged_by,
            haplotypes=haplotypes,
            distance=distance,
            on_progress=progress,
        )
    if haplotypes:
        _tell_without_genotypes(vcf, read_provenance(haplotypes))
    show(result, as_json, out)


def unique_alleles(
    alleles: Annotated[list[Path], typer.Argument(help="Parquet tables written by read-variants.")],
    shards: Annotated[int, typer.Option(min=1, help="Number of shards.")],
    out_dir: Annotated[Path, typer.Option(help="Folder for shard-NNNN-of-NNNN.parquet and stored.parquet.")],
    reference: ReferenceFile,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    lattice: Lattice = DEFAULTS.lattice,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Unite the alleles of a cohort, each once; set aside what the store holds; cut the rest into shards of equal work."""
    opened = open_checkpoint(checkpoint)
    parameters = ScoringParameters(window, views, precision, lattice=lattice)
    with ReferenceGenome.open(reference) as genome:
        traced = provenance(opened, genome.digest(), parameters)
        contigs = {contig.name: contig.length for contig in genome.contigs}
    unique = sharding.unique_alleles(alleles)
    held, missing = ScoreStore(store, traced).split(unique) if store else (SCORE_SCHEMA.empty_table(), unique)
    write_parquet(held, out_dir / "stored.parquet", traced)
    sharding.write_shards(missing, sharding.allele_work(missing, contigs, parameters), shards, out_dir)
    show({"unique": len(unique), "from_store": len(held), "to_score": len(missing)}, as_json)


def score_alleles(
    shard: Annotated[Path, typer.Argument(help="Parquet with columns contig, start, ref, alt.")],
    reference: ReferenceFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet of the scores.")],
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    lattice: Lattice = DEFAULTS.lattice,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Score the alleles of one shard; the model is loaded once. Started again after a kill, it keeps the finished parts."""
    check_formats([out], PARQUET)
    alleles = read_parquet(shard, ALLELE_COLUMNS)
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window, views, precision, lattice=lattice)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("score-alleles", "alleles") as progress,
    ):
        cache = ScoreStore(store, session.provenance) if store else None
        if cache:
            cache.prepare()
        with scored_in_parts(alleles, out, session.provenance, session.score_alleles, progress) as scores:
            if cache:
                cache.add(scores)
            write_parquet(scores, out, session.provenance)
        show({"scored": len(scores), "tokens": session.engine.tokens}, as_json)


def score_haplotypes(
    vcf: Annotated[Path, typer.Argument(help="VCF or BCF with genotypes, plain or bgzip; no index is needed.")],
    reference: ReferenceFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet: one row a haplotype, with its carriers.")],
    tsv: Annotated[Path | None, typer.Option(help="The same as tab-separated text.")] = None,
    sample: Annotated[list[str] | None, typer.Option(help="Sample column to read; may be repeated. All if absent.")] = None,
    distance: Distance = DISTANCE,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    lattice: Lattice = DEFAULTS.lattice,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Score alleles that lie close together on one chromosome copy: jointly, one by one, and the difference.

    With a store, haplotypes that it holds are not scored again, and a killed job goes on where it was.

    Example: [bold]dnagrinder score-haplotypes phased.vcf.gz -r GRCh38.fa --out haplotypes.parquet --tsv
    haplotypes.tsv[/bold]
    """
    check_paths([vcf, reference], [out, tsv])
    check_formats([out], PARQUET)
    check_formats([tsv], TEXT)
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window, views, precision, lattice=lattice)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("score-haplotypes", "haplotypes") as progress,
    ):
        cache = ScoreStore(store, session.provenance) if store else None
        if cache:
            cache.haplotypes.prepare()
        table, traced = session.score_haplotypes(vcf, distance, sample, progress, cache)
    write_parquet(table, out, traced)
    _tell_without_genotypes(vcf, traced)
    if tsv:
        write_haplotypes_tsv(table, tsv)
    show({**haplotype_counts(table, traced), "tokens": session.engine.tokens}, as_json)


def score_context(
    scores: Annotated[Path, typer.Argument(help="A sample's scores.parquet.")],
    reference: ReferenceFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet of base probabilities around the top variants.")],
    top: Annotated[int, typer.Option(min=0, help="Number of variants, the least expected of each kind.")] = 20,
    panel: Panel = None,
    max_af: MaxAf = None,
    tracks: Annotated[
        Path | None, typer.Option(help="Folder for bedGraphs of the substitutions: mean, A, C, G, T.bedgraph.")
    ] = None,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    lattice: Lattice = DEFAULTS.lattice,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Base probabilities within 50 bases of a sample's top variants, for the plots of its report; bedGraphs on request."""
    check_formats([out], PARQUET)
    table = read_parquet(scores, [*ALLELE_COLUMNS, "kind", "score", "af"])
    with ReferenceGenome.open(reference) as genome:
        filters = Filters.open(panel, max_af, genome)
    rows = pa.array(np.concatenate(filters.least_expected(table, top)))
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window, views, precision, lattice=lattice)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("score-context", "sites") as progress,
    ):
        cache = ScoreStore(store, session.provenance) if store else None
        if cache:
            cache.bases.prepare()
        contexts = session.base_contexts(table_alleles(table.take(rows)), progress, cache)
        write_parquet(contexts, out, session.provenance)
    if tracks:
        for name, lines in mutagenesis_tracks(contexts).items():
            what = "mean of the three substitutions" if name == "mean" else f"substitution by {name}"
            write_bedgraph(
                lines, tracks / f"{name}.bedgraph", f"dnaGrinder {name}", f"{what}, log P(ALT) - log P(REF), nats"
            )
    show({"variants": len(set(contexts["key"].to_pylist())), "tokens": session.engine.tokens}, as_json)


def _tell_without_genotypes(vcf: Path, traced: Mapping[str, Any]) -> None:
    """Say on stderr that a file of sites has no haplotypes; the workflow scores such files too, so it is no error."""
    if not traced["haplotypes"]["outcomes"]:
        print(f"dnagrinder: warning: VCF {vcf} has no sample columns, so there are no haplotypes to score", file=sys.stderr)
