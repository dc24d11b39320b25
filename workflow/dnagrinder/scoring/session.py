"""A model, a reference and parameters brought together: what every scoring command opens first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch

from dnagrinder.errors import ConfigError
from dnagrinder.genome.cis import CisReader
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.regions import RegionReason
from dnagrinder.genome.variants import Allele
from dnagrinder.model.checkpoint import Checkpoint, open_checkpoint
from dnagrinder.scoring.alleles import AlleleScorer
from dnagrinder.scoring.bedgraph import bedgraph_runs
from dnagrinder.scoring.contexts import base_contexts
from dnagrinder.scoring.embedding import RegionEmbedder, embedding_columns, fits_window
from dnagrinder.scoring.haplotype_tables import haplotype_provenance, haplotypes_table, sorted_haplotypes
from dnagrinder.scoring.haplotypes import HaplotypeScorer
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import TOKEN_BUDGET, ScoringParameters, provenance
from dnagrinder.scoring.regions import RegionScore, RegionScorer
from dnagrinder.scoring.store.haplotypes import stored_or_scored
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.tables import scores_table, table_alleles

DEVICES = ("auto", "cpu", "cuda")

EMBEDDING_SCHEMA = pa.schema(
    [
        ("contig", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("name", pa.string()),
        ("tokens", pa.int64()),
        ("embedding", pa.list_(pa.float32())),
    ]
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ScoringSession:
    """Loaded once, used for any number of alleles and regions.

    Attributes:
        provenance: what outputs must carry.
    """

    checkpoint: Checkpoint
    reference: ReferenceGenome
    parameters: ScoringParameters
    engine: Engine
    provenance: dict[str, Any]

    def score_alleles(self, alleles: pa.Table, on_progress: Progress | None = None) -> pa.Table:
        """Scores (SCORE_SCHEMA) of a table of alleles, in its order."""
        scorer = AlleleScorer(self.engine, self.checkpoint.tokenizer, self.reference, self.parameters)
        return scores_table(scorer.score(table_alleles(alleles), on_progress))

    def score_haplotypes(
        self,
        vcf: Path,
        distance: int,
        samples: Sequence[str] | None = None,
        on_progress: Progress | None = None,
        store: ScoreStore | None = None,
    ) -> tuple[pa.Table, dict[str, Any]]:
        """(HAPLOTYPE_SCHEMA of a VCF's cis haplotypes, sorted; provenance with what became of every carried copy).

        Args:
            distance: most bases between alleles that are joined.
            samples: sample columns to read; None for all.
            store: scores that it holds are taken, others are added to it while the work goes on.
        """
        reader = CisReader(vcf, self.reference, distance=distance, window=self.parameters.window, samples=samples)
        haplotypes = sorted_haplotypes(reader)
        scorer = HaplotypeScorer(self.engine, self.checkpoint.tokenizer, self.reference, self.parameters)
        scores = stored_or_scored(haplotypes, scorer, store.haplotypes if store else None, on_progress)
        return haplotypes_table(scores), haplotype_provenance(self.provenance, distance, reader.outcomes)

    def score_regions(self, regions: pd.DataFrame, on_progress: Progress | None = None) -> Iterator[RegionScore]:
        """Scores of regions (columns contig, start, end; 0-based half-open), in order."""
        scorer = RegionScorer(self.engine, self.checkpoint.tokenizer, self.reference, self.parameters)
        return scorer.score(regions, on_progress)

    def embed_regions(
        self, regions: pd.DataFrame, bin_width: int, on_progress: Progress | None = None
    ) -> tuple[pa.Table, pd.DataFrame]:
        """(table of embeddings, regions left out as longer than the window); columns as read_bed gives them."""
        window = self.parameters.window
        fits = fits_window(regions, window)
        short = regions[fits].reset_index(drop=True)
        embedder = RegionEmbedder(self.engine, self.checkpoint.tokenizer, self.reference, window, bin_width)
        columns = embedding_columns(list(embedder.embed(short, on_progress)), short)
        left_out = regions.loc[~fits, ["line", "contig", "start", "end", "name"]].assign(
            reason=RegionReason.LONGER_THAN_WINDOW.value, detail=f"longer than the window of {window} bases"
        )
        return pa.table(columns, schema=EMBEDDING_SCHEMA), left_out

    def base_contexts(
        self, alleles: Sequence[Allele], on_progress: Progress | None = None, store: ScoreStore | None = None
    ) -> pa.Table:
        """Log-probabilities of the four bases around each allele; see :func:`dnagrinder.scoring.contexts.base_contexts`."""
        scorer = AlleleScorer(self.engine, self.checkpoint.tokenizer, self.reference, self.parameters)
        return base_contexts(scorer, self.reference, alleles, store.bases if store else None, on_progress)


@contextmanager
def open_session(
    reference: Path,
    checkpoint: str,
    parameters: ScoringParameters,
    *,
    device: str = "auto",
    token_budget: int = TOKEN_BUDGET,
    threads: int | None = None,
) -> Iterator[ScoringSession]:
    """Open reference and checkpoint, load the model on the device, close the reference at the end.

    Args:
        device: "auto" takes a CUDA device where one is found.
        token_budget: tokens of a pack; memory and speed, never scores.
        threads: CPU threads of the model; None leaves torch's choice.

    Raises:
        ConfigError: unknown device, or "cuda" without one.
        CheckpointError, InputError: from opening the parts.
    """
    chosen = choose_device(device)
    if token_budget < 1:
        raise ConfigError(f"token budget must be positive, found {token_budget}")
    if threads:
        torch.set_num_threads(threads)
    opened = open_checkpoint(checkpoint)
    dtype = torch.bfloat16 if parameters.precision == "bfloat16" else torch.float32
    with ReferenceGenome.open(reference) as genome:
        model = opened.load_model(chosen, dtype)
        model.encoder.epsilon = parameters.epsilon
        engine = Engine(model, chosen, token_budget)
        yield ScoringSession(opened, genome, parameters, engine, provenance(opened, genome.digest(), parameters))


def choose_device(name: str) -> torch.device:
    """ "auto", "cpu" or "cuda" as a torch device."""
    if name not in DEVICES:
        raise ConfigError(f"device is one of {', '.join(DEVICES)}, found {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda was asked for, but torch finds no CUDA device; use --device auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def region_tables(regions: pd.DataFrame, scores: Sequence[RegionScore]) -> tuple[pa.Table, list[str]]:
    """(table of the regions with their scores, bedGraph lines of the per-base log-likelihoods).

    The bedGraph is sorted, joins equal neighbours and leaves out N; of overlapping regions the first in the table counts.
    """
    table = pa.table(
        {
            "contig": pa.array(regions["contig"].astype(str), pa.string()),
            "start": pa.array(regions["start"], pa.int64()),
            "end": pa.array(regions["end"], pa.int64()),
            "name": pa.array([str(n) if pd.notna(n) else None for n in regions["name"]], pa.string()),
            "log_likelihood": pa.array([s.log_likelihood if s.known_bases else None for s in scores], pa.float64()),
            "known_bases": pa.array([s.known_bases for s in scores], pa.int64()),
            "embedding": pa.array([s.embedding.tolist() for s in scores], pa.list_(pa.float32())),
        }
    )
    lines: list[str] = []
    order = regions.assign(row=range(len(regions))).sort_values(["contig", "start", "row"], kind="stable")
    reached: dict[str, int] = {}
    for contig, start, end, row in order[["contig", "start", "end", "row"]].itertuples(index=False):
        first = max(start, reached.get(contig, 0))
        if first < end:
            lines += bedgraph_runs(contig, first, scores[row].per_base[first - start :])
        reached[contig] = max(end, reached.get(contig, 0))
    return table, lines
