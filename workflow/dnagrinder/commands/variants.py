"""Commands of the genome room: reference and variants in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dnagrinder.commands.options import DEFAULTS, PARQUET, AsJson, ReferenceFile, Window, check_formats, check_paths, show
from dnagrinder.genome.reference import ReferenceGenome, prepare_reference
from dnagrinder.genome.tables import write_variant_tables


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("prepare-reference")(prepare_reference_command)
    app.command("read-variants")(read_variants)


def prepare_reference_command(
    fasta: Annotated[Path, typer.Argument(help="FASTA: plain, gzip or bgzip.")],
    out: Annotated[Path, typer.Option(help="Where to write the bgzip FASTA; indexes and genome.json go beside it.")],
    sha256: Annotated[str | None, typer.Option(help="Expected sha256 of the FASTA file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a reference ready: bgzip, .fai and .gzi indexes, contig table and checksum.

    Example: [bold]dnagrinder prepare-reference GRCh38.fa.gz --out genome/genome.fa.gz[/bold]
    """
    result = prepare_reference(fasta, out, sha256)
    show({"sha256": result["sha256"], "contigs": len(result["contigs"])}, as_json)


def read_variants(
    vcf: Annotated[Path, typer.Argument(help="VCF or BCF, plain or bgzip.")],
    reference: ReferenceFile,
    alleles: Annotated[Path, typer.Option(help="Parquet of the accepted alleles.")],
    ledger: Annotated[Path, typer.Option(help="Parquet of the rejected alleles with reason codes.")],
    genotypes: Annotated[Path, typer.Option(help="Parquet of the genotypes of the samples asked for.")],
    summary: Annotated[Path, typer.Option(help="JSON of the counts.")],
    sample: Annotated[list[str] | None, typer.Option(help="Sample column to read genotypes of; may be repeated.")] = None,
    window: Window = DEFAULTS.window,
    as_json: AsJson = False,
) -> None:
    """Read a VCF: split, trim, left-align and check every allele; each ends as accepted or as rejected with a reason.

    Example: [bold]dnagrinder read-variants calls.vcf.gz -r GRCh38.fa --alleles a.parquet --ledger l.parquet
    --genotypes g.parquet --summary s.json[/bold]
    """
    check_paths([vcf, reference], [alleles, ledger, genotypes, summary])
    check_formats([alleles, ledger, genotypes], PARQUET)
    with ReferenceGenome.open(reference) as genome:
        result = write_variant_tables(
            vcf,
            genome,
            alleles=alleles,
            ledger=ledger,
            genotypes=genotypes,
            summary=summary,
            samples=sample or [],
            window=window,
        )
    show(result, as_json)
