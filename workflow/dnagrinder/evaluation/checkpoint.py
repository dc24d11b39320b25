"""A whole evaluation: every part on the plan's held-out sequence, and what of it goes into the checkpoint's card.

How much is drawn follows from the plan's number of bases: a tenth as many windows of masked tokens, a fourth as many bases
for each zero-shot question, one locus of the length curve for every 1,000, a sixteenth for the comparison of views.
The length curve and the views are measured on the first track.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from dnagrinder import __version__
from dnagrinder.evaluation.baselines import Baselines, baselines
from dnagrinder.evaluation.length import draw_loci, length_curve, length_losses
from dnagrinder.evaluation.likelihood import MODEL, Values, base_log_probs, compare, view_nats
from dnagrinder.evaluation.sites import (
    Bases,
    Place,
    RepeatMask,
    TrainingStretch,
    describe,
    draw_sites,
    joined,
    refuse_training_bases,
)
from dnagrinder.evaluation.statistics import calibration_error, reliability
from dnagrinder.evaluation.tokens import MaskedTokens, Windows, masked_tokens, summary
from dnagrinder.evaluation.zero_shot import Questions, answer, ask
from dnagrinder.genome.files import file_sha256
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.model.checkpoint import Checkpoint
from dnagrinder.model.tokenizer import DnaTokenizer
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.training.evaluation_plan import EvaluationPlan, Track, ZeroShot

BASES_A_WINDOW, BASES_A_LOCUS, BASES_A_QUESTION, BASES_A_VIEW_SITE = 10, 1000, 4, 16
PARTS = 5
BESIDE_VARIANTS = ("order11", "two_sided")
_BASES, _TOKENS, _LOCI, _VARIANTS = range(4)  # streams of random numbers


@dataclass(frozen=True)
class _Track:
    """A track, opened, with the bases that were drawn from it."""

    plan: Track
    genome: ReferenceGenome
    mask: RepeatMask | None
    bases: Bases


@dataclass(frozen=True)
class _Variants:
    """The zero-shot questions with the genome they are about."""

    genome: ReferenceGenome
    questions: Questions
    bases: Bases


@dataclass(frozen=True)
class _Model:
    """What is evaluated."""

    engine: Engine
    tokenizer: DnaTokenizer
    parameters: ScoringParameters

    def log_probs(self, genome: ReferenceGenome, bases: Bases) -> Values:
        """(n, 4) natural logs of P(base | both flanks)."""
        return base_log_probs(self.engine, self.tokenizer, genome, bases.sites, self.parameters)


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    plan: EvaluationPlan,
    training: Sequence[TrainingStretch],
    parameters: ScoringParameters,
    device: torch.device,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """All metrics, ready for JSON; equal input and seed give equal numbers.

    Args:
        training: the sequence of the evaluated species that the checkpoint was trained on; the baselines are trained on it,
            and nothing of it may be evaluated.
        on_progress: called with parts done and their number.

    Raises:
        ConfigError: held-out intervals overlap with ``training``.
        InputError: a file that cannot be used, or too little known sequence in the intervals.
    """
    places: list[Place] = [place for track in plan.tracks for place in track.places]
    refuse_training_bases([*places, *([plan.zero_shot.place] if plan.zero_shot else [])], training)
    report = on_progress or (lambda *_: None)
    model = _Model(Engine(checkpoint.load_model(device), device), checkpoint.tokenizer, parameters)
    with ExitStack() as stack:
        tracks = _open_tracks(plan, stack)
        variants = _open_variants(plan.zero_shot, plan, stack) if plan.zero_shot else None
        asked = joined([*(track.bases for track in tracks), *([variants.bases] if variants else [])])
        simple = baselines([stretch.bases for stretch in training], asked.windows, plan.seed)
        report(1, PARTS)
        losses = _losses(model, tracks, simple, plan)
        report(2, PARTS)
        tokens = _tokens(model, tracks, plan)
        report(3, PARTS)
        length = _length(model, tracks[0], plan)
        report(4, PARTS)
        zero_shot = _zero_shot(model, variants, simple, plan) if variants else None
        report(PARTS, PARTS)
        references = {track.genome.path.name: track.genome.digest() for track in tracks}
    return {
        "provenance": {
            "tool_version": __version__,
            "checkpoint": {"name": checkpoint.name, "sha256": checkpoint.digest},
            "tokenizer_sha256": checkpoint.tokenizer.digest,
            "references_sha256": references,
            "vcf_sha256": {plan.zero_shot.vcf.name: file_sha256(plan.zero_shot.vcf)} if plan.zero_shot else {},
            "parameters": asdict(parameters),
            "parameters_sha256": parameters.digest,
            "versions": {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__},
        },
        "plan": _described(plan),
        "baselines": {
            "training_bases": simple.counted_bases,
            "smoothing": {name: [asdict(step) for step in steps] for name, steps in simple.smoothing.items()},
        },
        **losses,
        "masked_tokens": tokens,
        "length": length,
        "zero_shot": zero_shot,
    }


def _open_tracks(plan: EvaluationPlan, stack: ExitStack) -> list[_Track]:
    tracks = []
    for number, (track, count) in enumerate(zip(plan.tracks, _shares(plan.bases, len(plan.tracks)), strict=True)):
        genome = stack.enter_context(ReferenceGenome.open(track.fasta))
        mask = RepeatMask.of_track(track, genome)
        sites = draw_sites(genome, track.places, count, np.random.default_rng([plan.seed, _BASES, number]))
        tracks.append(_Track(track, genome, mask, describe(genome, sites, mask)))
    return tracks


def _open_variants(known: ZeroShot, plan: EvaluationPlan, stack: ExitStack) -> _Variants:
    genome = stack.enter_context(ReferenceGenome.open(known.fasta))
    generator = np.random.default_rng([plan.seed, _VARIANTS])
    questions = ask(genome, known.vcf, known.place, known.common, plan.bases // BASES_A_QUESTION, generator)
    return _Variants(genome, questions, describe(genome, questions.sites))


def _losses(model: _Model, tracks: Sequence[_Track], simple: Baselines, plan: EvaluationPlan) -> dict[str, Any]:
    """P(base | both flanks): loss by predictor and group, reliability, and the views by themselves on the first track."""
    bases = joined([track.bases for track in tracks])
    names = [track.plan.name for track in tracks for _ in track.bases.sites]
    own = np.concatenate([model.log_probs(track.genome, track.bases) for track in tracks])
    log_probs = {MODEL: own} | {name: values[: len(own)] for name, values in simple.log_probs.items()}
    bins = reliability(np.exp(own), bases.truth)
    first = tracks[0]
    step = max(1, BASES_A_VIEW_SITE // len(tracks))
    some = describe(first.genome, first.bases.sites[::step])
    return {
        "loss_per_base": compare(log_probs, bases, names, plan.seed),
        "reliability": {"error": calibration_error(bins), "bins": [asdict(one) for one in bins]},
        "views": view_nats(model.engine, model.tokenizer, first.genome, some, model.parameters.window),
    }


def _tokens(model: _Model, tracks: Sequence[_Track], plan: EvaluationPlan) -> dict[str, Any]:
    def of(number: int, track: _Track) -> MaskedTokens:
        places, windows = track.plan.places, -(-len(track.bases.sites) // BASES_A_WINDOW)
        drawn = Windows(track.genome, places, track.mask, windows, (plan.seed, _TOKENS, number))
        return masked_tokens(model.engine, model.tokenizer, drawn, track.plan.name)

    return summary([of(number, track) for number, track in enumerate(tracks)], plan.seed)


def _length(model: _Model, track: _Track, plan: EvaluationPlan) -> dict[str, Any]:
    """The length curve, on the first track."""
    generator = np.random.default_rng([plan.seed, _LOCI])
    count = max(1, plan.bases // BASES_A_LOCUS)
    loci = draw_loci(track.genome, track.plan.places, plan.lengths[-1], count, generator)
    nats = {length: length_losses(model.engine, model.tokenizer, track.genome, loci, length) for length in plan.lengths}
    return {"track": track.plan.name, **length_curve(nats, loci, plan.reference_length, plan.seed)}


def _zero_shot(model: _Model, variants: _Variants, simple: Baselines, plan: EvaluationPlan) -> dict[str, Any]:
    own = model.log_probs(variants.genome, variants.bases)
    compared = {MODEL: own} | {name: simple.log_probs[name][-len(own) :] for name in BESIDE_VARIANTS}
    return answer(variants.questions, compared, plan.seed)


def card_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """The headline of ``metrics`` for a checkpoint's card."""
    rows, tokens = metrics["loss_per_base"], metrics["masked_tokens"]["all"]
    variants = metrics["zero_shot"]
    found = {
        "scoring_cross_entropy_nats": {
            "bases": rows["all"]["bases"],
            **_nats(rows["all"]),
            "model_95": [rows["all"]["predictors"][MODEL]["nats"][end] for end in ("low", "high")],
        },
        "scoring_cross_entropy_nats_by_group": {
            name: {"bases": row["bases"], **_nats(row)} for name, row in rows.items() if name != "all"
        },
        "view_cross_entropy_nats": metrics["views"],
        "masked_token_accuracy": tokens["accuracy"]["value"],
        "masked_token_nats": tokens["nats_per_token"]["value"],
        "masked_token_nats_per_base": tokens["nats_per_base"]["value"],
        "masked_tokens": tokens["tokens"],
        "nats_by_input_length": {str(point["length"]): point["nats"]["value"] for point in metrics["length"]["points"]},
    }
    if variants:
        found["zero_shot_auroc"] = {
            "reference_base_at_invariant_sites": variants["invariant"]["predictors"][MODEL]["auroc"],
            "invariant_sites": variants["invariant"]["bases"],
            "common_alt_over_matched": variants["common"]["predictors"][MODEL]["auroc"],
            "pairs": variants["common"]["pairs"],
        }
    return found


def _nats(row: dict[str, Any]) -> dict[str, float]:
    return {name: predictor["nats"]["value"] for name, predictor in row["predictors"].items()}


def _shares(total: int, parts: int) -> list[int]:
    """``total`` in equal parts; the first ones take the remainder."""
    return [total // parts + (number < total % parts) for number in range(parts)]


def _described(plan: EvaluationPlan) -> dict[str, Any]:
    """The plan with file names instead of paths."""
    return {
        "bases": plan.bases,
        "seed": plan.seed,
        "tracks": [
            {
                "name": track.name,
                "fasta": track.fasta.name,
                "intervals": list(track.intervals),
                "repeats": track.repeats.name if track.repeats else None,
            }
            for track in plan.tracks
        ],
        "zero_shot": {
            "fasta": plan.zero_shot.fasta.name,
            "vcf": plan.zero_shot.vcf.name,
            "interval": plan.zero_shot.interval,
            "common": plan.zero_shot.common,
        }
        if plan.zero_shot
        else None,
    }
