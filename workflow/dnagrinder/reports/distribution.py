"""How the scores of a whole run lie, in one small file: a sample's page sets its own beside the others and the common ones.

N pages that read N samples each would make N² readings; the file holds binned counts, and a page reads it alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dnagrinder.errors import InputError, InvariantError
from dnagrinder.genome.files import written_aside
from dnagrinder.reports.joining import common_provenance
from dnagrinder.reports.tables import SUMMARY, read_json, read_summary
from dnagrinder.scoring.parameters import context_digest
from dnagrinder.scoring.tables import ALLELE_COLUMNS, read_parquet, read_provenance

#: Width of a bin in nats: what a median read from counts may be wrong by.
BIN = 0.01
#: Alleles of at least this INFO/AF are called common.
COMMON_AF = 0.05
#: SNVs and all other alleles are scored by different methods and never pooled.
KINDS = ("snv", "other")


@dataclass(frozen=True)
class Binned:
    """Scores as counts: bin ``b`` holds the scores in [b, b + 1) · BIN.

    Attributes:
        bins: ascending, each once, int64.
        counts: above 0, int64.
    """

    bins: NDArray[np.int64]  # (n,)
    counts: NDArray[np.int64]  # (n,)

    @classmethod
    def of(cls, scores: NDArray[np.float64]) -> Binned:
        """The finite ones of ``scores``."""
        bins, counts = np.unique(np.floor(scores[np.isfinite(scores)] / BIN).astype(np.int64), return_counts=True)
        return cls(bins, counts.astype(np.int64))

    @classmethod
    def from_json(cls, content: Mapping[str, list[int]]) -> Binned:
        """What :meth:`as_json` gave."""
        return cls(np.array(content["bins"], dtype=np.int64), np.array(content["counts"], dtype=np.int64))

    def as_json(self) -> dict[str, list[int]]:
        """Plain lists."""
        return {"bins": self.bins.tolist(), "counts": self.counts.tolist()}

    @property
    def total(self) -> int:
        """Number of scores."""
        return int(self.counts.sum())

    @property
    def centres(self) -> NDArray[np.float64]:
        """Middle of each bin, nats."""
        return np.asarray((self.bins + 0.5) * BIN, dtype=np.float64)

    def plus(self, other: Binned, sign: int = 1) -> Binned:
        """Both together; with ``sign`` -1 these without those of ``other``. Raises InvariantError where it holds more."""
        bins, places = np.unique(np.concatenate([self.bins, other.bins]), return_inverse=True)
        counts = np.zeros(len(bins), dtype=np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, sign * other.counts]))
        if len(counts) and counts.min() < 0:
            raise InvariantError(
                "a sample has scores that the distribution of its cohort lacks; make the distribution again"
            )
        return Binned(bins[counts > 0], counts[counts > 0])

    def quantile(self, share: float) -> float | None:
        """Score below which ``share`` of them lie, to half a bin; None where there is none."""
        if not self.total:
            return None
        place = np.searchsorted(np.cumsum(self.counts), share * self.total)
        return float(self.centres[min(int(place), len(self.bins) - 1)])

    def share_up_to(self, score: float) -> float:
        """Share of the scores in the bin of ``score`` or below. Needs at least one score."""
        return float(self.counts[self.bins <= np.floor(score / BIN)].sum() / self.total)

    def chance_below(self, other: Binned) -> float:
        """Chance that one of these scores lies below one of ``other``, ties counted half. Needs scores on both sides."""
        before = np.concatenate([[0], np.cumsum(other.counts)])  # scores of other in the bins before
        at_or_before = before[np.searchsorted(other.bins, self.bins, side="right")]
        below = before[np.searchsorted(other.bins, self.bins, side="left")]
        wins = ((other.total - at_or_before) + 0.5 * (at_or_before - below)) * self.counts
        return float(wins.sum() / (self.total * other.total))


@dataclass(frozen=True)
class Distribution:
    """Scores of all samples of a run.

    Attributes:
        medians: sample -> kind -> median score, None where it has no score of the kind.
        scores: kind -> alleles of all samples, an allele as often as samples carry it.
        common: kind -> alleles of AF >= COMMON_AF, each once; None where the input states no AF.
    """

    medians: Mapping[str, Mapping[str, float | None]]
    scores: Mapping[str, Binned]
    common: Mapping[str, Binned] | None


def write_distribution(folders: Sequence[Path], destination: Path) -> None:
    """Write the distribution of the samples in ``folders`` (JSON).

    One sample's table is in memory at a time, and the common alleles of those before it.

    Raises:
        InputError: a table is missing or damaged, or samples were scored with different models or parameters.
    """
    tables = [folder / "scores.parquet" for folder in folders]
    provenance = common_provenance(tables)
    scores = {kind: Binned.of(np.empty(0)) for kind in KINDS}
    medians: dict[str, dict[str, float | None]] = {}
    states_af, seen = False, None
    for folder, path in zip(folders, tables, strict=True):
        table = read_parquet(path, [*ALLELE_COLUMNS, "kind", "score", "af"]).replace_schema_metadata(None)
        by_kind = split_kinds(table)
        medians[read_summary(folder)["sample"]] = {
            kind: float(np.median(values)) if len(values) else None for kind, values in by_kind.items()
        }
        scores = {kind: scores[kind].plus(Binned.of(by_kind[kind])) for kind in KINDS}
        states_af = states_af or table["af"].null_count < len(table)
        common = table.filter(pc.greater_equal(table["af"], COMMON_AF)).drop_columns(["af"])
        pooled = common if seen is None else pa.concat_tables([seen, common])
        seen = pooled.group_by(pooled.column_names, use_threads=False).aggregate([])
    common_kinds = split_kinds(seen) if states_af and seen is not None else None
    content = {
        "bin": BIN,
        "common_af": COMMON_AF,
        "medians": medians,
        "scores": {kind: scores[kind].as_json() for kind in KINDS},
        "common": {kind: Binned.of(values).as_json() for kind, values in common_kinds.items()} if common_kinds else None,
        "provenance": provenance,
    }
    with written_aside(destination) as aside:
        aside.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def read_distribution(path: Path, folder: Path) -> Distribution:
    """The distribution in ``path``, for the page of the sample in ``folder``.

    Raises:
        InputError: no distribution, one of other bins, models or parameters, or one without the sample.
    """
    content = read_json(path)
    if content.get("bin") != BIN or "medians" not in content:
        raise InputError(f"{path} is no distribution of this version; write it with: dnagrinder report distribution")
    if context_digest(content["provenance"]) != context_digest(read_provenance(folder / "scores.parquet")):
        raise InputError(f"{path} and {folder} were made with different models, references or parameters")
    sample = read_summary(folder)["sample"]
    if sample not in content["medians"]:
        raise InputError(f"{path} lacks the sample {sample} ({folder / SUMMARY}); make it of all samples of the run")
    kinds = {part: content[part] and {kind: Binned.from_json(content[part][kind]) for kind in KINDS} for part in _PARTS}
    return Distribution(content["medians"], kinds["scores"], kinds["common"])


def split_kinds(table: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Scores of the table's SNVs and of its other alleles, by KINDS."""
    is_snv = np.array(table["kind"].to_numpy() == "snv", dtype=bool)
    scores = table["score"].to_numpy()
    return {"snv": scores[is_snv], "other": scores[~is_snv]}


_PARTS = ("scores", "common")
