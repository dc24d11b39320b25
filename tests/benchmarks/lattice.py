"""Lattice scoring beside the single mask, with `mini` on held-out bases of chromosome 20: cost, agreement, loss.

Places: tiles of the grid drawn at random from 20:1,000,000-4,000,000 (held out from training), all bases known. One thread,
default parameters. A spacing D takes D classes of sites a tile; `--classes` of them stand for all.

Cost: process CPU seconds a SNV and tokens a base where all bases are wanted, the kinds in turn, one value a tile. The single
mask is timed on 32 neighbouring bases; the embedding distances, which `score-variants` measures besides, are a kind of their
own. Model and reference are opened outside the clock. What `prescore` takes beside the model is timed with random numbers in
the model's place.

Agreement: all SNVs at the bases that lie in the first classes of every D, from end to end of each tile. Spearman and Pearson
correlation with the single mask's scores, distance in nats, cross-entropy of the reference base in nats (mean of both
strands, renormalised).
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from harness import judge, option_parser, record, shared_data, start
from numpy.typing import NDArray

from dnagrinder.evaluation.sites import draw_places
from dnagrinder.genome.variants import Allele
from dnagrinder.model.tokenizer import BASES
from dnagrinder.scoring.block import allele_pairs, embedding_distances
from dnagrinder.scoring.lattice import lattice_log_probs
from dnagrinder.scoring.packing import Engine, ModelInput
from dnagrinder.scoring.parameters import DEFAULT_LATTICE, LATTICES, TILE, ScoringParameters
from dnagrinder.scoring.prescore import BATCH, prescore
from dnagrinder.scoring.session import ScoringSession, open_session
from dnagrinder.scoring.snv import Site, site_log_probs
from dnagrinder.scoring.store.scores import ScoreStore

GENOME, PLACE = "grch37/chr20.fa.gz", ("20", 1_000_000, 4_000_000)
SINGLE, DISTANCES = "single mask", "embedding distances"
SETTING = "mini, chr20, default window"
GOAL = 0.98  # rank correlation


def draw_tiles(session: ScoringSession, count: int) -> list[int]:
    """First bases of different tiles of the grid whose bases, context included, are all known."""
    generator, found = np.random.default_rng(1), dict[int, None]()
    for contig, place, _ in draw_places(session.reference, [PLACE], 2 * TILE, generator):
        first = -(-place // TILE) * TILE
        if "N" not in session.reference.fetch(contig, first - TILE, first + 2 * TILE):
            found[first] = None
        if len(found) == count:
            break
    return list(found)


def timed(session: ScoringSession, work: Callable[[], object]) -> tuple[float, int]:
    """CPU seconds and tokens of the work."""
    tokens, started = session.engine.tokens, time.process_time()
    work()
    return time.process_time() - started, session.engine.tokens - tokens


def probabilities(session: ScoringSession, sites: list[Site], spacing: int) -> NDArray[np.float64]:
    """(sites, 4) mean log-probabilities over strands; they differ from normalised ones by a constant a site."""
    function = lattice_log_probs if spacing else site_log_probs
    parameters = ScoringParameters(lattice=spacing)
    rows = function(session.engine, session.checkpoint.tokenizer, session.reference, sites, parameters)
    return np.stack([table.mean(axis=0) for table in rows])


def measure_cost(session: ScoringSession, first: int, classes: int) -> dict[str, tuple[float, float]]:
    """CPU seconds a SNV and tokens a base of every kind in one tile."""
    middle, bases = first + TILE // 2, 32
    found = {}
    for spacing in LATTICES[1:]:
        sites = [Site("20", p) for p in range(first, first + TILE) if p % spacing < classes]
        seconds, tokens = timed(session, lambda sites=sites, spacing=spacing: probabilities(session, sites, spacing))
        found[f"D={spacing}"] = seconds / (3 * len(sites)), tokens / len(sites)
    sites = [Site("20", p) for p in range(middle, middle + bases)]
    seconds, tokens = timed(session, lambda: probabilities(session, sites, 0))
    found[SINGLE] = seconds / (3 * bases), tokens / bases
    alleles = [
        Allele("20", p, ref, BASES[BASES.index(ref) - 1])
        for p in range(middle, middle + bases)
        for ref in session.reference.fetch("20", p, p + 1)
    ]

    def distances() -> None:
        tokenizer, reference = session.checkpoint.tokenizer, session.reference
        pairs = [allele_pairs(tokenizer, reference, allele, ScoringParameters()) for allele in alleles]
        embedding_distances(session.engine, pairs)

    seconds, tokens = timed(session, distances)
    found[DISTANCES] = seconds / bases, 3 * tokens / bases
    return found


class RandomModel:
    """In the engine's place: answers at once, with random numbers."""

    tokens = 0

    def log_probs(self, sequences: Sequence[ModelInput], consume: Callable[[int, torch.Tensor], None]) -> None:
        """Random log-probabilities of every target."""
        for index, sequence in enumerate(sequences):
            consume(index, -torch.rand(sequence.targets.shape))

    def hidden(self, sequences: Sequence[ModelInput], _: object) -> None:
        """Nothing: lattice scoring asks for no hidden state."""
        assert not sequences


