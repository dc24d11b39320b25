"""P(base | both flanks) of the scoring marginal on held-out bases: nats per base, beside the baselines, by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dnagrinder.evaluation.sites import Bases
from dnagrinder.evaluation.statistics import mean
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import VIEWS, ScoringParameters
from dnagrinder.scoring.snv import Site, site_log_probs, supported_views

MODEL = "model"
GC_NAMES = ("low G+C", "middle G+C", "high G+C")
Values = NDArray[np.float64]


def base_log_probs(
    engine: Engine,
    tokenizer: DnaTokenizer,
    reference: ReferenceGenome,
    sites: Sequence[Site],
    parameters: ScoringParameters,
) -> Values:
    """(n, 4) natural logs of P(A, C, G, T | both flanks): mean over views and strands, normalised."""
    rows = site_log_probs(engine, tokenizer, reference, sites, parameters)
    return normalised(np.stack([row.mean(axis=0) for row in rows]))


def normalised(log_means: Values) -> Values:
    """Logs over the last axis shifted so that the probabilities add up to one."""
    result: Values = log_means - np.log(np.exp(log_means).sum(axis=-1, keepdims=True))
    return result


def losses(log_probs: Values, truth: NDArray[np.int64]) -> Values:
    """(n,) -log P(reference base) in nats."""
    result: Values = -log_probs[np.arange(truth.size), truth]
    return result


def groups(bases: Bases, tracks: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Which bases belong to each group: all, each track (``tracks``: (n,) names), repeats where known, G+C tertiles.

    The tertiles are those of the bases themselves. Groups without any base are left out.
    """
    named = np.array(tracks)
    found = {"all": np.ones(named.size, dtype=bool)}
    found |= {name: named == name for name in dict.fromkeys(tracks)}
    found |= {"inside repeats": bases.repeat == 1, "outside repeats": bases.repeat == 0}
    third = np.searchsorted(np.quantile(bases.gc, [1 / 3, 2 / 3]), bases.gc)
    found |= {name: third == number for number, name in enumerate(GC_NAMES)}
    return {name: chosen for name, chosen in found.items() if chosen.any()}


def compare(log_probs: Mapping[str, Values], bases: Bases, tracks: Sequence[str], seed: int) -> dict[str, dict[str, Any]]:
    """For each group its number of bases and for every predictor nats per base, and how much ``model`` differs from it.

    ``difference`` is the predictor's loss taken from the model's on the same bases: below 0 the model is better.
    """
    nats = {name: losses(values, bases.truth) for name, values in log_probs.items()}
    blocks = bases.blocks
    result = {}
    for group, chosen in groups(bases, tracks).items():
        rows: dict[str, Any] = {}
        for name, values in nats.items():
            rows[name] = {"nats": asdict(mean(values[chosen], blocks[chosen], seed))}
            if name != MODEL:
                rows[name]["difference"] = asdict(mean((nats[MODEL] - values)[chosen], blocks[chosen], seed))
        result[group] = {"bases": int(chosen.sum()), "predictors": rows}
    return result


def view_nats(
    engine: Engine,
    tokenizer: DnaTokenizer,
    reference: ReferenceGenome,
    bases: Bases,
    window: int,
) -> dict[str, Any]:
    """Nats a base of every view by itself (mean of both strands) and of the mean of the first 1, 2, ... views."""
    views = supported_views(tokenizer, len(VIEWS))
    rows = site_log_probs(engine, tokenizer, reference, bases.sites, ScoringParameters(window=window, views=len(VIEWS)))
    complete = [number for number, row in enumerate(rows) if len(row) == 2 * len(views)]
    strands = np.stack([rows[number].reshape(2, len(views), 4) for number in complete])  # (sites, strands, views, 4)
    truth = bases.truth[complete]

    def nats(means: Values) -> float:
        return float(losses(normalised(means), truth).mean())

    return {
        "by_view": {f"{length}:{slot}": nats(strands[:, :, view].mean(axis=1)) for view, (length, slot) in enumerate(views)},
        "by_number_of_views": {str(n): nats(strands[:, :, :n].mean(axis=(1, 2))) for n in range(1, len(views) + 1)},
        "bases": len(complete),
    }
