"""Values along a contig as bedGraph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dnagrinder.genome.files import written_aside


def bedgraph_runs(contig: str, start: int, values: NDArray[np.float64]) -> list[str]:
    """Lines (0-based half-open) of the values of neighbouring bases from ``start``; equal ones joined, nan left out."""
    texts = [f"{value:.4f}" if np.isfinite(value) else "" for value in values.tolist()]
    lines = []
    first = 0
    for position in range(1, len(texts) + 1):
        if position == len(texts) or texts[position] != texts[first]:
            if texts[first]:
                lines.append(f"{contig}\t{start + first}\t{start + position}\t{texts[first]}")
            first = position
    return lines


def write_bedgraph(lines: list[str], path: Path, name: str, description: str) -> None:
    """Write a track line that names the track, and the lines."""
    header = f'track type=bedGraph name="{name}" description="{description}"'
    with written_aside(path) as aside:
        aside.write_text("".join(f"{line}\n" for line in [header, *lines]), encoding="utf-8")
