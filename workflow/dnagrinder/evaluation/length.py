"""Does a longer input help, or hurt? The loss of the same masked bases in ever longer surroundings.

ALiBi claims that a model may be run on longer inputs than it was trained on. To see nothing but the effect of length, the
same bases are predicted at every length. Around a locus a stretch of a fifth of the longest length holds one masked base
every ``SPACING`` bases, each with a forced boundary (the view (1, 0) of scoring, forward strand); all of them stay masked
at all lengths. For length L the bases that lie within the middle quarter of a window share it, so each of them keeps at
least three eighths of L on its shorter side; below ``4 SPACING`` every base has a window of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnagrinder.evaluation.sites import CODE, Place, draw_places
from dnagrinder.evaluation.statistics import block_ids, mean
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.tokenizer import CLS, MASK, SEP, DnaTokenizer
from dnagrinder.scoring.packing import Engine, ModelInput

SPACING = 100  # bases between masked bases
PART = 5  # the masked bases span one part in so many of the longest window
KNOWN = 0.99  # least share of known bases in the longest window


@dataclass(frozen=True)
class Locus:
    """Masked bases in the middle of a long window of one contig; ``masked`` are rising positions."""

    contig: str
    start: int
    end: int
    masked: tuple[int, ...]


def draw_loci(
    reference: ReferenceGenome, places: Sequence[Place], longest: int, count: int, generator: np.random.Generator
) -> list[Locus]:
    """``count`` loci with a window of ``longest`` bases within the intervals; their windows may overlap.

    Raises:
        InputError: no such window is known to 99 %.
    """
    windows = draw_places(reference, places, longest, generator, known=KNOWN)
    loci = []
    for _, (contig, start, end) in zip(range(count), windows, strict=False):
        first = start + (longest - longest // PART) // 2
        text = reference.fetch(contig, first, first + longest // PART)
        masked = tuple(first + at for at in range(0, len(text), SPACING) if text[at] != "N")
        loci.append(Locus(contig, start, end, masked))
    return loci


def windows_of(locus: Locus, length: int) -> list[tuple[int, int, list[int]]]:
    """(start, end, masked bases to predict) of the windows of one length; they never leave the locus's own window."""
    found = []
    waiting = list(locus.masked)
    while waiting:
        group = [base for base in waiting if base - waiting[0] <= length // 4]
        waiting = waiting[len(group) :]
        start = (group[0] + group[-1]) // 2 - length // 2
        start = min(max(start, locus.start), locus.end - length)
        found.append((start, start + length, group))
    return found


def length_losses(
    engine: Engine, tokenizer: DnaTokenizer, reference: ReferenceGenome, loci: Sequence[Locus], length: int
) -> NDArray[np.float64]:
    """(masked bases of all loci,) nats of each base at one input length, in the order of the loci."""
    single, _ = tokenizer.bases_at(1, 0)
    inputs, truths, rows = [], [], []
    row = 0
    for locus in loci:
        for start, end, asked in windows_of(locus, length):
            sequence = reference.fetch(locus.contig, start, end)
            inside = [base - start for base in locus.masked if start <= base < end]
            ids, positions = _masked_ids(sequence, inside, tokenizer)
            chosen = [positions[inside.index(base - start)] for base in asked]
            inputs.append(ModelInput(ids, tuple(chosen), np.broadcast_to(single, (len(chosen), single.size))))
            truths.append([int(CODE[ord(sequence[base - start])]) for base in asked])
            rows.append(slice(row, row + len(asked)))
            row += len(asked)
    result = np.empty(row)

    def consume(index: int, log_probs: torch.Tensor) -> None:
        logs = log_probs.double()
        logs = logs - logs.logsumexp(dim=1, keepdim=True)
        result[rows[index]] = -logs[range(len(truths[index])), truths[index]].numpy()

    engine.log_probs(inputs, consume)
    return result


def length_curve(
    nats: dict[int, NDArray[np.float64]], loci: Sequence[Locus], reference_length: int, seed: int
) -> dict[str, Any]:
    """Nats per base at each length, and the difference to ``reference_length`` on the same bases (below 0: better)."""
    names = [locus.contig for locus in loci for _ in locus.masked]
    blocks = block_ids(names, np.array([base for locus in loci for base in locus.masked], dtype=np.int64))
    points = [
        {
            "length": length,
            "nats": asdict(mean(values, blocks, seed)),
            "difference": asdict(mean(values - nats[reference_length], blocks, seed)),
        }
        for length, values in nats.items()
    ]
    return {"reference_length": reference_length, "bases": len(names), "loci": len(loci), "points": points}


def _masked_ids(sequence: str, masked: Sequence[int], tokenizer: DnaTokenizer) -> tuple[NDArray[np.int64], list[int]]:
    """(ids with one [MASK] for each masked base, tokenised apart between them; position of each [MASK])."""
    cuts = [0, *(at + 1 for at in masked)]
    pieces = tokenizer.encode_pieces([sequence[cut:at] for cut, at in zip(cuts, [*masked, len(sequence)], strict=True)])
    ids = [CLS]
    positions = []
    for piece in pieces[:-1]:
        ids += [*piece.tolist(), MASK]
        positions.append(len(ids) - 1)
    return np.array([*ids, *pieces[-1].tolist(), SEP], dtype=np.int64), positions
