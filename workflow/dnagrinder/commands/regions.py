"""Commands on the regions of a BED: their scores, their embeddings, all their SNVs ahead of time.

All import what runs the model themselves: torch takes two seconds that other commands need not wait.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import typer

from dnagrinder.commands.options import (
    BUDGET,
    DEFAULTS,
    PARQUET,
    TEXT,
    AsJson,
    CheckpointName,
    Device,
    Lattice,
    Precision,
    ReferenceFile,
    Threads,
    TokenBudget,
    Views,
    Window,
    check_formats,
    check_paths,
    show,
)
from dnagrinder.genome.regions import read_bed
from dnagrinder.progress import track
from dnagrinder.reports.tables import write_tsv
from dnagrinder.scoring.bedgraph import write_bedgraph
from dnagrinder.scoring.parameters import DEFAULT_LATTICE, ScoringParameters
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.tables import write_parquet


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("score-regions")(score_regions)
    app.command("embed")(embed)
    app.command("prescore")(prescore)


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
    check_formats([out], PARQUET)
    check_formats([ledger], TEXT)
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
        write_bedgraph(lines, bedgraph, "dnaGrinder log-likelihood", "mean log p of the reference base, nats")
    if ledger:
        write_tsv(pa.Table.from_pandas(rejected, preserve_index=False), ledger)
    show(
        {
            "regions_in": len(accepted) + len(rejected),
            "scored": len(accepted),
            "rejected": len(rejected),
            "rejected_by_reason": _by_reason(rejected),
        },
        as_json,
    )


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
    check_formats([out], PARQUET)
    check_formats([ledger], TEXT)
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
            "rejected_by_reason": _by_reason(rejected),
            "rows": len(table),
            "tokens": tokens,
        },
        as_json,
    )


def prescore(
    bed: Annotated[Path, typer.Argument(help="BED (3 to 6 columns or more), plain or gzip; overlaps count once.")],
    reference: ReferenceFile,
    store: Annotated[Path, typer.Option(help="Folder of the score store; created where absent.")],
    lattice: Lattice = DEFAULT_LATTICE,
    ledger: Annotated[Path | None, typer.Option(help="Table (.tsv) of the regions left out, with reasons.")] = None,
    checkpoint: CheckpointName = "mini",
    window: Window = DEFAULTS.window,
    views: Views = DEFAULTS.views,
    precision: Precision = DEFAULTS.precision,
    device: Device = "auto",
    token_budget: TokenBudget = BUDGET,
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Fill the score store with every SNV of the regions. Started again after a kill, it keeps the finished batches.

    Commands that are to use these scores take the same --lattice (and --window, --views, --precision).

    Example: [bold]dnagrinder prescore exons.bed -r GRCh38.fa --store scores --lattice 32[/bold]
    """
    check_paths([bed, reference], [ledger])
    check_formats([ledger], TEXT)
    from dnagrinder.scoring.prescore import prescore as fill_store
    from dnagrinder.scoring.session import open_session

    parameters = ScoringParameters(window, views, precision, lattice=lattice)
    with (
        open_session(
            reference, checkpoint, parameters, device=device, token_budget=token_budget, threads=threads
        ) as session,
        track("prescore", "bases") as progress,
    ):
        regions = read_bed(bed, session.reference)
        counts = fill_store(session, regions.accepted, ScoreStore(store, session.provenance), progress)
        tokens = session.engine.tokens
    if ledger:
        write_tsv(pa.Table.from_pandas(regions.rejected, preserve_index=False), ledger)
    show(
        {
            "regions_in": len(regions.accepted) + len(regions.rejected),
            "rejected": len(regions.rejected),
            "rejected_by_reason": _by_reason(regions.rejected),
            **asdict(counts),
            "tokens": tokens,
        },
        as_json,
    )


def _by_reason(rejected: pd.DataFrame) -> dict[str, int]:
    return {str(k): int(v) for k, v in rejected["reason"].value_counts().sort_index().items()}
