"""Lattice scoring: P(base | both flanks) at many sites of a tile in one pass.

The contig is cut into a fixed grid of tiles of TILE bases, the *core*, counted from base 0; the model reads a tile with half
a window of context at either end, clipped at the contig's ends. For a spacing D the sites p of the core with p = r (mod D)
are masked in the same pass, so all of a tile takes D passes a strand and view, however many of its sites are wanted:

      tile  ...context|--M-------M-------M-------M-----|context...      D = 8, r = 2 (mod 8): one pass of eight
                       TTCACAGGATGCCTTAGA...                            between two masks the bases are tokenised apart

Each mask is the forced boundary of ``scoring.snv`` with the views used there, and P(base) is read from it in the same way.
The model sees the other sites of the class masked, all else as it is. An unknown base (N) is no site and stays as it is.
Which sites are masked follows from contig, position and D alone, never from what was asked for: a score is a function of
reference, checkpoint, parameters and position. It is another function than the single mask's: its neighbours at distance D
are hidden, and the text between two masks is cut into other tokens (docs/lattice.md has how far they agree).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.tokenizer import BASES, CLS, MASK, SEP, DnaTokenizer
from dnagrinder.scoring.packing import Engine, ModelInput
from dnagrinder.scoring.parameters import TILE, ScoringParameters
from dnagrinder.scoring.snv import Site, SiteInputs, View, run_sites, supported_views
from dnagrinder.sequence import reverse_complement


@dataclass(frozen=True)
class Tile:
    """A piece of the grid with its context; all coordinates 0-based half-open on the contig.

    Attributes:
        core_start, core_end: the bases that are scored in this tile.
        start, end: what the model reads.
        bases: upper-case bases of [start, end), forward strand.
    """

    core_start: int
    core_end: int
    start: int
    end: int
    bases: str

    def known_sites(self, residue: int, spacing: int) -> list[int]:
        """Positions p = ``residue`` (mod ``spacing``) of the core whose base is known, ascending."""
        first = self.core_start + (residue - self.core_start) % spacing
        return [p for p in range(first, self.core_end, spacing) if self.bases[p - self.start] in BASES]

    def strand(self, positions: Sequence[int], *, reverse: bool) -> tuple[str, list[tuple[int, int]]]:
        """The bases of a strand and (offset in them, position) of ascending ``positions``, offsets ascending."""
        if reverse:
            return reverse_complement(self.bases), [(self.end - 1 - p, p) for p in reversed(positions)]
        return self.bases, [(p - self.start, p) for p in positions]


def tile_at(reference: ReferenceGenome, contig: str, number: int, window: int) -> Tile:
    """Tile ``number`` of a contig: core [number TILE, (number + 1) TILE), half a ``window`` of context, both clipped."""
    length = reference.length(contig)
    core_start, core_end = number * TILE, min((number + 1) * TILE, length)
    start, end = max(0, core_start - window // 2), min(core_end + window // 2, length)
    return Tile(core_start, core_end, start, end, reference.fetch(contig, start, end))


def lattice_log_probs(
    engine: Engine,
    tokenizer: DnaTokenizer,
    reference: ReferenceGenome,
    sites: Sequence[Site],
    parameters: ScoringParameters,
) -> list[NDArray[np.float64]]:
    """As ``snv.site_log_probs``, by lattice passes of spacing ``parameters.lattice``; a row of nan at an unknown base."""
    return run_sites(engine, lattice_inputs(tokenizer, reference, sites, parameters))


def lattice_inputs(
    tokenizer: DnaTokenizer, reference: ReferenceGenome, sites: Sequence[Site], parameters: ScoringParameters
) -> SiteInputs:
    """The passes that the sites lie in, cut and tokenised, both strands. Raises ValueError where a site comes twice."""
    if len(set(sites)) < len(sites):
        raise ValueError("a lattice pass answers a site once; give each site once")
    groups = {view: tokenizer.bases_at(*view) for view in supported_views(tokenizer, parameters.views)}
    wanted: dict[tuple[str, int], dict[int, dict[int, int]]] = {}  # (contig, tile) -> residue -> position -> index
    for index, site in enumerate(sites):
        residues = wanted.setdefault((site.contig, site.start // TILE), {})
        residues.setdefault(site.start % parameters.lattice, {})[site.start] = index
    inputs: list[ModelInput] = []
    owners: list[tuple[tuple[int, ...], View, bool]] = []
    for (contig, number), residues in wanted.items():
        tile = tile_at(reference, contig, number, parameters.window)
        for (residue, indices), reverse in product(residues.items(), (False, True)):
            sequence, offsets = tile.strand(tile.known_sites(residue, parameters.lattice), reverse=reverse)
            for view, (tokens, _) in groups.items():
                found = _masked_pass(tokenizer, sequence, offsets, view, tokens, indices)
                if found:
                    inputs.append(found[0])
                    owners.append((found[1], view, reverse))
    return SiteInputs(inputs, owners, {view: bases for view, (_, bases) in groups.items()}, len(sites))


def _masked_pass(
    tokenizer: DnaTokenizer,
    sequence: str,
    offsets: Sequence[tuple[int, int]],
    view: View,
    tokens: NDArray[np.int64],
    indices: dict[int, int],
) -> tuple[ModelInput, tuple[int, ...]] | None:
    """One strand's pass of one view and the indices of the sites that it answers; None where it answers none.

    Args:
        offsets: offset in ``sequence`` and position on the contig of every masked site, offsets ascending.
        tokens: those that are asked for at a mask.
        indices: index of every wanted position.
    """
    length, slot = view
    spans = [(o - slot, p) for o, p in offsets if o >= slot and o - slot + length <= len(sequence)]
    if not any(position in indices for _, position in spans):
        return None
    ids = np.concatenate(list(_with_masks(tokenizer, sequence, [left for left, _ in spans], length)))
    places = np.flatnonzero(ids == MASK).tolist()
    asked = [(place, indices[p]) for place, (_, p) in zip(places, spans, strict=True) if p in indices]
    targets = np.broadcast_to(tokens, (len(asked), tokens.size))
    return ModelInput(ids, tuple(place for place, _ in asked), targets), tuple(index for _, index in asked)


def _with_masks(tokenizer: DnaTokenizer, sequence: str, lefts: Sequence[int], length: int) -> Iterator[NDArray[np.int64]]:
    """[CLS], the pieces between the spans of ``length`` bases from each of ``lefts``, a [MASK] for each span, [SEP]."""
    starts, ends = [0, *(left + length for left in lefts)], [*lefts, len(sequence)]
    pieces = tokenizer.encode_pieces([sequence[start:end] for start, end in zip(starts, ends, strict=True)])
    mask = np.array([MASK])
    yield np.array([CLS])
    yield pieces[0]
    for piece in pieces[1:]:
        yield mask
        yield piece
    yield np.array([SEP])
