"""What the README states about the embedded model is what its card holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnagrinder.model.checkpoint import EMBEDDED, open_checkpoint


@pytest.fixture(scope="module")
def card() -> dict:
    return open_checkpoint("mini").card


@pytest.fixture(scope="module")
def readme() -> str:
    return (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["uniform", "order0", "order5", "order11", "order16", "two_sided", "model"])
def test_cross_entropies_are_those_of_the_card(readme, card, model):
    names = {"model": "dnaGrinder mini", "uniform": "uniform", "two_sided": "two-sided, 6 + 6 bases"}
    name = names.get(model, f"order-{model[5:]} Markov")
    (line,) = [line for line in readme.splitlines() if line.startswith(("| " + name, "| **" + name))]
    assert f"{card['metrics']['scoring_cross_entropy_nats'][model]:.3f}" in line


def trainings(card):
    """The trainings behind a checkpoint, the last one first."""
    training = card["training"]
    while training:
        yield training
        training = training.get("initial", {}).get("training")


def test_sizes_and_accuracy_are_those_of_the_card(readme, card):
    entropy = card["metrics"]["scoring_cross_entropy_nats"]
    chrx = card["metrics"]["scoring_cross_entropy_nats_by_group"]["chrX"]
    zero_shot = card["metrics"]["zero_shot_auroc"]
    tokens = sum(training["tokens"] for training in trainings(card))
    hours = sum(training["seconds"] for training in trainings(card)) / 3600
    for text in (
        f"{card['parameters']:,} parameters",
        f"{entropy['bases']:,} held-out human bases",
        f"{entropy['model_95'][0]:.3f} to {entropy['model_95'][1]:.3f}",
        f"{card['metrics']['masked_token_accuracy']:.1%}",
        f"{tokens / 1e6:.0f} million tokens",
        f"{hours:.1f} hours of training",
        f"{chrx['model']:.3f} against {chrx['order11']:.3f}",
        f"{zero_shot['common_alt_over_matched']['value']:.2f}",
        f"{zero_shot['reference_base_at_invariant_sites']['value']:.2f}",
    ):
        assert text in readme


def test_the_goal_of_the_model_is_met(card):
    entropy = card["metrics"]["scoring_cross_entropy_nats"]
    assert entropy["model"] < entropy["order11"]


def test_longer_inputs_do_no_harm(card):
    by_length = card["metrics"]["nats_by_input_length"]
    assert by_length["24000"] <= by_length["2048"] + 0.002


def test_the_checkpoint_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in (EMBEDDED / "mini").iterdir()) <= 25_000_000


def test_the_ablations_page_holds_the_table_of_its_runs(repository):
    script = repository / "tests" / "benchmarks" / "ablations.py"
    environment = {**os.environ, "PYTHONPATH": f"{repository / 'workflow'}{os.pathsep}{repository / 'kernels'}"}
    done = subprocess.run(
        [sys.executable, str(script), "--table"], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in (repository / "docs" / "ablations.md").read_text(encoding="utf-8")


def test_the_card_names_data_and_what_was_held_out(card):
    assert {source["name"] for source in card["training"]["data"]} >= {"chr20.fa.gz", "chrX_1-70M.fa.gz"}
    assert any("20:999999-4000000" in text for text in card["held_out"])
    assert card["limits"]
