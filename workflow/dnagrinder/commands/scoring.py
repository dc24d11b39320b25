"""Commands of the scoring room: shards, alleles, contexts, regions, and the whole way from VCF to VCF.

The commands that run the model import it themselves: torch takes two seconds that the other commands need not wait.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pyarrow as pa
import typer

from dnagrinder.commands.options import (
    BUDGET,
    DEFAULTS,
    AsJson,
    CheckpointName,
    Device,
    MaxAf,
    Panel,
    Precision,
    ReferenceFile,
    Store,
    Threads,
    TokenBudget,
    Views,
    Window,
    check_paths,
    show,
)
from dnagrinder.genome.files import written_aside
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.regions import read_bed
from dnagrinder.model.checkpoint import open_checkpoint
from dnagrinder.progress import track
from dnagrinder.reports.filters import Filters
from dnagrinder.reports.tables import write_tsv
from dnagrinder.scoring import shards as sharding
from dnagrinder.scoring.parameters import ScoringParameters, provenance
from dnagrinder.scoring.parts import score_in_parts
from dnagrinder.scoring.store import ScoreStore
from dnagrinder.scoring.tables import ALLELE_COLUMNS, SCORE_SCHEMA, read_parquet, table_alleles, write_parquet


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("score-variants")(score_variants)
    app.command("score-regions")(score_regions)
    app.command("unique-alleles")(unique_alleles)
    app.command("score-alleles")(score_alleles)
    app.command("score-context")(score_context)
    app.command("embed")(embed)


def score_variants(
    vcf: Annotated[Path, typer.Argument(help="VCF or BCF, plain or bgzip.")],
    reference: ReferenceFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Annotated VCF to write (bgzip; .tbi beside it).")],
    ledger: Annotated[Path | None, typer.Option(help="Also write the rejected alleles here (.tsv or .parquet).")] = None,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Score every allele of a VCF and write it back annotated: the whole job in one command.

    Example: [bold]dnagrinder score-variants calls.vcf.gz --reference GRCh38.fa --out scored.vcf.gz --json[/bold]
    """
    check_paths([vcf, reference], [out, ledger])
    from dnagrinder.pipeline import score_vcf
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window, views, precision)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("score-variants", "alleles") as progress,
    ):
        result = score_vcf(session, vcf, out, ledger=ledger, store=store, on_progress=progress)
    show(result, as_json)


def score_regions(
    bed: Annotated[Path, typer.Argument(help="BED (3 to 6 columns or more), plain or gzip.")],
    reference: ReferenceFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet: one row a region with its embedding.")],
    bedgraph: Annotated[Path | None, typer.Option(help="bedGraph of the log-likelihood of every base.")] = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Table (.tsv) of the regions that were not scored, with reasons.")
    ] = None,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    precision: Precision = DEFAULTS.precision,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Score regions: mean masked log-likelihood a base, and one pooled embedding each.

    Example: [bold]dnagrinder score-regions exons.bed -r GRCh38.fa --out exons.parquet --bedgraph exons.bedgraph
    --ledger rejected.tsv[/bold]
    """
    check_paths([bed, reference], [out, bedgraph, ledger])
    from dnagrinder.scoring.session import open_session, region_tables

    parameters = ScoringParameters(window=window, precision=precision)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("score-regions", "regions") as progress,
    ):
        regions = read_bed(bed, session.reference)
        accepted, rejected = regions.accepted, regions.rejected
        table, lines = region_tables(accepted, list(session.score_regions(accepted, progress)))
        write_parquet(table, out, session.provenance)
    if bedgraph:
        _write_bedgraph(lines, bedgraph)
    if ledger:
        write_tsv(pa.Table.from_pandas(rejected, preserve_index=False), ledger)
    show(
        {
            "regions_in": len(accepted) + len(rejected),
            "scored": len(accepted),
            "rejected": len(rejected),
            "rejected_by_reason": {str(k): int(v) for k, v in rejected["reason"].value_counts().sort_index().items()},
        },
        as_json,
    )


def unique_alleles(
    alleles: Annotated[list[Path], typer.Argument(help="Parquet tables written by read-variants.")],
    shards: Annotated[int, typer.Option(min=1, help="Number of shards.")],
    out_dir: Annotated[Path, typer.Option(help="Folder for shard-NNNN-of-NNNN.parquet and stored.parquet.")],
    reference: ReferenceFile,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Unite the alleles of a cohort, each once; set aside what the store holds; cut the rest into equal shards."""
    opened = open_checkpoint(checkpoint)
    with ReferenceGenome.open(reference) as genome:
        traced = provenance(opened, genome.digest(), ScoringParameters(window, views, precision))
    unique = sharding.unique_alleles(alleles)
    held, missing = ScoreStore(store, traced).split(unique) if store else (SCORE_SCHEMA.empty_table(), unique)
    write_parquet(held, out_dir / "stored.parquet", traced)
    sharding.write_shards(missing, shards, out_dir)
    show({"unique": len(unique), "from_store": len(held), "to_score": len(missing)}, as_json)


