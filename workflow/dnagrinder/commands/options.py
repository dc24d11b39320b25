"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dnagrinder.commands.streams import STREAM
from dnagrinder.errors import ConfigError
from dnagrinder.genome.cis import DEFAULT_DISTANCE
from dnagrinder.scoring.parameters import LATTICES, PRECISIONS, TOKEN_BUDGET, VIEWS, ScoringParameters

DEFAULTS = ScoringParameters()

ReferenceFile = Annotated[Path, typer.Option("--reference", "-r", help="Reference genome, FASTA (plain or bgzip).")]
CheckpointName = Annotated[
    str, typer.Option("--checkpoint", "-c", help="Embedded checkpoint (mini) or a folder with model.safetensors.")
]
Window = Annotated[int, typer.Option(help="Bases of reference that the model sees around a locus.")]
Views = Annotated[int, typer.Option(help=f"Views a strand that a score is the mean of (1-{len(VIEWS)}).")]
Lattice = Annotated[
    int,
    typer.Option(
        help=f"SNVs only: mask every N-th base of a tile in one pass (one of {', '.join(map(str, LATTICES))}); "
        "0 masks one base a pass. Scores of different lattices are never mixed."
    ),
]
Precision = Annotated[str, typer.Option(help=f"Arithmetic of the model: {' or '.join(PRECISIONS)}.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
TokenBudget = Annotated[int, typer.Option(help="Tokens run together; memory and speed, never a score.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads of the model.")]
Distance = Annotated[int, typer.Option(min=1, help="Most bases between alleles of one copy that are scored together.")]
Store = Annotated[Path | None, typer.Option(help="Folder of the score store; created where absent.")]
CalibrationFile = Annotated[
    Path | None,
    typer.Option("--calibration", help="Calibration file: also state PP3/BP4 evidence, within its scope."),
]
Panel = Annotated[Path | None, typer.Option(help="BED of genes: list only alleles that touch it.")]
MaxAf = Annotated[
    float | None, typer.Option(help="List only alleles of at most this INFO/AF, or without one.", min=0, max=1)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

#: Formats of tables, and the endings of their files' names.
PARQUET, TEXT = "Parquet", "tab-separated text"
ENDINGS = {PARQUET: (".parquet",), TEXT: (".tsv", ".txt")}
#: Endings that promise a format; a name with none of them promises nothing.
_PROMISES = frozenset(
    [".parquet", ".tsv", ".txt", ".csv", ".json", ".html", ".vcf", ".bcf", ".bed", ".bedgraph", ".gz", ".bgz"]
)

BUDGET = TOKEN_BUDGET
DISTANCE = DEFAULT_DISTANCE


def check_paths(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Refuse to write over an input or to write two outputs to one file, before any work. Raises ConfigError.

    ``-`` (standard input, standard output) is no file.
    """
    taken = {path.resolve() for path in inputs if path is not None}
    for path in outputs:
        if path is None or path == STREAM:
            continue
        if path.resolve() in taken:
            raise ConfigError(f"output {path} is also an input or another output of this command; give another name")
        taken.add(path.resolve())


def check_formats(tables: Sequence[Path | None], *formats: str) -> None:
    """Refuse a name whose ending promises another format than is written there, before any work. Raises ConfigError.

    Args:
        tables: outputs; None where one is not asked for.
        formats: keys of ENDINGS that the command writes there, the usual one first.
    """
    own = [ending for name in formats for ending in ENDINGS[name]]
    for path in tables:
        if path is not None and path.suffix not in own and path.suffix.lower() in _PROMISES:
            plain = Path(path.name.removesuffix(".gz").removesuffix(".bgz"))
            raise ConfigError(f"output {path} is written as {' or '.join(formats)}; call it {plain.with_suffix(own[0])}")


def show(result: dict[str, Any], as_json: bool, out: Path | None = None) -> None:
    """Print a result for scripts (one JSON object) or for people (name: value lines).

    Where the command's output ``out`` is standard output, the result goes to stderr.
    """
    stream = sys.stderr if out == STREAM else sys.stdout
    if as_json:
        print(json.dumps(result), file=stream)
        return
    for key, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
        print(f"{key.replace('_', ' ')}: {value}", file=stream)
