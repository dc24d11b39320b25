"""The command that measures a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from dnagrinder.commands.options import AsJson, CheckpointName, Device, Threads, show
from dnagrinder.commands.training import DataFolder, RunFile
from dnagrinder.errors import ConfigError
from dnagrinder.genome.files import written_aside
from dnagrinder.model.checkpoint import CARD, open_checkpoint
from dnagrinder.progress import track
from dnagrinder.scoring.parameters import ScoringParameters

if TYPE_CHECKING:
    from dnagrinder.evaluation.sites import TrainingStretch
    from dnagrinder.training.run_file import Run

METRICS, PAGE = "metrics.json", "evaluation.html"
UPPER = np.uint8(0xDF)  # ASCII letters without the bit of lower case


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("evaluate")(evaluate)


def evaluate(
    run_file: RunFile,
    data: DataFolder,
    checkpoint: CheckpointName,
    out: Annotated[Path, typer.Option("--out", "-o", help=f"Folder for {METRICS} and {PAGE}.")],
    bases: Annotated[int | None, typer.Option(help="Held-out bases instead of the run file's; scales every part.")] = None,
    write_card: Annotated[bool, typer.Option(help="Write the headline metrics into the checkpoint's card.")] = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure a checkpoint on held-out sequence, beside simple models trained on the same human sequence.

    Example: [bold]dnagrinder evaluate config/pretraining/mini.yaml --data genomes --checkpoint mini --out evaluation[/bold]
    """
    import torch

    from dnagrinder.evaluation.checkpoint import card_metrics, evaluate_checkpoint
    from dnagrinder.evaluation.page import write_evaluation_page
    from dnagrinder.scoring.session import choose_device
    from dnagrinder.training.run_file import read_run_file

    run = read_run_file(run_file, data)
    plan = run.evaluation.with_bases(bases)
    if threads:
        torch.set_num_threads(threads)
    opened = open_checkpoint(checkpoint)
    with track("evaluate", "parts") as progress:
        metrics = evaluate_checkpoint(
            opened, plan, human_stretches(run), ScoringParameters(), choose_device(device), progress
        )
    with written_aside(out / METRICS) as aside:
        aside.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    write_evaluation_page(metrics, opened.card, out / PAGE)
    headline = card_metrics(metrics)
    if write_card:
        with written_aside(opened.folder / CARD) as aside:
            aside.write_text(json.dumps({**opened.card, "metrics": headline}, indent=2) + "\n", encoding="utf-8")
    show(headline, as_json)


def human_stretches(run: Run) -> list[TrainingStretch]:
    """What the run trains on of the evaluated species: the sources that lie in the same folder as an evaluated FASTA."""
    from dnagrinder.evaluation.sites import TrainingStretch
    from dnagrinder.training.corpus.segments import SHORTEST
    from dnagrinder.training.corpus.sources import stretches

    folders = {track.fasta.parent for track in run.evaluation.tracks}
    sources = [source for source in run.sources if source.path.parent in folders]
    if not sources:
        named = ", ".join(sorted(folder.name for folder in folders))
        raise ConfigError(f"evaluation: no source of the corpus lies in {named}, the folder of the evaluated FASTA")
    return [
        TrainingStretch(stretch.contig, stretch.start, stretch.bases & UPPER)
        for source in sources
        for stretch in stretches(source, shortest=SHORTEST)
    ]