def score_alleles(
    shard: Annotated[Path, typer.Argument(help="Parquet with columns contig, start, ref, alt.")],
    reference: ReferenceFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet of the scores.")],
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    store: Store = None,
    as_json: AsJson = False,
) -> None:
    """Score the alleles of one shard; the model is loaded once. Started again after a kill, it keeps the finished parts."""
    alleles = read_parquet(shard, ALLELE_COLUMNS)
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window, views, precision)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("score-alleles", "alleles") as progress,
    ):
        cache = ScoreStore(store, session.provenance) if store else None
        if cache:
            cache.prepare()
        scores = score_in_parts(alleles, out, session.provenance, session.score_alleles, progress)
        if cache:
            cache.add(scores)
        show({"scored": len(scores), "tokens": session.engine.tokens}, as_json)


def score_context(
    scores: Annotated[Path, typer.Argument(help="A sample's scores.parquet.")],
    reference: ReferenceFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Parquet of base probabilities around the top variants.")],
    top: Annotated[int, typer.Option(min=0, help="Number of variants, the least expected of each kind.")] = 20,
    panel: Panel = None,
    max_af: MaxAf = None,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Base probabilities around a sample's top variants, for the plots of its report."""
    table = read_parquet(scores, [*ALLELE_COLUMNS, "kind", "score", "af"])
    with ReferenceGenome.open(reference) as genome:
        filters = Filters.open(panel, max_af, genome)
    rows = pa.array(np.concatenate(filters.least_expected(table, top)))
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window, views, precision)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("score-context", "variants") as progress,
    ):
        contexts = session.base_contexts(table_alleles(table.take(rows)), progress)
        write_parquet(contexts, out, session.provenance)
    show({"variants": len(set(contexts["key"].to_pylist()))}, as_json)


def embed(
    bed: Annotated[Path, typer.Argument(help="BED (3 to 6 columns or more), plain or gzip.")],
    reference: ReferenceFile,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Parquet: one row a region, or a bin of one, with its embedding.")
    ],
    bin_width: Annotated[int, typer.Option("--bin", min=0, help="Bases of a bin; 0 for one embedding a region.")] = 0,
    ledger: Annotated[Path | None, typer.Option(help="Table (.tsv) of the regions left out, with reasons.")] = None,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    precision: Precision = DEFAULTS.precision,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Embed regions, each in one pass over a window around it: long context, 700,000 bases and more.

    Example: [bold]dnagrinder embed genes.bed -r GRCh38.fa --window 100000 --bin 1000 --precision bfloat16
    --out genes.parquet[/bold]
    """
    check_paths([bed, reference], [out, ledger])
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window=window, precision=precision)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("embed", "regions") as progress,
    ):
        regions = read_bed(bed, session.reference)
        table, too_long = session.embed_regions(regions.accepted, bin_width, progress)
        write_parquet(table, out, session.provenance)
        tokens = session.engine.tokens
    rejected = pd.concat([regions.rejected, too_long], ignore_index=True) if len(too_long) else regions.rejected
    if ledger:
        write_tsv(pa.Table.from_pandas(rejected, preserve_index=False), ledger)
    show(
        {
            "regions_in": len(regions.accepted) + len(regions.rejected),
            "embedded": len(regions.accepted) - len(too_long),
            "rejected": len(rejected),
            "rejected_by_reason": {str(k): int(v) for k, v in rejected["reason"].value_counts().sort_index().items()},
            "rows": len(table),
            "tokens": tokens,
        },
        as_json,
    )


def _write_bedgraph(lines: list[str], path: Path) -> None:
    header = 'track type=bedGraph name="dnaGrinder log-likelihood" description="mean log p of the reference base, nats"'
    with written_aside(path) as aside:
        aside.write_text("".join(f"{line}\n" for line in [header, *lines]), encoding="utf-8")
