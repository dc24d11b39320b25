"""What a checkpoint is worth: cross-entropy of the scoring quantity and masked-token accuracy on held-out human bases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.scoring.packing import Engine, ModelInput
from dnagrinder.scoring.parameters import VIEWS, ScoringParameters
from dnagrinder.scoring.snv import Site, site_log_probs, supported_views
from dnagrinder.training.corpus import Corpus, parse_interval
from dnagrinder.training.markov import CODE, MarkovModel
from dnagrinder.training.masking import IGNORED, Masking, mask_sequence
from dnagrinder.training.run_file import Evaluation

MARKOV_ORDERS = (0, 5, 11)
CONTEXT = max(MARKOV_ORDERS)
TOKEN_WINDOWS = 200  # windows for the masked-token accuracy
TOKEN_WINDOW_TOKENS, TOKEN_WINDOW_BASES = 128, 1024  # 1,024 bases give more than 128 tokens
BOOTSTRAP = 1000
VIEW_STRIDE = 4  # views are compared on every fourth base: six views cost six times one


def held_out_sites(reference: ReferenceGenome, evaluation: Evaluation) -> list[Site]:
    """Random known bases of the held-out intervals, sorted, without repeats, with known bases to their left."""
    generator = np.random.default_rng(evaluation.seed)
    intervals = [parse_interval(text) for text in evaluation.intervals]
    sizes = np.array([end - start for _, start, end in intervals], dtype=float)
    sites: set[tuple[str, int]] = set()
    while len(sites) < evaluation.bases:
        contig, start, end = intervals[generator.choice(len(intervals), p=sizes / sizes.sum())]
        position = int(generator.integers(start + CONTEXT, end))
        if "N" not in reference.fetch(contig, position - CONTEXT, position + 1):
            sites.add((contig, position))
    return [Site(contig, start) for contig, start in sorted(sites)]


def scoring_cross_entropy(
    engine: Engine,
    tokenizer: DnaTokenizer,
    reference: ReferenceGenome,
    sites: Sequence[Site],
    parameters: ScoringParameters,
) -> dict[str, Any]:
    """Mean -log P(reference base | both flanks) in nats, with a 95 % bootstrap interval over the bases."""
    rows = site_log_probs(engine, tokenizer, reference, sites, parameters)
    truth = _reference_bases(reference, sites)
    losses = np.array([-_normalised(row.mean(axis=0))[base] for row, base in zip(rows, truth, strict=True)])
    generator = np.random.default_rng(0)
    draws = losses[generator.integers(0, losses.size, (BOOTSTRAP, losses.size))].mean(axis=1)
    return {
        "model": float(losses.mean()),
        "model_95": [float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))],
        "bases": len(sites),
    }


def view_cross_entropies(
    engine: Engine, tokenizer: DnaTokenizer, reference: ReferenceGenome, sites: Sequence[Site], window: int
) -> dict[str, Any]:
    """Nats a base of every view by itself (mean of both strands) and of the mean of the first 1, 2, ... views."""
    views = supported_views(tokenizer, len(VIEWS))
    rows = site_log_probs(engine, tokenizer, reference, sites, ScoringParameters(window=window, views=len(VIEWS)))
    truth = _reference_bases(reference, sites)
    pairs = [(row, base) for row, base in zip(rows, truth, strict=True) if len(row) == 2 * len(views)]
    strands = np.stack([row.reshape(2, len(views), 4) for row, _ in pairs])  # (sites, strands, views, 4)
    bases = np.array([base for _, base in pairs])

    def nats(means: NDArray[np.float64]) -> float:
        return float(-np.mean(_normalised(means)[np.arange(bases.size), bases]))

    return {
        "by_view": {f"{length}:{slot}": nats(strands[:, :, view].mean(axis=1)) for view, (length, slot) in enumerate(views)},
        "by_number_of_views": {str(n): nats(strands[:, :, :n].mean(axis=(1, 2))) for n in range(1, len(views) + 1)},
        "bases": int(bases.size),
    }


def _reference_bases(reference: ReferenceGenome, sites: Sequence[Site]) -> list[int]:
    return ["ACGT".index(reference.fetch(site.contig, site.start, site.start + 1)) for site in sites]


def _normalised(log_means: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = log_means - np.log(np.exp(log_means).sum(axis=-1, keepdims=True))
    return result


def markov_cross_entropies(
    stretches: Sequence[NDArray[np.uint8]], reference: ReferenceGenome, sites: Sequence[Site]
) -> dict[str, float]:
    """Nats a base of the uniform distribution and of each Markov order, trained on ``stretches``, on the same bases."""
    text = [reference.fetch(site.contig, site.start - CONTEXT, site.start + 1) for site in sites]
    codes = np.stack([CODE[np.frombuffer(t.encode("ascii"), dtype=np.uint8)] for t in text])  # (sites, CONTEXT + 1)
    result = {"uniform": float(np.log(4))}
    for order in MARKOV_ORDERS:
        probabilities = MarkovModel(stretches, order).probabilities(codes[:, CONTEXT - order : CONTEXT])
        result[f"order{order}"] = float(-np.log(probabilities[np.arange(len(sites)), codes[:, -1]]).mean())
    return result


def masked_token_metrics(
    engine: Engine, tokenizer: DnaTokenizer, window: Callable[[np.random.Generator], str], tokens: int
) -> dict[str, float]:
    """Accuracy and nats a token of the paper's objective (15 %, 80/10/10) on windows that ``window`` draws."""
    inputs, targets = [], []
    for index in range(TOKEN_WINDOWS):
        generator = np.random.default_rng([0, index])
        example = mask_sequence(window(generator), tokens, tokenizer, Masking(0.15), generator)
        asked = np.flatnonzero(example.labels != IGNORED)
        vocabulary = np.tile(np.arange(tokenizer.vocabulary), (asked.size, 1))
        inputs.append(ModelInput(example.input_ids, tuple(asked.tolist()), vocabulary))
        targets.append(example.labels[asked])
    hits, nats, count = 0, 0.0, 0

    def consume(index: int, log_probs: torch.Tensor) -> None:
        nonlocal hits, nats, count
        target = torch.from_numpy(targets[index])
        hits += int((log_probs.argmax(-1) == target).sum())
        nats -= float(log_probs.gather(1, target[:, None]).double().sum())
        count += target.numel()

    engine.log_probs(inputs, consume)
    return {"masked_token_accuracy": hits / count, "masked_token_nats": nats / count, "masked_tokens": count}


