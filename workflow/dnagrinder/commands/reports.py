"""Commands of the reports room: annotated VCF, sample tables, pages."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from dnagrinder import __version__
from dnagrinder.commands.options import (
    PARQUET,
    AsJson,
    CalibrationFile,
    CheckpointName,
    MaxAf,
    Panel,
    check_formats,
    check_paths,
    show,
)
from dnagrinder.commands.streams import STREAM, input_file, output_vcf
from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.regions import read_bed
from dnagrinder.model.checkpoint import open_checkpoint
from dnagrinder.reports.cohort import write_cohort_report
from dnagrinder.reports.distribution import write_distribution
from dnagrinder.reports.families import CANDIDATES, FAMILY, Member, write_family
from dnagrinder.reports.filters import Filters
from dnagrinder.reports.haplotypes import remove_sample_haplotypes, write_sample_haplotypes
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
CalibrationReference = Annotated[
    Path | None, typer.Option("--reference", "-r", help="Reference, for a calibration that corrects for context.")
]
HaplotypeTable = Annotated[Path | None, typer.Option(help="Table of the call set's haplotypes, from score-haplotypes.")]
ScoreTables = Annotated[list[Path], typer.Argument(help="Score tables from score-alleles and unique-alleles.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("annotate")(annotate)
    app.command("sample-tables")(sample_tables)
    app.command("family-candidates")(family_candidates)
    report = typer.Typer(
        help="Make the HTML pages, and the run's distribution of scores that they draw on.", no_args_is_help=True
    )
    report.command("sample")(report_sample)
    report.command("cohort")(report_cohort)
    report.command("distribution")(report_distribution)
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
    calibration: CalibrationFile = None,
    reference: CalibrationReference = None,
    haplotypes: HaplotypeTable = None,
    as_json: AsJson = False,
) -> None:
    """Write the scores into a VCF's INFO column; every other byte of a record stays as it is."""
    check_paths([vcf, alleles, ledger, calibration, reference, haplotypes, *scores], [out])
    traced = common_provenance([*scores, *([haplotypes] if haplotypes else [])])
    with _judge(calibration, reference, traced) as judge, output_vcf(out) as written, input_file(vcf) as source:
        counts = annotate_vcf(
            source,
            written,
            alleles=alleles,
            ledger=ledger,
            scores=scores,
            provenance=traced,
            tool_version=__version__,
            judge=judge,
            haplotypes=haplotypes,
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
    calibration: CalibrationFile = None,
    reference: CalibrationReference = None,
    haplotypes: HaplotypeTable = None,
) -> None:
    """Join one call set's alleles, scores and genotypes into the tables of its samples."""
    wanted: dict[str, str | None] = {}
    for text in sample:
        name, _, column = text.partition("=")
        if not name:
            raise ConfigError(f"--sample {text!r} is not NAME or NAME=COLUMN")
        wanted[name] = column or None
    with _judge(calibration, reference, common_provenance([*scores, *([haplotypes] if haplotypes else [])])) as judge:
        written = build_sample_tables(
            wanted,
            callset=alleles.parent.name,
            alleles=alleles,
            ledger=ledger,
            genotypes=genotypes,
            summary=summary,
            scores=scores,
            out_dir=out_dir,
            judge=judge,
        )
    for name, description in written.items():
        if haplotypes:
            write_sample_haplotypes(haplotypes, description["column"], out_dir / name)
        else:
            remove_sample_haplotypes(out_dir / name)


def family_candidates(
    vcf: Annotated[Path, typer.Argument(help="The VCF or BCF of the proband.")],
    family: Annotated[str, typer.Option(help="The family's name.")],
    member: Annotated[
        list[str], typer.Option(help="NAME:ROLE[:SEX[:PHENOTYPE]]; one proband, at most one mother and one father.")
    ],
    samples: Annotated[Path, typer.Option(help="Folder with the members' folders, written by sample-tables.")],
    out_dir: Annotated[Path, typer.Option(help="Folder that gets candidates.tsv and family.json.")],
    reference: Annotated[Path | None, typer.Option("--reference", "-r", help="Reference, needed with --panel.")] = None,
    panel: Panel = None,
    max_af: MaxAf = None,
    as_json: AsJson = False,
) -> None:
    """List a proband's alleles that may be new and genes hit on both copies, by the family's genotypes. No diagnosis."""
    check_paths([vcf, reference, panel], [out_dir / CANDIDATES, out_dir / FAMILY])
    people = []
    for text in member:
        name, role, sex, phenotype = [*(part or None for part in text.split(":")), None, None, None][:4]
        if not name or not role:
            raise ConfigError(f"--member {text!r} is not NAME:ROLE[:SEX[:PHENOTYPE]]")
        people.append(Member(name, role, sex, phenotype))
    with ExitStack() as stack:
        genome = stack.enter_context(ReferenceGenome.open(reference)) if reference else None
        filters = Filters.open(panel, max_af, genome)
        made = write_family(family, people, vcf=vcf, samples=samples, out_dir=out_dir, filters=filters)
    show({"alleles": made["alleles"], **made["origins"], "compound_het_genes": made["totals"]["genes"]}, as_json)


