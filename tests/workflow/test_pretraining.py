"""Pretraining as a workflow: the rules it plans, and one real run from a FASTA to an evaluated checkpoint."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysam
import pytest
import yaml
from workflow_run import Run

from dnagrinder.model.checkpoint import open_checkpoint

RULES = ("build_corpus", "train_tokenizer", "pretrain_model", "evaluate_model", "pretrain")


def prepare(run: Run, **corpus: Any) -> None:
    """A genome of 60 kb with a tandem repeat, and a run file over it, in the run's folder."""
    rng = random.Random(5)
    data = run.folder / "genomes"
    data.mkdir()
    unique = ["".join(rng.choices("ACGT", k=6_000)) for _ in range(9)]
    genome = ("ACGTTGCA" * 90).join(unique)
    (data / "toy genome.fa").write_text(f">1\n{genome}\n")
    pysam.faidx(str(data / "toy genome.fa"))
    document = {
        "name": "toy",
        "description": "a toy",
        "corpus": {
            "held_out_tail": 0.2,
            "sources": [{"path": "toy genome.fa", "soft_mask": "windowmasker"}],
            **corpus,
        },
        "tokenizer": {"vocabulary": 64, "splits": 2, "bases_per_split": 20_000, "method": "exact"},
        "architecture": {"vocabulary": 64, "hidden": 32, "layers": 1, "heads": 2, "intermediate": 32},
        "recipe": {"steps": 3, "tokens_per_step": 512, "curriculum": {"max_tokens": 256}, "warmup_steps": 1},
        "masking": {"span_spacing": 40},
        "evaluation": {
            "bases": 24,
            "tracks": [{"name": "tail", "fasta": "toy genome.fa", "intervals": ["1:49000-59000"]}],
            "lengths": [128, 1024],
        },
        "limits": ["a toy"],
    }
    (run.folder / "run.yaml").write_text(yaml.safe_dump(document))


@pytest.fixture
def training_run(new_run: Callable[..., Run]) -> Callable[..., Run]:
    """Makes a run with a section ``pretraining``; keyword arguments go to its corpus."""

    def make(section: dict[str, Any] | None = None, **corpus: Any) -> Run:
        run = new_run(pretraining={"run_file": "run.yaml", "data": "genomes", **(section or {})})
        prepare(run, **corpus)
        return run

    return make


def test_repeats_are_looked_for_only_where_they_are_told_apart(training_run: Callable[..., Run]) -> None:
    kept = training_run().snakemake("--dry-run", "pretrain")
    assert all(f"rule {rule}:" in kept for rule in RULES)
    assert "rule mask_repeats:" not in kept
    assert "rule mask_repeats:" in training_run(repeats="drop").snakemake("--dry-run", "pretrain")


def test_several_processes_are_started_by_torchrun(training_run: Callable[..., Run]) -> None:
    printed = training_run({"processes": 2, "sharded": True}).snakemake("--dry-run", "--printshellcmds", "pretrain")
    (command,) = [line for line in printed.splitlines() if " pretrain run.yaml" in line]
    assert "env PYTHONSAFEPATH=1 PYTHONPATH=" in command  # no module of the run's folder gets in front of the library's
    assert "-m torch.distributed.run --standalone --nproc-per-node=2 -m dnagrinder pretrain" in command
    assert "--sharded" in command
    assert "--threads 1 --processes 2" in command  # of the run's two cores


def test_a_run_file_with_problems_stops_before_anything_runs(training_run: Callable[..., Run]) -> None:
    run = training_run(repeats="hide")
    (run.folder / "genomes" / "toy genome.fa").unlink()
    with pytest.raises(AssertionError) as caught:
        run.snakemake("--dry-run", "pretrain")
    assert "repeats is one of keep, downweight, drop" in str(caught.value)
    assert "toy genome.fa is missing" in str(caught.value)


def test_from_fasta_to_an_evaluated_checkpoint(training_run: Callable[..., Run]) -> None:
    if shutil.which("windowmasker") is None:
        pytest.skip("windowmasker is not installed (Debian package ncbi-blast+)")
    run = training_run(repeats="downweight")
    run.snakemake("pretrain")
    results = run.folder / "results" / "pretraining" / "toy"
    assert (results / "masks" / "toy genome.fa.bed").read_text().startswith("1\t")
    (source,) = json.loads((results / "corpus" / "corpus.json").read_text())["sources"]
    assert 0.05 < source["repeat_bases"] / source["bases"] < 0.5
    checkpoint = open_checkpoint(str(results / "training" / "toy"))
    assert checkpoint.card["training"]["masking"]["repeat_weight"] == 0.1
    assert checkpoint.card["training"]["steps"] == 3
    assert (results / "evaluation" / "evaluation.html").is_file()
    assert json.loads((results / "evaluation" / "metrics.json").read_text())
    again = run.snakemake("--dry-run", "pretrain")
    assert "Nothing to be done" in again


def test_the_paper_s_recipe_is_complete(repository: Path, tmp_path: Path) -> None:
    from dnagrinder.training.run_file import read_run_file

    run = read_run_file(repository / "config" / "pretraining" / "base.yaml")
    assert run.recipe.steps * run.recipe.tokens_per_step == 119_000 * 256 * 2314
    assert run.recipe.sequences_at(0) == 256
    assert (run.recipe.betas, run.recipe.eps, run.recipe.weight_decay) == ((0.9, 0.98), 1e-6, 1e-5)
    assert (run.recipe.learning_rate, run.recipe.warmup_steps) == (4e-4, 16_000)
    assert (run.repeats, run.segment, run.recipe.curriculum.slw) == ("drop", 12_200, "sort_within_shard")
    assert run.masking.natural_rate == 0.15
    assert run.architecture.layers == 12
