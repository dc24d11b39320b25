"""Scores of haplotypes: several alleles of one chromosome copy together, against the sum of each by itself.

Let S(e | B) be the block score (``scoring.block``) of edit e in the background B, a window that already carries the edits B:
the block pseudo-log-likelihood of the window with B and e minus that of the window with B. One window, the one around the
whole haplotype (:func:`window_centre`), serves all. For the edits e1..en of a haplotype, left to right,

    sum        = S(e1) + S(e2) + ... + S(en)                            each alone on the reference
    joint      = S(e1) + S(e2 | e1) + S(e3 | e1 e2) + ...               the chain rule, from the left
                 and S(en) + S(en-1 | en) + ...                         from the right; the mean of both
    difference = joint - sum                                            epistasis

Every term is a score of one edit by one method in one window, so the difference holds nothing but what the background
does: S(e2 | e1) - S(e2) is how much more the model expects e2 where it sees e1. Edits in different tokens that the model
holds for independent give exactly 0; above 0 the alleles fit one another better than each fits the reference.

Why not one masked block from the first to the last edit, or all differing blocks masked at once? Then no edit is seen
while the others are predicted: masked positions are independent given what is visible, and what would be left as a
difference is the context that the larger mask hides, not an interaction. The score of the one block is told besides, as
``block_score``: what the haplotype would get as one record of a VCF (``DG_SCORE`` of an MNV or a deletion-insertion).

A probability has one value whatever the order of the chain, a masked language model need not. Rows of a score are order x
strand x view; joint and difference are their means, the spreads their population standard deviations, so that a model at
odds with itself says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dnagrinder.genome.cis import CisHaplotype, compact_edits
from dnagrinder.genome.edits import Edit, apply_edits
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele
from dnagrinder.genome.windows import window_bounds
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.prefetch import prefetched
from dnagrinder.scoring.block import Pair, block_log_likelihoods, strand_pairs
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import ScoringParameters

CHUNK = 16  # haplotypes taken up together, the next ones prepared meanwhile; bounds memory, never changes a score


@dataclass(frozen=True)
class HaplotypeScore:
    """Score of one haplotype; natural log, below 0 = less expected than the reference.

    Attributes:
        joint, joint_spread: of all alleles together; mean and standard deviation over orders, strands and views.
        singles: of each member alone, left to right; mean over strands and views.
        epistasis, epistasis_spread: joint minus the sum of singles; mean and standard deviation.
        rows: orders x strands x views.
        block_score, block_spread: of the whole as one allele by block likelihood; over strands and views.
    """

    haplotype: CisHaplotype
    joint: float
    joint_spread: float
    singles: tuple[float, ...]
    epistasis: float
    epistasis_spread: float
    rows: int
    block_score: float
    block_spread: float

    @property
    def singles_sum(self) -> float:
        """What the alleles score one by one."""
        return sum(self.singles)


class HaplotypeScorer:
    """Scores haplotypes of one reference with one model."""

    def __init__(
        self, engine: Engine, tokenizer: DnaTokenizer, reference: ReferenceGenome, parameters: ScoringParameters
    ) -> None:
        self._engine, self._tokenizer, self._reference, self._parameters = engine, tokenizer, reference, parameters

    def score(
        self, haplotypes: Sequence[CisHaplotype], on_progress: Callable[[int, int], None] | None = None
    ) -> Iterator[HaplotypeScore]:
        """One score a haplotype, in the order given; ``on_progress(done, total)`` after every chunk."""
        chunks = (haplotypes[first : first + CHUNK] for first in range(0, len(haplotypes), CHUNK))
        done = 0
        for chunk in prefetched([(haplotype, self._steps(haplotype)) for haplotype in chunk] for chunk in chunks):
            flat = [step for _, steps in chunk for step in steps]
            found = iter(block_log_likelihoods(self._engine, flat, self._parameters.views))
            for haplotype, steps in chunk:
                rows = np.stack([next(found) for _ in steps])  # (steps, strands x views, 2)
                yield summarise(haplotype, rows[..., 1] - rows[..., 0])
            done += len(chunk)
            if on_progress:
                on_progress(done, len(haplotypes))

    def _steps(self, haplotype: CisHaplotype) -> list[tuple[Pair, Pair]]:
        """The pairs of windows: n singles, n - 1 further steps from the left, n - 1 from the right, the whole."""
        contig = haplotype.allele.contig
        edits = compact_edits(self._reference, [member.allele for member in haplotype.members])
        centre = window_centre(haplotype.allele, edits, self._parameters.window)
        left, right = window_bounds(centre, centre, self._parameters.window, self._reference.length(contig))
        bases = self._reference.fetch(contig, left, right)
        count = len(edits)

        def carrying(first: int, last: int) -> str:
            return apply_edits(bases, left, edits[first:last]).bases

        steps = [(bases, carrying(i, i + 1)) for i in range(count)]
        steps += [(carrying(0, i), carrying(0, i + 1)) for i in range(1, count)]
        steps += [(carrying(i + 1, count), carrying(i, count)) for i in range(count - 1)]
        steps.append((bases, carrying(0, count)))
        return [strand_pairs(self._tokenizer, before, after) for before, after in steps]


def window_centre(whole: Allele, edits: Sequence[Edit], window: int) -> int:
    """Middle of the whole's change, or the nearest base to it that leaves a quarter of ``window`` on each side of all edits.

    Both are the same but where the whole is an insertion or deletion in a repeat: left-aligned, it may stand far from the
    alleles that make it.
    """
    start, ref, _ = whole.trimmed()
    middle = (start + start + len(ref)) // 2
    return min(max(middle, edits[-1].end - window // 4), edits[0].start + window // 4)


def summarise(haplotype: CisHaplotype, steps: NDArray[np.float64]) -> HaplotypeScore:
    """The scores from those of all steps.

    Args:
        steps: (3n - 1, strands x views) for n members: each alone; the second to the last on those left of it; the first
            to the last but one on those right of it; the whole as one block.
    """
    count = len(haplotype.members)
    singles, from_left, from_right, (whole,) = np.split(steps, [count, 2 * count - 1, 3 * count - 2])
    total = singles.sum(axis=0)  # (strands x views,)
    joint = np.stack([singles[0] + from_left.sum(axis=0), singles[-1] + from_right.sum(axis=0)])  # (orders, strands x views)
    return HaplotypeScore(
        haplotype=haplotype,
        joint=float(joint.mean()),
        joint_spread=float(joint.std()),
        singles=tuple(singles.mean(axis=1).tolist()),
        epistasis=float((joint - total).mean()),
        epistasis_spread=float((joint - total).std()),
        rows=joint.size,
        block_score=float(whole.mean()),
        block_spread=float(whole.std()),
    )
