"""Commands of the reports room: annotated VCF, sample tables, pages."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from dnagrinder import __version__
from dnagrinder.commands.options import AsJson, CheckpointName, check_paths, show
from dnagrinder.commands.streams import input_file, output_vcf
from dnagrinder.errors import ConfigError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.regions import read_bed
from dnagrinder.model.checkpoint import open_checkpoint
from dnagrinder.reports.cohort import write_cohort_report
from dnagrinder.reports.joining import common_provenance
from dnagrinder.reports.multiqc import write_multiqc
from dnagrinder.reports.provenance import write_provenance
from dnagrinder.reports.sample import write_sample_report
from dnagrinder.reports.tables import build_sample_tables
from dnagrinder.reports.vcf import annotate_vcf
from dnagrinder.scoring.calibration.applying import Judge
from dnagrinder.scoring.calibration.file import read_calibration
from dnagrinder.scoring.calibration.origin import ScoreOrigin

AllelesTable = Annotated[Path, typer.Option(help="alleles.parquet of the call set.")]
LedgerTable = Annotated[Path, typer.Option(help="ledger.parquet of the call set.")]
ScoreTables = Annotated[list[Path], typer.Argument(help="Score tables from score-alleles and unique-alleles.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("annotate")(annotate)
    app.command("sample-tables")(sample_tables)
    report = typer.Typer(help="Make the HTML pages: report sample, report cohort.", no_args_is_help=True)
    report.command("sample")(report_sample)
    report.command("cohort")(report_cohort)
    app.add_typer(report, name="report")
    app.command("provenance")(provenance)


def annotate(
    vcf: Annotated[Path, typer.Argument(help="The VCF or BCF that the tables were read from; - for standard input.")],
    scores: ScoreTables,
    alleles: AllelesTable,
    ledger: LedgerTable,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Annotated VCF (bgzip; .tbi beside it); - for standard output, as text.")
    ],
    calibration: Annotated[
        Path | None, typer.Option(help="Calibration file: also write PP3/BP4 evidence, within its scope.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", "-r", help="Reference, for a calibration that corrects for context.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the scores into a VCF's INFO column; every other byte of a record stays as it is."""
    check_paths([vcf, alleles, ledger, calibration, reference, *scores], [out])
    traced = common_provenance(scores)
    with ExitStack() as stack:
        genome = stack.enter_context(ReferenceGenome.open(reference)) if reference else None
        origin = ScoreOrigin.of_provenance(traced)
        written, source = stack.enter_context(output_vcf(out)), stack.enter_context(input_file(vcf))
        counts = annotate_vcf(
            source,
            written,
            alleles=alleles,
            ledger=ledger,
            scores=scores,
            provenance=traced,
            tool_version=__version__,
            judge=Judge(read_calibration(calibration), origin, genome) if calibration else None,
        )
    show(
        {
            "records": counts.records,
            "alleles_in": counts.alleles_in,
            "scored": counts.scored,
            "from_store": counts.from_store,
            "rejected": counts.rejected,
        },
        as_json,
        out,
    )


def sample_tables(
    scores: ScoreTables,
    alleles: AllelesTable,
    ledger: LedgerTable,
    genotypes: Annotated[Path, typer.Option(help="genotypes.parquet of the call set.")],
    summary: Annotated[Path, typer.Option(help="summary.json of the call set.")],
    sample: Annotated[list[str], typer.Option(help="NAME, or NAME=COLUMN of the VCF; may be repeated.")],
    out_dir: Annotated[Path, typer.Option(help="Folder that gets one folder a sample.")],
) -> None:
    """Join one call set's alleles, scores and genotypes into the tables of its samples."""
    wanted: dict[str, str | None] = {}
    for text in sample:
        name, _, column = text.partition("=")
        if not name:
            raise ConfigError(f"--sample {text!r} is not NAME or NAME=COLUMN")
        wanted[name] = column or None
    build_sample_tables(
        wanted,
        callset=alleles.parent.name,
        alleles=alleles,
        ledger=ledger,
        genotypes=genotypes,
        summary=summary,
        scores=scores,
        out_dir=out_dir,
    )


def report_sample(
    folder: Annotated[Path, typer.Argument(help="A sample's folder, written by sample-tables.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML page to write.")],
    checkpoint: CheckpointName = "mini",
    annotated_vcf: Annotated[Path | None, typer.Option(help="Annotated VCF that the page links to.")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED whose names mark the variants that touch it.")] = None,
    reference: Annotated[Path | None, typer.Option("--reference", "-r", help="Reference, needed with --regions.")] = None,
) -> None:
    """Write a sample's page: one self-contained HTML file that needs no network.

    Example: [bold]dnagrinder report sample results/samples/HG00096 --out report.html[/bold]
    """
    if (regions is None) != (reference is None):
        raise ConfigError("--regions and --reference go together: the BED's contig names are those of the reference")
    accepted = None
    if regions and reference:
        with ReferenceGenome.open(reference) as genome:
            accepted = read_bed(regions, genome).accepted
    link = Path(os.path.relpath(annotated_vcf, out.parent)).as_posix() if annotated_vcf else None
    write_sample_report(folder, out, card=open_checkpoint(checkpoint).card, annotated_vcf=link, regions=accepted)


def report_cohort(
    folders: Annotated[list[Path], typer.Argument(help="Folders of the samples, written by sample-tables.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML page to write.")],
    scores: Annotated[Path, typer.Option(help="Parquet of the cohort's unique alleles to write.")],
    multiqc: Annotated[Path, typer.Option(help="MultiQC section to write; its name ends in _mqc.json.")],
    checkpoint: CheckpointName = "mini",
    provenance: Annotated[Path | None, typer.Option(help="The run's provenance.json, which the page links to.")] = None,
) -> None:
    """Write the cohort's page, its table of unique alleles and its MultiQC section."""
    link = Path(os.path.relpath(provenance, out.parent)).as_posix() if provenance else None
    write_cohort_report(folders, out, scores=scores, card=open_checkpoint(checkpoint).card, provenance_file=link)
    write_multiqc(folders, multiqc)


def provenance(
    results: Annotated[Path, typer.Argument(help="Folder with the results of a finished run of the workflow.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON-LD to write, in the shape of an RO-Crate 1.1.")],
    config: Annotated[str, typer.Option(help="The run's settings as JSON.")] = "{}",
    benchmarks: Annotated[Path | None, typer.Option(help="Folder of Snakemake's benchmark files.")] = None,
    as_json: AsJson = False,
) -> None:
    """Describe a finished run: files with checksums, model, reference, parameters, settings, versions, cost of each rule.

    The command line that started the run is taken from the variable DNAGRINDER_COMMAND, which the workflow sets.
    """
    try:
        settings = json.loads(config)
    except ValueError as error:
        raise ConfigError(f"--config is no JSON: {error}") from error
    command = os.environ.get("DNAGRINDER_COMMAND")
    content = write_provenance(results, out, config=settings, benchmarks=benchmarks, command=command)
    show({"files": sum(entity["@type"] == "File" for entity in content["@graph"])}, as_json)
