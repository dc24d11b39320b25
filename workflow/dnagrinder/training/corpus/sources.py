"""What a corpus is made of: FASTA files, the stretches held out of them, and panels of phased genotypes.

Coordinates are 0-based half-open. The ``corpus`` part of a run file:

    segment: 12200                       # bases of a segment
    repeats: keep                        # keep | downweight | drop, by the soft mask
    held_out_tail: 0.1                   # last share of every contig, never trained on
    sources:
      - path: grch37/chr20.fa.gz
        copies: 1.0                      # visits of every segment in an epoch; 0.25: of a quarter of them
        held_out: ["20:999999-4000000", "17"]   # intervals or whole contigs
        soft_mask: windowmasker          # own (the FASTA's lower case) or windowmasker (a BED that a rule makes)
        panels: [{path: calls.vcf.gz, samples: [HG00096], copies: 0.5}]
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnagrinder.errors import ConfigError, DnaGrinderError, InputError
from dnagrinder.genome.reference import ReferenceGenome

REPEATS = ("keep", "downweight", "drop")
SOFT_MASKS = ("own", "windowmasker")
SHORTEST_SEGMENT = 2_000  # bases
LONGEST_N_RUN = 10  # unknown bases that a stretch may hold in a row; longer runs end it


@dataclass(frozen=True)
class Panel:
    """Phased genotypes on a source, for haplotype augmentation.

    Attributes:
        path: VCF, bgzip with index.
        samples: the samples used; empty for all.
        copies: visits of every distinct haplotype in an epoch.
    """

    path: Path
    samples: tuple[str, ...] = ()
    copies: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.copies < math.inf:
            raise ConfigError(f"corpus: copies of the panel {self.path.name} must be above 0, found {self.copies}")


@dataclass(frozen=True)
class Source:
    """One FASTA of the corpus.

    Attributes:
        path: FASTA file, indexed; in a run file the name may be a pattern (``species/*.fa.gz``) for many like sources.
        copies: visits of every segment in an epoch; 0.25 visits a quarter of them, drawn anew each epoch.
        held_out: contigs, or intervals "contig:start-end" (0-based half-open), never trained on.
        held_out_tail: share at the end of every contig, never trained on.
        soft_mask: where lower case comes from, one of SOFT_MASKS.
        panels: phased genotypes called against this FASTA.
    """

    path: Path
    copies: float = 1.0
    held_out: tuple[str, ...] = ()
    held_out_tail: float = 0.1
    soft_mask: str = "own"
    panels: tuple[Panel, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.copies < math.inf:
            raise ConfigError(f"corpus: copies of {self.path.name} must be above 0, found {self.copies}")
        if not 0 <= self.held_out_tail < 1:
            raise ConfigError(f"corpus: held_out_tail of {self.path.name} must lie in [0, 1), found {self.held_out_tail}")
        if self.soft_mask not in SOFT_MASKS:
            raise ConfigError(
                f"corpus: soft_mask of {self.path.name} is one of {', '.join(SOFT_MASKS)}, found {self.soft_mask!r}"
            )
        for text in self.held_out:
            if ":" in text:
                parse_interval(text)

    def is_held_out(self, contig: str, length: int) -> NDArray[np.bool_]:
        """(length,) bool: the bases of a contig that training must not see."""
        held_out = np.zeros(length, dtype=bool)
        held_out[length - round(length * self.held_out_tail) :] = True
        for text in self.held_out:
            if text == contig:
                held_out[:] = True
            elif ":" in text:
                name, start, end = parse_interval(text)
                if name == contig:
                    held_out[start:end] = True
        return held_out


@dataclass(frozen=True)
class Stretch:
    """A run of bases that may be trained on; ``bases`` is (length,) uint8, ASCII of ACGTN and, where masked, acgtn."""

    contig: str
    start: int
    bases: NDArray[np.uint8] = field(repr=False)

    @property
    def end(self) -> int:
        """End on the contig, exclusive."""
        return self.start + self.bases.size


def stretches(source: Source, masks: Path | None = None, shortest: int = 1) -> Iterator[Stretch]:
    """The bases of a source outside what is held out, cut at runs of more than LONGEST_N_RUN unknown bases.

    Args:
        masks: folder of repeat intervals, ``<FASTA name>.bed``, read where the source's ``soft_mask`` is "windowmasker".
        shortest: shorter stretches are left out.

    Raises:
        InputError: the FASTA or its repeat intervals cannot be read, or a held-out interval names a contig it lacks or lies
            behind its end.
    """
    repeats = _repeat_intervals(source, masks)
    with ReferenceGenome.open(source.path) as fasta:
        lengths = {contig.name: contig.length for contig in fasta.contigs}
        for text in source.held_out:
            contig, start, _ = parse_interval(text) if ":" in text else (text, 0, 0)
            if contig not in lengths:
                names = ", ".join(list(lengths)[:5])
                raise InputError(f"corpus: held-out {text!r} names no contig of {source.path}; it holds {names}")
            if start >= lengths[contig]:
                raise InputError(
                    f"corpus: held-out {text!r} holds nothing out: {contig} of {source.path} has {lengths[contig]:,} bases"
                )
        for contig, length in lengths.items():
            bases = known_bases(fasta.fetch_masked(contig, 0, length))
            for start, end in repeats.get(contig, ()):
                bases[start:end] |= 0x20  # lower case
            usable = ~_long_runs(bases & 0xDF == ord("N")) & ~source.is_held_out(contig, bases.size)
            edges = np.flatnonzero(np.diff(usable.astype(np.int8), prepend=0, append=0))
            for start, end in zip(edges[0::2].tolist(), edges[1::2].tolist(), strict=True):
                if end - start >= shortest:
                    yield Stretch(contig, start, bases[start:end].copy())


def known_bases(text: str) -> NDArray[np.uint8]:
    """(length,) uint8 ASCII with every letter outside ACGT turned into N, case kept."""
    return _KNOWN[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]


def parse_interval(text: str) -> tuple[str, int, int]:
    """``contig:start-end``, 0-based half-open, into its parts; the contig may hold colons."""
    contig, _, span = text.rpartition(":")
    start, _, end = span.partition("-")
    if not contig or not start.isdigit() or not end.isdigit() or int(start) >= int(end):
        raise ConfigError(f"interval {text!r} is not contig:start-end (0-based half-open)")
    return contig, int(start), int(end)


def parse_sources(document: Any, data: Path | None) -> tuple[list[Source], list[str]]:
    """(sources, problems) of a run file's ``corpus`` mapping; paths are relative to ``data``, where the files must exist."""
    if not isinstance(document, dict) or not isinstance(document.get("sources"), list):
        return [], ["corpus: expected a mapping with a list called sources"]
    problems = [
        f"corpus: unknown key {key}"
        for key in sorted(map(str, set(document) - {"held_out_tail", "repeats", "segment", "sources"}))
    ]
    if document.get("repeats", "keep") not in REPEATS:
        problems.append(f"corpus: repeats is one of {', '.join(REPEATS)}, found {document['repeats']!r}")
    segment = document.get("segment", 12_200)
    if not isinstance(segment, int) or segment < SHORTEST_SEGMENT:
        problems.append(f"corpus: segment is a number of bases, at least {SHORTEST_SEGMENT:,}, found {segment!r}")
    allowed = {f.name for f in fields(Source)} - {"held_out_tail"}
    sources: list[Source] = []
    for index, entry in enumerate(document["sources"], start=1):
        where = f"corpus source {index}"
        if not isinstance(entry, dict) or "path" not in entry or set(entry) - allowed:
            problems.append(f"{where}: expected the keys {', '.join(sorted(allowed))}, found {entry!r}")
            continue
        try:
            sources += [
                Source(
                    path=path,
                    copies=float(entry.get("copies", 1.0)),
                    held_out=_texts(entry, "held_out"),
                    held_out_tail=float(document.get("held_out_tail", 0.1)),
                    soft_mask=entry.get("soft_mask", "own"),
                    panels=tuple(_panel(panel, data) for panel in entry.get("panels", ())),
                )
                for path in _files(data, str(entry["path"]), "FASTA")
            ]
        except (DnaGrinderError, TypeError, ValueError) as error:
            problems.append(f"{where}: {error}")
    names = [source.path.name for source in sources if not (data is None and _is_pattern(source.path.name))]
    problems += [f"corpus: two sources are called {name}" for name in sorted({n for n in names if names.count(n) > 1})]
    return sources, problems


def _panel(entry: Any, data: Path | None) -> Panel:
    if not isinstance(entry, dict) or "path" not in entry or set(entry) - {"path", "samples", "copies"}:
        raise ConfigError(f"a panel has the keys path, samples and copies, found {entry!r}")
    (path,) = _files(data, str(entry["path"]), "VCF")
    return Panel(path, _texts(entry, "samples"), float(entry.get("copies", 1.0)))


def _texts(entry: dict[str, Any], key: str) -> tuple[str, ...]:
    """The list of names under a key; a text alone is refused, for its letters would be taken for names."""
    values = entry.get(key, [])
    if not isinstance(values, list):
        raise ConfigError(f"{key} is a list, found {values!r}")
    return tuple(str(value) for value in values)


def _files(data: Path | None, name: str, kind: str) -> list[Path]:
    """The file of that name, or those that match it; where no data folder is given, the name as it stands."""
    if data is None:
        return [Path(name)]
    if kind == "FASTA" and _is_pattern(name):
        if Path(name).is_absolute():
            raise ConfigError(f"the pattern {name} must start from the data folder, not from /")
        found = sorted(path for path in data.glob(name) if path.is_file())
        if not found:
            raise ConfigError(f"no {kind} matches {data / name}")
        return found
    if not (data / name).is_file():
        raise ConfigError(f"{kind} {data / name} is missing")
    return [data / name]


def _is_pattern(name: str) -> bool:
    return bool(set(name) & set("*?["))


def _repeat_intervals(source: Source, masks: Path | None) -> dict[str, list[tuple[int, int]]]:
    if source.soft_mask != "windowmasker" or masks is None:
        return {}
    path = masks / f"{source.path.name}.bed"
    intervals: dict[str, list[tuple[int, int]]] = {}
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            contig, start, end = line.split("\t")[:3]
            intervals.setdefault(contig, []).append((int(start), int(end)))
    except (OSError, ValueError) as error:
        raise InputError(
            f"corpus: repeats of {source.path.name} cannot be read from {path}: {error}; make them with rule mask_repeats"
        ) from error
    return intervals


def _long_runs(unknown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The members of runs longer than LONGEST_N_RUN."""
    edges = np.flatnonzero(np.diff(unknown.astype(np.int8), prepend=0, append=0))
    starts, ends = edges[0::2], edges[1::2]
    long = ends - starts > LONGEST_N_RUN
    marks = np.zeros(unknown.size + 1, dtype=np.int8)
    marks[starts[long]] = 1
    marks[ends[long]] = -1
    result: NDArray[np.bool_] = np.cumsum(marks[:-1], dtype=np.int8).astype(bool)
    return result


_KNOWN = np.full(256, ord("N"), dtype=np.uint8)
for _letter in b"ACGTacgt":
    _KNOWN[_letter] = _letter
_KNOWN[ord("a") : ord("z") + 1][_KNOWN[ord("a") : ord("z") + 1] == ord("N")] = ord("n")