def report_sample(
    folder: Annotated[Path, typer.Argument(help="A sample's folder, written by sample-tables.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML page to write.")],
    checkpoint: CheckpointName = "mini",
    annotated_vcf: Annotated[Path | None, typer.Option(help="Annotated VCF that the page links to.")] = None,
    regions: Annotated[Path | None, typer.Option(help="BED whose names mark the variants that touch it.")] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", "-r", help="Reference: for --regions, and for the genome browser.")
    ] = None,
    distribution: Annotated[
        Path | None, typer.Option(help="Scores of the whole run, from report distribution, to compare the sample with.")
    ] = None,
    panel: Panel = None,
    max_af: MaxAf = None,
    family: Annotated[Path | None, typer.Option(help="family.json of the family whose proband the sample is.")] = None,
    igv: Annotated[
        bool, typer.Option(help="A genome browser of the top loci in the page (0.7 MB); needs --reference.")
    ] = True,
) -> None:
    """Write a sample's page: one self-contained HTML file that needs no network.

    Example: [bold]dnagrinder report sample results/samples/HG00096 --out report.html[/bold]
    """
    if regions and not reference:
        raise ConfigError("--regions needs --reference: the BED's contig names are those of the reference")
    link = Path(os.path.relpath(annotated_vcf, out.parent)).as_posix() if annotated_vcf else None
    with ExitStack() as stack:
        genome = stack.enter_context(ReferenceGenome.open(reference)) if reference else None
        write_sample_report(
            folder,
            out,
            card=open_checkpoint(checkpoint).card,
            annotated_vcf=link,
            regions=read_bed(regions, genome).accepted if regions and genome else None,
            distribution=distribution,
            genome=genome if igv else None,
            filters=Filters.open(panel, max_af, genome),
            family=family,
        )


def report_cohort(
    folders: Annotated[list[Path], typer.Argument(help="Folders of the samples, written by sample-tables.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML page to write.")],
    scores: Annotated[Path, typer.Option(help="Parquet of the cohort's unique alleles to write.")],
    multiqc: Annotated[Path, typer.Option(help="MultiQC section to write; its name ends in _mqc.json.")],
    checkpoint: CheckpointName = "mini",
    provenance: Annotated[Path | None, typer.Option(help="The run's provenance.json, which the page links to.")] = None,
) -> None:
    """Write the cohort's page, its table of unique alleles and its MultiQC section."""
    check_formats([scores], PARQUET)
    link = Path(os.path.relpath(provenance, out.parent)).as_posix() if provenance else None
    write_multiqc(folders, multiqc)  # first: it is quick, and refuses a name that MultiQC would not find
    write_cohort_report(folders, out, scores=scores, card=open_checkpoint(checkpoint).card, provenance_file=link)


def report_distribution(
    folders: Annotated[list[Path], typer.Argument(help="Folders of the samples, written by sample-tables.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON to write.")],
) -> None:
    """Write how the scores of all samples lie, for report sample --distribution."""
    write_distribution(folders, out)


def provenance(
    results: Annotated[Path, typer.Argument(help="Folder with the results of a finished run of the workflow.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="JSON-LD to write, in the shape of an RO-Crate 1.1.")],
    config: Annotated[str, typer.Option(help="The run's settings as JSON.")] = "{}",
    files_from: Annotated[
        Path | None,
        typer.Option(help="Text that names the run's files, one a line; - for standard input. All in the folder if absent."),
    ] = None,
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
    files = None if files_from is None else [Path(line) for line in _lines(files_from)]
    content = write_provenance(results, out, config=settings, files=files, benchmarks=benchmarks, command=command)
    show({"files": sum(entity["@type"] == "File" for entity in content["@graph"])}, as_json)


def _lines(path: Path) -> list[str]:
    """Lines of a text that are not empty; raises InputError where it cannot be read."""
    try:
        text = sys.stdin.read() if path == STREAM else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"list of files {path} cannot be read: {error}") from error
    return [line for line in text.splitlines() if line]


@contextmanager
def _judge(calibration: Path | None, reference: Path | None, traced: Mapping[str, Any]) -> Iterator[Judge | None]:
    """What judges scores of the provenance ``traced`` by the calibration, if there is one."""
    with ExitStack() as stack:
        genome = stack.enter_context(ReferenceGenome.open(reference)) if reference else None
        yield Judge(read_calibration(calibration), ScoreOrigin.of_provenance(traced), genome) if calibration else None
