"""The ``evaluation`` part of a run file: on which held-out sequence a checkpoint is measured, and how much of it.

    evaluation:
      bases: 4000                      # everything else that is drawn follows from it
      seed: 1
      tracks:
        - {name: chr22, fasta: grch37/chr22.fa.gz, intervals: ["22:46174000-51304566"], repeats: grch37/chr22.fa.gz}
      lengths: [256, 1024, 24000]      # bases of input over which the loss is followed
      reference_length: 1024           # the length of training, with which the others are compared
      zero_shot: {fasta: grch37/chr20.fa.gz, vcf: grch37/sites.vcf.gz, interval: "20:1000000-2000000"}

Paths are relative to the data folder; intervals are ``contig:start-end``, 0-based half-open.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dnagrinder.errors import ConfigError
from dnagrinder.training.corpus.sources import parse_interval
from dnagrinder.training.mapping import built

SHORTEST_INTERVAL = 2000  # bases of a held-out interval; whole windows are drawn from it
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16_000, 24_000, 48_000, 96_000, 120_000)
SHORTEST_LENGTH = 32
LEAST_BASES = 8
FILES = {"fasta": "FASTA", "repeats": "repeats", "vcf": "VCF"}  # keys that name files, and what they hold


@dataclass(frozen=True)
class Track:
    """Held-out sequence of one FASTA.

    Attributes:
        name: what outputs call it.
        fasta: indexed FASTA.
        intervals: held-out intervals.
        repeats: BED of repeats, or a FASTA of the same coordinates with a soft mask (may be ``fasta`` itself); None where
            repeats are not known.
    """

    name: str
    fasta: Path
    intervals: tuple[str, ...]
    repeats: Path | None = None

    def __post_init__(self) -> None:
        problems = [] if self.intervals else ["no interval"]
        for text in self.intervals:
            problems += _interval_problems(text)
        if problems:
            raise ConfigError(f"track {self.name}", problems)

    @property
    def places(self) -> list[tuple[str, int, int]]:
        """The intervals as (contig, start, end)."""
        return [parse_interval(text) for text in self.intervals]


@dataclass(frozen=True)
class ZeroShot:
    """Where known variants tell bases that vary from bases that do not.

    Attributes:
        fasta: indexed FASTA.
        vcf: sites with INFO/AF, complete over ``interval``.
        interval: held-out interval that the VCF covers.
        common: least frequency of a common ALT.
    """

    fasta: Path
    vcf: Path
    interval: str
    common: float = 0.05

    def __post_init__(self) -> None:
        problems = _interval_problems(self.interval)
        if not 0 < self.common < 1:
            problems.append(f"common must lie between 0 and 1, found {self.common}")
        if problems:
            raise ConfigError("zero_shot", problems)

    @property
    def place(self) -> tuple[str, int, int]:
        """The interval as (contig, start, end)."""
        return parse_interval(self.interval)


@dataclass(frozen=True)
class EvaluationPlan:
    """What ``dnagrinder evaluate`` measures.

    Attributes:
        tracks: held-out sequence; every track gives an equal share of the bases, the first the loci of the lengths.
        bases: held-out bases that are predicted from their flanks; the size of every other part follows from it.
        seed: of all draws.
        lengths: input lengths over which the loss is followed, rising.
        reference_length: the one among them that the others are compared with.
        zero_shot: known variants; None leaves that part out.
    """

    tracks: tuple[Track, ...]
    bases: int = 4000
    seed: int = 1
    lengths: tuple[int, ...] = LENGTHS
    reference_length: int = 1024
    zero_shot: ZeroShot | None = None

    def __post_init__(self) -> None:
        problems = []
        names = [track.name for track in self.tracks]
        if not names or len(set(names)) < len(names):
            problems.append(f"tracks need different names, found {', '.join(names) or 'none'}")
        if self.bases < LEAST_BASES * len(names):
            problems.append(f"bases must be at least {LEAST_BASES} for each track, found {self.bases}")
        if self.seed < 0:
            problems.append(f"seed must not be negative, found {self.seed}")
        if list(self.lengths) != sorted(set(self.lengths)) or min(self.lengths, default=0) < SHORTEST_LENGTH:
            problems.append(f"lengths must rise from at least {SHORTEST_LENGTH}, found {list(self.lengths)}")
        elif self.reference_length not in self.lengths:
            problems.append(f"reference_length {self.reference_length} is not one of the lengths")
        elif names and all(end - start < self.lengths[-1] for _, start, end in self.tracks[0].places):
            longest = f"the longest of the lengths, {self.lengths[-1]:,} bases"
            problems.append(f"no interval is as long as {longest}, on the first track, where they are followed")
        if problems:
            raise ConfigError("evaluation", problems)

    @property
    def held_out(self) -> list[str]:
        """FASTA name and interval of everything that is drawn from, without repeats, in order."""
        named = [f"{track.fasta.name} {text}" for track in self.tracks for text in track.intervals]
        if self.zero_shot:
            named.append(f"{self.zero_shot.fasta.name} {self.zero_shot.interval}")
        return list(dict.fromkeys(named))

    def with_bases(self, bases: int | None) -> EvaluationPlan:
        """The same plan over another number of bases; None changes nothing."""
        return self if bases is None else replace(self, bases=bases)


def parse_evaluation(document: Any, data: Path | None) -> tuple[EvaluationPlan | None, list[str]]:
    """(plan, problems) of a run file's ``evaluation`` mapping; the plan is None where there is any problem.

    Paths are relative to ``data``, where the files must exist; without it they are left as they stand.
    """
    if not isinstance(document, dict) or not isinstance(document.get("tracks"), list):
        return None, ["evaluation: expected a mapping with a list called tracks"]
    problems: list[str] = []
    tracks = []
    for number, entry in enumerate(document["tracks"], start=1):
        where = f"evaluation track {number}"
        tracks.append(built(Track, _with_paths(entry, data, where, problems), where, problems))
    zero_shot = document.get("zero_shot")
    if zero_shot is not None:
        where = "evaluation zero_shot"
        zero_shot = built(ZeroShot, _with_paths(zero_shot, data, where, problems), where, problems)
    values = {**document, "tracks": [track for track in tracks if track], "zero_shot": zero_shot}
    plan = built(EvaluationPlan, values, "evaluation", problems)
    return (None if problems else plan), problems


def _with_paths(values: Any, data: Path | None, where: str, problems: list[str]) -> Any:
    """The mapping with its file names as paths; those that are missing go into ``problems``."""
    if not isinstance(values, dict):
        return values
    paths = {key: (data or Path()) / str(values[key]) for key in FILES if values.get(key) is not None}
    if data is not None:
        problems += [f"{where}: {FILES[key]} {path} is missing" for key, path in paths.items() if not path.is_file()]
    return {**values, **paths}


def _interval_problems(text: str) -> list[str]:
    try:
        _, start, end = parse_interval(text)
    except ConfigError as error:
        return [str(error)]
    return [f"{text} is shorter than {SHORTEST_INTERVAL:,} bases"] if end - start < SHORTEST_INTERVAL else []