def evaluate_checkpoint(
    engine: Engine,
    tokenizer: DnaTokenizer,
    reference: ReferenceGenome,
    corpus: Corpus,
    evaluation: Evaluation,
    parameters: ScoringParameters,
) -> dict[str, Any]:
    """All metrics of a card. The Markov models are trained on the corpus's stretches of the evaluated FASTA's species.

    Sources whose file lies in the same folder as the evaluated FASTA count as the same species.
    """
    folder = evaluation.fasta.parent.name
    stretches = [stretch.bases for stretch in corpus.stretches if stretch.folder == folder]
    sites = held_out_sites(reference, evaluation)
    intervals = [parse_interval(text) for text in evaluation.intervals]

    def window(generator: np.random.Generator) -> str:
        contig, start, end = intervals[int(generator.integers(len(intervals)))]
        while True:
            first = int(generator.integers(start, end - TOKEN_WINDOW_BASES))
            sequence = reference.fetch(contig, first, first + TOKEN_WINDOW_BASES)
            if "N" not in sequence:
                return sequence

    return {
        "scoring_cross_entropy_nats": {
            **scoring_cross_entropy(engine, tokenizer, reference, sites, parameters),
            **markov_cross_entropies(stretches, reference, sites),
        },
        "view_cross_entropy_nats": view_cross_entropies(
            engine, tokenizer, reference, sites[::VIEW_STRIDE], parameters.window
        ),
        **masked_token_metrics(engine, tokenizer, window, TOKEN_WINDOW_TOKENS),
    }