def measure_host(session: ScoringSession, tiles: list[int]) -> None:
    """CPU seconds a SNV of prescore without the model, and bytes a SNV of the store it leaves, one batch of tiles."""
    idle = replace(session, engine=cast(Engine, RandomModel()))
    batch = pd.DataFrame({"contig": "20", "start": tiles, "end": [first + BATCH * TILE for first in tiles]})
    seconds, sizes = [], []
    for row in range(len(tiles)):
        with tempfile.TemporaryDirectory() as name:
            store = ScoreStore(Path(name), session.provenance)
            started = time.process_time()
            snvs = prescore(idle, batch.iloc[[row]], store).snvs
            seconds.append((time.process_time() - started) / snvs)
            sizes.append(sum(path.stat().st_size for path in store.folder.iterdir()) / snvs)
    print(
        f"lattice {SETTING}: prescore's own {1e6 * np.median(seconds):.1f} CPU us a SNV, {np.median(sizes):.1f} bytes a SNV"
    )
    record("lattice", "D=32, without the model", SETTING, "CPU seconds a SNV", seconds)
    record("lattice", "D=32, without the model", SETTING, "bytes a SNV in the store", sizes)


def changes(log_probs: NDArray[np.float64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """(3 n,) log P(other) - log P(reference base) of the three other bases of each site."""
    differences = log_probs - log_probs[np.arange(truth.size), truth, np.newaxis]
    return differences[np.arange(4) != truth[:, np.newaxis]]


def cross_entropy(log_probs: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Mean -log P(reference base), nats."""
    normalised = log_probs - np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    return float(-normalised[np.arange(truth.size), truth].mean())


def ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rank of each value, 0-based; equal values take the order they came in."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable")


def main() -> None:
    """Measure cost on some tiles, agreement on more."""
    parser = option_parser(__doc__)
    parser.add_argument("--tiles", type=int, default=32, help="tiles whose scores are compared")
    parser.add_argument("--timed-tiles", type=int, default=5, help="tiles that are timed as well")
    parser.add_argument("--classes", type=int, default=8, help="classes of a tile that stand for all")
    arguments = start(parser)
    data = shared_data()
    if data is None:
        print("lattice: the real genome is absent (DNAGRINDER_DATA); nothing is measured")
        return
    with open_session(data / GENOME, "mini", ScoringParameters(), device="cpu") as session:
        tiles = draw_tiles(session, arguments.tiles)
        probabilities(session, [Site("20", tiles[0])], 32)  # warm-up
        costs: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for first in tiles[: arguments.timed_tiles]:
            for kind, cost in measure_cost(session, first, arguments.classes).items():
                costs[kind].append(cost)
        for kind, values in costs.items():
            seconds, tokens = ([value[column] for value in values] for column in (0, 1))
            print(
                f"lattice {SETTING}: {kind} {1e3 * np.median(seconds):.3f} CPU ms a SNV, {np.median(tokens):.1f} tokens, "
                f"{np.median([one for one, _ in costs[SINGLE]]) / np.median(seconds):.2f} x {SINGLE}",
                flush=True,
            )
            record("lattice", kind, SETTING, "CPU seconds a SNV", seconds)
            record("lattice", kind, SETTING, "tokens a base", tokens)
        measure_host(replace(session, parameters=ScoringParameters(lattice=DEFAULT_LATTICE)), tiles[:3])
        found: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        truths = []
        for first in tiles:
            text = session.reference.fetch("20", first, first + TILE)
            sites = [Site("20", first + p) for p in range(TILE) if p % max(LATTICES) < arguments.classes]
            truths.append(np.array([BASES.index(text[site.start - first]) for site in sites]))
            for spacing in LATTICES:
                found[spacing].append(probabilities(session, sites, spacing))
    single = [changes(table, truth) for table, truth in zip(found[0], truths, strict=True)]
    pooled = np.concatenate(single)
    print(f"lattice {SETTING}: {pooled.size} SNVs, standard deviation of the single mask's scores {pooled.std():.3f} nats")
    record("lattice", SINGLE, SETTING, "standard deviation of scores", [float(pooled.std())])
    for spacing in LATTICES:
        kind = f"D={spacing}" if spacing else SINGLE
        losses = [cross_entropy(table, truth) for table, truth in zip(found[spacing], truths, strict=True)]
        whole = cross_entropy(np.concatenate(found[spacing]), np.concatenate(truths))
        print(f"lattice {SETTING}: {kind} cross-entropy {whole:.4f} nats")
        record("lattice", kind, SETTING, "nats a base, tile by tile", losses)
        record("lattice", kind, SETTING, "nats a base", [whole])
        if not spacing:
            continue
        scores = [changes(table, truth) for table, truth in zip(found[spacing], truths, strict=True)]
        together = np.concatenate(scores)
        rank = float(np.corrcoef(ranks(together), ranks(pooled))[0, 1])
        linear = float(np.corrcoef(together, pooled)[0, 1])
        apart = np.abs(together - pooled)
        by_tile = [float(np.corrcoef(ranks(one), ranks(other))[0, 1]) for one, other in zip(scores, single, strict=True)]
        print(f"  Pearson {linear:.4f}; {np.median(apart):.4f} nats apart (median), {np.quantile(apart, 0.99):.4f} (99 %)")
        judge(f"{kind}, Spearman", rank, GOAL)
        record("lattice", kind, SETTING, "Spearman", [rank])
        record("lattice", kind, SETTING, "Spearman, tile by tile", by_tile)
        record("lattice", kind, SETTING, "Pearson", [linear])
        record("lattice", kind, SETTING, "nats apart", apart.tolist())
        record("lattice", kind, SETTING, "nats apart, 99th percentile", [float(np.quantile(apart, 0.99))])


if __name__ == "__main__":
    main()
