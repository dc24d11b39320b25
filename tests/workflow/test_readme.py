"""What the README states about the embedded model is what its card holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from dnagrinder.model.checkpoint import EMBEDDED, open_checkpoint


@pytest.fixture(scope="module")
def card() -> dict:
    return open_checkpoint("mini").card


@pytest.fixture(scope="module")
def readme() -> str:
    return (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["uniform", "order0", "order5", "order11", "model"])
def test_cross_entropies_are_those_of_the_card(readme, card, model):
    name = {"model": "dnaGrinder mini", "uniform": "uniform"}.get(model, f"order-{model[5:]} Markov")
    (line,) = [line for line in readme.splitlines() if line.startswith(("| " + name, "| **" + name))]
    assert f"{card['metrics']['scoring_cross_entropy_nats'][model]:.3f}" in line


def test_sizes_and_accuracy_are_those_of_the_card(readme, card):
    entropy = card["metrics"]["scoring_cross_entropy_nats"]
    for text in (
        f"{card['parameters']:,} parameters",
        f"{entropy['bases']:,} held-out human bases",
        f"{entropy['model_95'][0]:.3f} to {entropy['model_95'][1]:.3f}",
        f"{card['metrics']['masked_token_accuracy']:.1%}",
        f"{card['training']['tokens'] / 1e6:.0f} million tokens",
        f"{card['training']['seconds'] / 60:.0f} minutes of training",
    ):
        assert text in readme


def test_the_goal_of_the_model_is_met(card):
    entropy = card["metrics"]["scoring_cross_entropy_nats"]
    assert entropy["model"] < entropy["order5"]


def test_the_checkpoint_is_small_enough_to_ship():
    assert sum(path.stat().st_size for path in (EMBEDDED / "mini").iterdir()) <= 25_000_000


def test_the_card_names_data_and_what_was_held_out(card):
    assert {source["file"] for source in card["training"]["data"]} >= {"chr20.fa.gz", "chrX_1-70M.fa.gz"}
    assert any("20:999999-4000000" in text for text in card["held_out"])
    assert card["limits"]
