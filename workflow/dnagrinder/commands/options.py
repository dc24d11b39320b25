"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dnagrinder.errors import ConfigError
from dnagrinder.scoring.parameters import PRECISIONS, TOKEN_BUDGET, VIEWS, ScoringParameters

DEFAULTS = ScoringParameters()

ReferenceFile = Annotated[Path, typer.Option("--reference", "-r", help="Reference genome, FASTA (plain or bgzip).")]
CheckpointName = Annotated[
    str, typer.Option("--checkpoint", "-c", help="Embedded checkpoint (mini) or a folder with model.safetensors.")
]
Window = Annotated[int, typer.Option(help="Bases of reference that the model sees around a locus.")]
Views = Annotated[int, typer.Option(help=f"Views a strand that a score is the mean of (1-{len(VIEWS)}).")]
Precision = Annotated[str, typer.Option(help=f"Arithmetic of the model: {' or '.join(PRECISIONS)}.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
TokenBudget = Annotated[int, typer.Option(help="Tokens run together; memory and speed, never a score.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the model.")]
Store = Annotated[Path | None, typer.Option(help="Folder of the score store; created where absent.")]
Panel = Annotated[Path | None, typer.Option(help="BED of genes: list only alleles that touch it.")]
MaxAf = Annotated[
    float | None, typer.Option(help="List only alleles of at most this INFO/AF, or without one.", min=0, max=1)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

BUDGET = TOKEN_BUDGET


def check_paths(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Refuse to write over an input or to write two outputs to one file, before any work. Raises ConfigError."""
    taken = {path.resolve() for path in inputs if path is not None}
    for path in outputs:
        if path is None:
            continue
        if path.resolve() in taken:
            raise ConfigError(f"output {path} is also an input or another output of this command; give another name")
        taken.add(path.resolve())


def show(result: dict[str, Any], as_json: bool) -> None:
    """Print a result for scripts (one JSON object) or for people (name: value lines)."""
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
        print(f"{key.replace('_', ' ')}: {value}")
