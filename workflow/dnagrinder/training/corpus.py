"""The training corpus: intervals of real genomes, what is held out of them, and deterministic random windows.

Coordinates are 0-based half-open. The ``corpus`` part of a run file names FASTA files with weights and held-out intervals:

    held_out_tail: 0.1                  # last share of every contig, never trained on
    sources:
      - {path: grch37/chr20.fa.gz, weight: 3.0, held_out: ["20:999999-4000000"]}
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pysam
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError, InputError

MINIMUM_INTERVAL = 20_000  # bases; shorter stretches between held-out parts and N runs are not worth a window


@dataclass(frozen=True)
class Source:
    """One FASTA of the corpus.

    Attributes:
        path: FASTA file, indexed.
        weight: relative share of the training windows.
        held_out: intervals "contig:start-end", 0-based half-open, never trained on.
        held_out_tail: share at the end of every contig, never trained on.
    """

    path: Path
    weight: float
    held_out: tuple[str, ...] = ()
    held_out_tail: float = 0.1

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise ConfigError(f"corpus: weight of {self.path.name} must be above 0, found {self.weight}")
        if not 0 <= self.held_out_tail < 1:
            raise ConfigError(f"corpus: held_out_tail of {self.path.name} must lie in [0, 1), found {self.held_out_tail}")
        for text in self.held_out:
            parse_interval(text)


@dataclass(frozen=True)
class Stretch:
    """A run of known bases that may be trained on; ``bases`` is (length,) uint8 ASCII, upper case.

    ``folder`` and ``source`` are the names of the FASTA's folder and of the FASTA.
    """

    folder: str
    source: str
    contig: str
    start: int
    bases: NDArray[np.uint8] = field(repr=False)


@dataclass(frozen=True)
class Corpus:
    """All stretches with the probability of drawing a window from each."""

    stretches: tuple[Stretch, ...]
    probabilities: NDArray[np.float64]  # (stretches,), sums to 1

    @property
    def bases(self) -> int:
        """Bases that may be trained on."""
        return sum(stretch.bases.size for stretch in self.stretches)

    @cached_property
    def digest(self) -> str:
        """sha256 over the stretches (source, contig, start, bases) and their probabilities."""
        value = hashlib.sha256()
        for stretch, probability in zip(self.stretches, self.probabilities.tolist(), strict=True):
            value.update(f"{stretch.source}\t{stretch.contig}\t{stretch.start}\t{probability!r}\n".encode())
            value.update(stretch.bases.tobytes())
        return value.hexdigest()

    def window(self, length: int, generator: np.random.Generator) -> str:
        """A random window of ``length`` bases, on either strand with equal chance; upper case, N possible.

        Raises:
            ConfigError: no stretch is that long.
        """
        for _ in range(1000):
            stretch = self.stretches[generator.choice(len(self.stretches), p=self.probabilities)]
            if stretch.bases.size >= length:
                start = int(generator.integers(0, stretch.bases.size - length + 1))
                bases = stretch.bases[start : start + length]
                return (COMPLEMENT[bases[::-1]] if generator.random() < 0.5 else bases).tobytes().decode("ascii")
        raise ConfigError(f"corpus: no stretch of known bases is {length} long; train on shorter windows")


def parse_sources(document: Any, data: Path) -> tuple[list[Source], list[str]]:
    """(sources, problems) of a run file's ``corpus`` mapping; FASTA paths are relative to ``data``."""
    if not isinstance(document, dict) or not isinstance(document.get("sources"), list):
        return [], ["corpus: expected a mapping with a list called sources"]
    problems = [f"corpus: unknown key {key}" for key in sorted(set(document) - {"held_out_tail", "sources"})]
    sources: list[Source] = []
    for index, entry in enumerate(document["sources"], start=1):
        if not isinstance(entry, dict) or "path" not in entry or set(entry) - {"path", "weight", "held_out"}:
            problems.append(f"corpus source {index}: expected the keys path, weight and held_out, found {entry!r}")
            continue
        fasta = data / entry["path"]
        if not fasta.is_file():
            problems.append(f"corpus source {index}: FASTA {fasta} is missing")
            continue
        held_out = tuple(entry.get("held_out", ()))
        try:
            tail = float(document.get("held_out_tail", 0.1))
            sources.append(Source(fasta, float(entry.get("weight", 1.0)), held_out, tail))
        except (ConfigError, ValueError) as error:
            problems.append(f"corpus source {index}: {error}")
    return sources, problems


def load_corpus(sources: Iterable[Source]) -> Corpus:
    """Read every source into memory (one byte a base) without what is held out and without runs of N.

    Within a source, stretches are drawn in proportion to their length; between sources, by weight.
    """
    stretches: list[Stretch] = []
    weights: list[float] = []
    for source in sources:
        own = list(_stretches(source))
        if not own:
            raise InputError(
                f"corpus: {source.path} has no stretch of {MINIMUM_INTERVAL:,} known bases outside what is held out"
            )
        total = sum(stretch.bases.size for stretch in own)
        stretches += own
        weights += [source.weight * stretch.bases.size / total for stretch in own]
    probabilities = np.array(weights)
    return Corpus(tuple(stretches), probabilities / probabilities.sum())


def tokenizer_splits(corpus: Corpus, *, splits: int, bases: int, seed: int) -> list[Callable[[], Iterator[str]]]:
    """Splits for ``bpe.train_bpe``: each yields ``bases`` bases in random 20-kb windows of the whole mixture.

    Every split holds all species, so that none of them owns the short merges.
    """

    def sequences(split: int) -> Iterator[str]:
        generator = np.random.default_rng([seed, split])
        for _ in range(bases // MINIMUM_INTERVAL):
            yield corpus.window(MINIMUM_INTERVAL, generator)

    return [partial(sequences, split) for split in range(splits)]


def parse_interval(text: str) -> tuple[str, int, int]:
    """``contig:start-end``, 0-based half-open, into its parts; the contig may hold colons."""
    contig, _, span = text.rpartition(":")
    start, _, end = span.partition("-")
    if not contig or not start.isdigit() or not end.isdigit() or int(start) >= int(end):
        raise ConfigError(f"interval {text!r} is not contig:start-end (0-based half-open)")
    return contig, int(start), int(end)


def _stretches(source: Source) -> Iterable[Stretch]:
    with pysam.FastaFile(str(source.path)) as fasta:
        for contig in fasta.references:
            length = fasta.get_reference_length(contig)
            bases = np.frombuffer(fasta.fetch(contig).upper().encode("ascii"), dtype=np.uint8)
            usable = bases != ord("N")
            usable[length - round(length * source.held_out_tail) :] = False
            for text in source.held_out:
                name, start, end = parse_interval(text)
                if name == contig:
                    usable[start:end] = False
            edges = np.flatnonzero(np.diff(usable.astype(np.int8), prepend=0, append=0))
            for start, end in zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True):
                if end - start >= MINIMUM_INTERVAL:
                    yield Stretch(source.path.parent.name, source.path.name, contig, start, bases[start:end].copy())


COMPLEMENT = np.arange(256, dtype=np.uint8)
for _a, _b in ("AT", "CG", "GC", "TA"):
    COMPLEMENT[ord(_a)] = ord(_b)
