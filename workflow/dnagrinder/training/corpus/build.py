"""From FASTA files and phased genotypes to a corpus folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.training.corpus.segments import SEGMENT, SHORTEST, STEP, is_repeat, segments, without_repeats
from dnagrinder.training.corpus.shards import ShardEntry, write_manifest, write_shards
from dnagrinder.training.corpus.sources import Source, Stretch, stretches


def build_corpus(
    sources: Sequence[Source],
    folder: Path,
    *,
    repeats: str = "keep",
    masks: Path | None = None,
    on_source: Callable[[int, int], None] | None = None,
) -> list[ShardEntry]:
    """Cut every source into segments and write them as shards with their manifest.

    Args:
        repeats: "drop" leaves lower-case bases out; "keep" and "downweight" write them as they are.
        masks: folder of repeat intervals for sources whose soft mask is "windowmasker"; needed unless ``repeats`` is "keep".
        on_source: called after each source with (sources done, sources).

    Raises:
        ConfigError: a source needs repeat intervals and no folder is given.
        InputError: a file cannot be read, or a source has nothing left to train on.
    """
    unmasked = [source.path.name for source in sources if source.soft_mask == "windowmasker"]
    if repeats != "keep" and unmasked and masks is None:
        raise ConfigError(
            f"corpus: repeats are to be told apart, so {', '.join(unmasked)} needs --masks (rule mask_repeats)"
        )
    folder.mkdir(parents=True, exist_ok=True)
    shards: list[ShardEntry] = []
    counts: list[dict[str, Any]] = []
    for index, source in enumerate(sources):
        counter = _Counter(_usable(source, masks, repeats))
        own = write_shards(_cut(counter), folder, source.path.name, source.copies, f"{index:03d}")
        if not own:
            raise InputError(f"corpus: {source.path} has no stretch of {SHORTEST:,} known bases outside what is held out")
        shards += own
        counts.append(
            {
                "name": source.path.name,
                "copies": source.copies,
                "held_out": list(source.held_out),
                "held_out_tail": source.held_out_tail,
                "soft_mask": source.soft_mask,
                "bases": counter.bases,
                "repeat_bases": counter.repeat_bases,
            }
        )
        if on_source:
            on_source(index + 1, len(sources))
    write_manifest(folder, shards, {"segment": SEGMENT, "step": STEP, "repeats": repeats, "sources": counts})
    return shards


class _Counter:
    """Counts the bases of the stretches that pass through, and how many of them are lower case."""

    def __init__(self, source: Iterable[Stretch]) -> None:
        self._source, self.bases, self.repeat_bases = source, 0, 0

    def __iter__(self) -> Iterator[Stretch]:
        for stretch in self._source:
            self.bases += stretch.bases.size
            self.repeat_bases += int(is_repeat(stretch.bases).sum())
            yield stretch


def _usable(source: Source, masks: Path | None, repeats: str) -> Iterator[Stretch]:
    for stretch in stretches(source, masks, SHORTEST):
        yield without_repeats(stretch) if repeats == "drop" else stretch


def _cut(usable: Iterable[Stretch]) -> Iterator[Stretch]:
    for stretch in usable:
        yield from segments(stretch)
