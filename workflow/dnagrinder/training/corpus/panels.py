"""Haplotype augmentation: the segments of a source as the people of a panel carry them, both parental alleles.

Only windows and haplotypes with an ALT become segments: the reference itself is in the corpus already. Equal haplotypes of
different people are one segment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dnagrinder.genome.edits import Edit, apply_edits
from dnagrinder.genome.haplotypes import Haplotype, read_region
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.vcf import VcfFile
from dnagrinder.training.corpus.segments import segment_bounds, segments
from dnagrinder.training.corpus.sources import Panel, Source, Stretch, known_bases

REGION = 1_000_000  # bases whose genotypes are read at once


@dataclass
class PanelCounts:
    """What became of a panel: windows with an ALT, distinct haplotypes written, alleles left out by reason."""

    windows: int = 0
    haplotypes: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def haplotype_segments(
    source: Source, panel: Panel, usable: Iterable[Stretch], segment: int, reference: ReferenceGenome, counts: PanelCounts
) -> Iterator[Stretch]:
    """The distinct haplotypes of every segment of ``usable``; ``counts`` is filled on the way.

    An allele that would bring in held-out bases (a duplication reaching there) leaves its haplotype out.

    Raises:
        BuildMismatchError: the panel was called on another build.
        InputError: the VCF has no index, no genotypes, or cannot be read.
    """
    with VcfFile(panel.path, panel.samples or None) as vcf:
        reference.check_build(vcf.contigs, panel.path.name)
        called = {reference.resolve(name) for name, _ in vcf.contigs}
        held_out: dict[str, NDArray[np.bool_]] = {}
        for stretch in usable:
            if stretch.contig not in called:
                continue
            if stretch.contig not in held_out:
                held_out = {stretch.contig: source.is_held_out(stretch.contig, reference.length(stretch.contig))}
            bounds = segment_bounds(stretch.bases.size, segment)
            together = max(1, REGION // segment)
            for first in range(0, len(bounds), together):
                part = bounds[first : first + together]
                span = (stretch.start + part[0][0], stretch.start + part[-1][1])
                region = read_region(vcf, reference, stretch.contig, *span)
                for start, end in part:
                    window = region.window(stretch.start + start, stretch.start + end)
                    counts.left_out.update({str(reason): copies for reason, copies in window.reasons.items()})
                    chosen = [h for h in window.haplotypes if _wanted(h, held_out[stretch.contig], counts)]
                    counts.windows += bool(chosen)
                    counts.haplotypes += len(chosen)
                    text = stretch.bases[start:end].tobytes().decode("ascii")
                    for haplotype in chosen:
                        changed = apply_edits(text, stretch.start + start, haplotype.edits).bases
                        yield from segments(Stretch(stretch.contig, stretch.start + start, known_bases(changed)), segment)


def _wanted(haplotype: Haplotype, held_out: NDArray[np.bool_], counts: PanelCounts) -> bool:
    if not haplotype.edits or not haplotype.phase_known.any():
        return False
    if any(_brings(edit, held_out) for edit in haplotype.edits):
        counts.left_out["HELD_OUT"] += haplotype.copies
        return False
    return True


def _brings(edit: Edit, held_out: NDArray[np.bool_]) -> bool:
    """Whether an allele's new bases may be copies of held-out ones: a duplication repeats what lies on either side of it."""
    new = len(edit.replacement)
    return bool(held_out[max(0, edit.start - new) : max(edit.end, edit.start + new)].any())
