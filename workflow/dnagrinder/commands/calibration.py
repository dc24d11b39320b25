"""The command that measures what a score is worth as evidence."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dnagrinder.commands.options import AsJson, check_paths, show
from dnagrinder.errors import ConfigError
from dnagrinder.genome.files import file_sha256
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.regions import read_bed
from dnagrinder.progress import track
from dnagrinder.reports.calibration import write_calibration_page
from dnagrinder.scoring.calibration.calibrate import calibrate, check_origin, means_at
from dnagrinder.scoring.calibration.file import DataFile, usable, write_calibration
from dnagrinder.scoring.calibration.local_posterior import Method
from dnagrinder.scoring.calibration.neutral import NeutralCorrection
from dnagrinder.scoring.calibration.observations import LabelRules, read_scored

METHOD, RULES = Method(), LabelRules()


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("calibrate")(calibrate_scores)


def calibrate_scores(
    vcf: Annotated[Path, typer.Argument(help="Labelled VCF, scored by dnagrinder score-variants.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Calibration file to write (JSON).")],
    page: Annotated[Path, typer.Option(help="HTML page to write.")],
    labels: Annotated[str, typer.Option(help="clinvar (CLNSIG), or info:TAG for P, LP, B, LB in INFO/TAG.")] = "clinvar",
    min_stars: Annotated[int, typer.Option(help="Least review stars of a ClinVar label.")] = RULES.min_stars,
    max_frequency: Annotated[
        float, typer.Option(help="Leave out variants above this AF, AF_TGP, AF_EXAC or AF_ESP.")
    ] = RULES.max_frequency,
    background: Annotated[
        Path | None, typer.Option(help="Scored VCF of variants as a population has them; else all of the labelled VCF.")
    ] = None,
    neutral: Annotated[
        Path | None, typer.Option(help="Scored VCF of neutral variants (common ones, say): corrects for their context.")
    ] = None,
    neutral_regions: Annotated[Path | None, typer.Option(help="BED: of --neutral only what lies in it.")] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", "-r", help="Reference the scores were made with, for --neutral.")
    ] = None,
    points: Annotated[int, typer.Option(help="Labelled variants a window holds.")] = METHOD.points,
    increment: Annotated[float, typer.Option(help="Step of scores and windows, in nats.")] = METHOD.increment,
    draws: Annotated[int, typer.Option(help="Bootstrap samples.")] = METHOD.draws,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = METHOD.seed,
    as_json: AsJson = False,
) -> None:
    """Measure which scores are PP3 or BP4 evidence, and how strong, on labelled variants.

    Needs no model: score the labelled VCF first.
    Example: [bold]dnagrinder score-variants clinvar.vcf.gz -r GRCh38.fa -o scored.vcf.gz[/bold], then
    [bold]dnagrinder calibrate scored.vcf.gz --out calibration.json --page calibration.html[/bold]
    """
    check_paths([vcf, background, neutral, neutral_regions, reference], [out, page])
    if (neutral is None) != (reference is None) or (neutral_regions and not neutral):
        raise ConfigError("--neutral and --reference go together, and --neutral-regions needs both")
    rules = LabelRules.of_option(labels, min_stars, max_frequency)
    method = Method(points=points, increment=increment, draws=draws, seed=seed)
    with ExitStack() as stack:
        correction, files = None, []
        if neutral and reference:
            genome = stack.enter_context(ReferenceGenome.open(reference))
            regions = read_bed(neutral_regions, genome).accepted if neutral_regions else None
            sites = read_scored(neutral, LabelRules(tag=None, max_frequency=1.0))
            correction = NeutralCorrection(means_at(sites, genome, regions), genome)
            files.append(DataFile("neutral", sites.name, sites.sha256))
        if neutral_regions:
            files.append(DataFile("neutral_regions", neutral_regions.name, file_sha256(neutral_regions)))
        labelled = read_scored(vcf, rules, correction)
        if correction:
            check_origin(labelled, sites)
        crowd = read_scored(background, replace(rules, tag=None), correction) if background else None
    with track("calibrate", "classes") as progress:
        calibration = calibrate(
            labelled,
            rules,
            method,
            background=crowd,
            neutral=correction.means if correction else None,
            neutral_files=files,
            on_progress=progress,
        )
    write_calibration(calibration, out)
    write_calibration_page(calibration, labelled, page)
    show(
        {
            "records": sum(labelled.fates.values()),
            **{fate.value: count for fate, count in labelled.fates.items() if count},
            "levels_used": {
                one.name: one.reason
                or ", ".join(level.code for level in usable(one.thresholds, method))
                or "no level is met"
                for one in calibration.classes
            },
            "sha256": calibration.digest,
        },
        as_json,
    )
