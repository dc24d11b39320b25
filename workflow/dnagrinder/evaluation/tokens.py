"""The objective of pretraining on held-out sequence: masked tokens of the ordinary segmentation, 15 %, 80/10/10.

Nats per token depend on the tokenizer: the same sequence in fewer, longer tokens costs more for each. Nats per *base* are
the sum over the masked tokens divided by the bases that these tokens stand for, and compare between tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnagrinder.evaluation.sites import Place, RepeatMask, draw_places
from dnagrinder.evaluation.statistics import block_ids, ratio
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.scoring.packing import Engine, ModelInput
from dnagrinder.training.masking import IGNORED, Masking, mask_sequence

WINDOW = 1024  # bases
RATE = 0.15  # of the paper


@dataclass(frozen=True)
class MaskedTokens:
    """Masked tokens and what the model made of them, (n,) each.

    Attributes:
        hit: whether the most likely token was the true one.
        nats: -log P(true token).
        bases: bases that the token stands for.
        repeat: 1 where at least half of these lie in repeats, 0 where fewer, -1 where repeats are not known.
        block: bootstrap block of its window.
        track: name of its track.
    """

    hit: NDArray[np.bool_]
    nats: NDArray[np.float64]
    bases: NDArray[np.int64]
    repeat: NDArray[np.int8]
    block: NDArray[np.int64]
    track: NDArray[np.str_]


@dataclass(frozen=True)
class Windows:
    """Random windows of held-out intervals: how many, of what, and the seed of the draw and of the masks."""

    reference: ReferenceGenome
    places: Sequence[Place]
    repeats: RepeatMask | None
    count: int
    seed: tuple[int, ...]


def masked_tokens(engine: Engine, tokenizer: DnaTokenizer, windows: Windows, track: str) -> MaskedTokens:
    """Mask the windows and let the model fill them; ``track`` is the name they are reported under."""
    drawn = draw_places(windows.reference, windows.places, WINDOW, np.random.default_rng([*windows.seed, 0]))
    inputs, targets, lengths, repeats, owners = [], [], [], [], []
    for index, (contig, start, end) in zip(range(windows.count), drawn, strict=False):
        generator = np.random.default_rng([*windows.seed, 1, index])
        sequence = windows.reference.fetch(contig, start, end)
        example = mask_sequence(sequence, WINDOW + 2, tokenizer, Masking(RATE), generator)
        asked = np.flatnonzero(example.labels != IGNORED)
        true = np.where(example.labels != IGNORED, example.labels, example.input_ids)
        first, last = tokenizer.offsets(true)[asked], tokenizer.offsets(true)[asked + 1]
        vocabulary = np.broadcast_to(np.arange(tokenizer.vocabulary), (asked.size, tokenizer.vocabulary))
        inputs.append(ModelInput(example.input_ids, tuple(asked.tolist()), vocabulary))
        targets.append(true[asked])
        lengths.append(last - first)
        repeats.append(_repeat_shares(windows.repeats, contig, start, end, first, last))
        owners.append((contig, start))
    hits: list[NDArray[np.bool_]] = [np.empty(0, dtype=bool)] * len(inputs)
    nats: list[NDArray[np.float64]] = [np.empty(0)] * len(inputs)

    def consume(index: int, log_probs: torch.Tensor) -> None:
        true = torch.from_numpy(targets[index])
        hits[index] = (log_probs.argmax(-1) == true).numpy()
        nats[index] = -log_probs.gather(1, true[:, None])[:, 0].double().numpy()

    engine.log_probs(inputs, consume)
    blocks = block_ids([contig for contig, _ in owners], np.array([start for _, start in owners], dtype=np.int64))
    counts = [true.size for true in targets]
    return MaskedTokens(
        np.concatenate(hits),
        np.concatenate(nats),
        np.concatenate(lengths),
        np.concatenate(repeats),
        np.repeat(blocks, counts),
        np.full(sum(counts), track, dtype=object).astype(str),
    )


def summary(parts: Sequence[MaskedTokens], seed: int) -> dict[str, dict[str, Any]]:
    """For each group (all, every track, repeats where known): masked tokens, accuracy, nats per token and per base."""
    shift = np.cumsum([0, *(part.block.max(initial=-1) + 1 for part in parts)])
    block = np.concatenate([part.block + first for part, first in zip(parts, shift[:-1], strict=True)])
    hit, nats, bases, repeat, track = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("hit", "nats", "bases", "repeat", "track")
    )
    chosen = {"all": np.ones(hit.size, dtype=bool)} | {name: track == name for name in dict.fromkeys(track.tolist())}
    chosen |= {"inside repeats": repeat == 1, "outside repeats": repeat == 0}
    result = {}
    for name, rows in ((name, rows) for name, rows in chosen.items() if rows.any()):
        ones = np.ones(int(rows.sum()))
        result[name] = {
            "tokens": int(rows.sum()),
            "bases": int(bases[rows].sum()),
            "accuracy": asdict(ratio(hit[rows].astype(float), ones, block[rows], seed)),
            "nats_per_token": asdict(ratio(nats[rows], ones, block[rows], seed)),
            "nats_per_base": asdict(ratio(nats[rows], bases[rows].astype(float), block[rows], seed)),
        }
    return result


def _repeat_shares(
    mask: RepeatMask | None, contig: str, start: int, end: int, first: NDArray[np.int64], last: NDArray[np.int64]
) -> NDArray[np.int8]:
    """(tokens,) int8: 1, 0 or -1 as in ``MaskedTokens.repeat`` for tokens over window bases [first, last)."""
    if mask is None:
        return np.full(first.size, -1, dtype=np.int8)
    inside = np.concatenate([[0], np.cumsum(mask.inside(contig, start, end))])
    return (2 * (inside[last] - inside[first]) >= last - first).astype(np.int8)
