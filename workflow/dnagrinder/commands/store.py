"""Commands of the score store: what it holds, export, import, check and upkeep."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from dnagrinder.commands.options import AsJson, check_paths, show
from dnagrinder.errors import StoreError
from dnagrinder.scoring.store.exchange import export_scores, import_scores
from dnagrinder.scoring.store.upkeep import PARTIAL_HOURS, TOLERANCE, prune_store, store_stats, verify_store

StoreFolder = Annotated[Path, typer.Option("--store", help="Folder of the score store.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    store = typer.Typer(help="The score store: stats, export, import, verify, prune.", no_args_is_help=True)
    store.command("stats")(stats)
    store.command("export")(export)
    store.command("import")(import_)
    store.command("verify")(verify)
    store.command("prune")(prune)
    app.add_typer(store, name="store")


def stats(store: StoreFolder, as_json: AsJson = False) -> None:
    """Show every context (model, reference and parameters): rows, alleles, parts, bytes, and who gave imported rows.

    Bases around top variants and haplotypes are told apart from the alleles.

    Example: [bold]dnagrinder store stats --store scores --json[/bold]
    """
    contexts = store_stats(store)
    if as_json:
        print(json.dumps({"contexts": contexts}))
        return
    for context in contexts:
        print(f"context {context.pop('context')}")
        for key, value in context.items():
            print(f"  {key.replace('_', ' ')}: {f'{value:,}' if isinstance(value, int) else json.dumps(value)}")
    print(f"{len(contexts)} contexts")


def export(
    store: StoreFolder,
    out: Annotated[Path, typer.Option("--out", "-o", help="*.tsv.gz (bgzip; .tbi beside it) or *.bcf (.csi beside it).")],
    context: Annotated[
        str | None, typer.Option(help="Context or its beginning, as stats shows it; default the only one.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", "-r", help="FASTA of the context: gives order and lengths of contigs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the allele scores of one context into a file for another lab, each allele once, sorted and indexed.

    Haplotypes and bases of contexts stay in the store.

    Example: [bold]dnagrinder store export --store scores --context 3fa9 --out scores.bcf[/bold]
    """
    check_paths([reference], [out])
    show(export_scores(store, out, context, reference), as_json)


def import_(
    file: Annotated[Path, typer.Argument(help="File written by store export.")],
    store: StoreFolder,
    source: Annotated[str, typer.Option(help="Who gave the scores; kept with them and shown by stats.")],
    sha256: Annotated[str | None, typer.Option(help="Expected sha256 of the file, as export printed it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Add the allele scores that another lab exported; all rows or none. Own scores count before imported ones.

    Example: [bold]dnagrinder store import scores.bcf --store scores --source "Lab B"[/bold]
    """
    show(import_scores(store, file, source, sha256), as_json)


def verify(
    store: StoreFolder,
    tolerance: Annotated[float, typer.Option(min=0, help="Nats that two scores of one key may differ by.")] = TOLERANCE,
    as_json: AsJson = False,
) -> None:
    """Check every part: checksum, content, context, and what has more than one score. Exit code 7 where not clean.

    Example: [bold]dnagrinder store verify --store scores[/bold]
    """
    counts, problems = verify_store(store, tolerance)
    for problem in problems:
        print(" ".join(problem.split()), file=sys.stderr)
    show({"clean": not problems, **counts, **({"problems": problems} if as_json else {})}, as_json)
    if problems:
        raise typer.Exit(StoreError.exit_code)


def prune(
    store: StoreFolder,
    keep: Annotated[
        list[str] | None, typer.Option(help="Remove all contexts but this one (its beginning will do); may be repeated.")
    ] = None,
    partial_hours: Annotated[
        float, typer.Option(min=0, help="Age from which a partial file counts as left behind by a killed run.")
    ] = PARTIAL_HOURS,
    as_json: AsJson = False,
) -> None:
    """Merge small parts and remove partial files of killed runs, beside running ones; no row is lost.

    Example: [bold]dnagrinder store prune --store scores[/bold]
    """
    show(prune_store(store, keep or (), partial_hours), as_json)
