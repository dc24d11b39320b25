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
from dnagrinder.model.tokenizer import BASES
from dnagrinder.scoring.alleles import AlleleScorer
from dnagrinder.scoring.bedgraph import bedgraph_runs
from dnagrinder.scoring.embedding import RegionEmbedder, embedding_columns, fits_window
from dnagrinder.scoring.haplotype_tables import haplotype_provenance, haplotypes_table, sorted_haplotypes
from dnagrinder.scoring.haplotypes import HaplotypeScorer
from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import TOKEN_BUDGET, ScoringParameters, provenance
from dnagrinder.scoring.regions import RegionScore, RegionScorer
from dnagrinder.scoring.snv import Site
from dnagrinder.scoring.tables import scores_table, table_alleles

DEVICES = ("auto", "cpu", "cuda")
CONTEXT_FLANK = 50  # bases shown to either side of a top variant

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
        self, vcf: Path, distance: int, samples: Sequence[str] | None = None, on_progress: Progress | None = None
    ) -> tuple[pa.Table, dict[str, Any]]:
        """(HAPLOTYPE_SCHEMA of a VCF's cis haplotypes, sorted; provenance with what became of every carried copy).

        Args:
            distance: most bases between alleles that are joined.
            samples: sample columns to read; None for all.
        """
        reader = CisReader(vcf, self.reference, distance=distance, window=self.parameters.window, samples=samples)
        haplotypes = sorted_haplotypes(reader)
        scorer = HaplotypeScorer(self.engine, self.checkpoint.tokenizer, self.reference, self.parameters)
        table = haplotypes_table(scorer.score(haplotypes, on_progress))
        return table, haplotype_provenance(self.provenance, distance, reader.outcomes)

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

    def base_contexts(self, alleles: Sequence[Allele], on_progress: Progress | None = None) -> pa.Table:
        """Log-probabilities of the four bases around each allele, ±CONTEXT_FLANK, clipped at contig ends.

        Columns: key, position (1-based), ref, log_p_a, log_p_c, log_p_g, log_p_t (natural log, both strands and all views).
        """
        scorer = AlleleScorer(self.engine, self.checkpoint.tokenizer, self.reference, self.parameters)
        names = ("key", "position", "ref", *(f"log_p_{base.lower()}" for base in BASES))
        columns: dict[str, list[Any]] = {name: [] for name in names}
        for done, allele in enumerate(alleles, start=1):
            first = max(0, allele.start - CONTEXT_FLANK)
            last = min(self.reference.length(allele.contig), allele.end + CONTEXT_FLANK)
            table = scorer.base_log_probs([Site(allele.contig, start) for start in range(first, last)])
            columns["key"] += [allele.key] * (last - first)
            columns["position"] += range(first + 1, last + 1)
            columns["ref"] += list(self.reference.fetch(allele.contig, first, last))
            for index, base in enumerate(BASES):
                columns[f"log_p_{base.lower()}"] += table[:, index].tolist()
            if on_progress:
                on_progress(done, len(alleles))
        schema = pa.schema(
            [("key", pa.string()), ("position", pa.int64()), ("ref", pa.string())]
            + [(f"log_p_{base.lower()}", pa.float64()) for base in BASES]
        )
        return pa.table(columns, schema=schema)


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
