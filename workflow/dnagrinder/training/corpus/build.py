"""From FASTA files and phased genotypes to a corpus folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dnagrinder.errors import ConfigError, InputError
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.training.corpus.panels import PanelCounts, haplotype_segments
from dnagrinder.training.corpus.segments import SEGMENT, SHORTEST, is_repeat, segments, without_repeats
from dnagrinder.training.corpus.shards import MANIFEST, ShardEntry, write_manifest, write_shards
from dnagrinder.training.corpus.sources import Panel, Source, Stretch, stretches


def build_corpus(
    sources: Sequence[Source],
    folder: Path,
    *,
    segment: int = SEGMENT,
    repeats: str = "keep",
    masks: Path | None = None,
    on_source: Callable[[int, int], None] | None = None,
) -> list[ShardEntry]:
    """Cut every source into segments and write them as shards with their manifest.

    Args:
        segment: bases of a segment; longer ones are for training on longer sequences than the paper's.
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
    (folder / MANIFEST).unlink(missing_ok=True)  # an older corpus here is complete no more
    shards: list[ShardEntry] = []
    facts: list[dict[str, Any]] = []
    for index, source in enumerate(sources):
        counter = _Counter(stretches(source, masks, SHORTEST))
        own = write_shards(_cut(counter, segment, repeats), folder, source.path.name, source.copies, f"{index:03d}")
        if not own:
            raise InputError(f"corpus: {source.path} has no stretch of {SHORTEST:,} known bases outside what is held out")
        shards += own
        panels = []
        for number, panel in enumerate(source.panels):
            found, counts = _panel_shards(source, panel, segment, masks, repeats, folder, f"{index:03d}-panel{number}")
            shards += found
            panels.append(
                {
                    "name": panel.path.name,
                    "samples": list(panel.samples),
                    "copies": panel.copies,
                    **vars(counts),
                    "left_out": dict(counts.left_out),
                }
            )
        facts.append(
            {
                "name": source.path.name,
                "copies": source.copies,
                "held_out": list(source.held_out),
                "held_out_tail": source.held_out_tail,
                "soft_mask": source.soft_mask,
                "bases": counter.bases,
                "repeat_bases": counter.repeat_bases,
                "panels": panels,
            }
        )
        if on_source:
            on_source(index + 1, len(sources))
    write_manifest(folder, shards, {"segment": segment, "repeats": repeats, "sources": facts})
    return shards


def _panel_shards(
    source: Source, panel: Panel, segment: int, masks: Path | None, repeats: str, folder: Path, label: str
) -> tuple[list[ShardEntry], PanelCounts]:
    counts = PanelCounts()
    name = f"{source.path.name} {panel.path.name}"
    with ReferenceGenome.open(source.path) as reference:
        found = haplotype_segments(source, panel, stretches(source, masks, SHORTEST), segment, reference, counts)
        kept = (without_repeats(s) for s in found) if repeats == "drop" else found
        return write_shards((s for s in kept if s.bases.size >= SHORTEST), folder, name, panel.copies, label), counts


class _Counter:
    """Counts the bases of the stretches that pass through, and how many of them are lower case."""

    def __init__(self, source: Iterable[Stretch]) -> None:
        self._source, self.bases, self.repeat_bases = source, 0, 0

    def __iter__(self) -> Iterator[Stretch]:
        for stretch in self._source:
            self.bases += stretch.bases.size
            self.repeat_bases += int(is_repeat(stretch.bases).sum())
            yield stretch


def _cut(usable: Iterable[Stretch], segment: int, repeats: str) -> Iterator[Stretch]:
    for stretch in usable:
        yield from segments(without_repeats(stretch) if repeats == "drop" else stretch, segment)
