"""The command that tells what happened to one allele."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dnagrinder.commands.options import AsJson, show
from dnagrinder.reports.explain import explain
from dnagrinder.reports.explain_words import in_words


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("explain")(explain_command)


def explain_command(
    sample: Annotated[str, typer.Argument(help="Name of the sample in the sample sheet.")],
    allele: Annotated[str, typer.Argument(help="CHROM:POS:REF:ALT with the 1-based POS of VCF, in any spelling.")],
    results: Annotated[Path, typer.Option(help="The workflow's folder of results.")] = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Tell what happened to one allele of a sample: where it stood, its key, its score, or why it has none.

    Example: [bold]dnagrinder explain HG00171 20:1018638:C:CA --results results[/bold]
    """
    facts = explain(results, sample, allele)
    if as_json:
        show(facts, as_json=True)
    else:
        print(in_words(facts))
