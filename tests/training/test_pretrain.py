"""The trainer: it learns, resumes to the bit, and keeps states apart."""

import hashlib
from dataclasses import replace

import pytest
import torch

from dnagrinder.errors import CheckpointError, ConfigError
from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.training.corpus import Source, load_corpus
from dnagrinder.training.masking import IGNORED, Masking
from dnagrinder.training.pretrain import Recipe, Trainer, masked_token_loss

RECIPE = Recipe(steps=8, tokens_per_step=256, lengths=((0.0, 32), (0.5, 64)), learning_rate=3e-3, warmup_steps=2, seed=5)

MASKING = Masking(0.15, 30.0)


@pytest.fixture(scope="module")
def corpus(data):
    return load_corpus([Source(data / "human" / "genome.fa", 1.0, ("1:50000-51000",), 0.1)])


@pytest.fixture
def make(corpus, tokenizer):
    def build(folder, recipe=RECIPE, masking=MASKING, dtype=torch.float32):
        config = EncoderConfig(tokenizer.vocabulary, hidden=32, layers=2, heads=2, intermediate=48, tie_decoder=True)
        return Trainer(MaskedLanguageModel(config), tokenizer, corpus, recipe, masking, folder, dtype=dtype)

    return build


def state_digest(folder):
    return hashlib.sha256((folder / "state.safetensors").read_bytes()[8:]).hexdigest()


def weights(trainer):
    return torch.cat([master.detach().flatten() for master in trainer.masters.values()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_run_ends_with_the_same_bits(make, tmp_path, dtype):
    whole = make(tmp_path / "whole", dtype=dtype)
    whole.run(lambda _: None)
    first = make(tmp_path / "parts", dtype=dtype)
    first.run(lambda _: None, until=3)
    second = make(tmp_path / "parts", dtype=dtype)
    assert second.resume()
    assert second.step == 3
    second.run(lambda _: None)
    assert torch.equal(weights(second), weights(whole))
    assert not torch.equal(weights(first), weights(whole))


def test_a_fresh_folder_has_nothing_to_resume(make, tmp_path):
    assert not make(tmp_path / "new").resume()


def test_another_recipe_does_not_continue_the_state(make, tmp_path):
    make(tmp_path / "run").run(lambda _: None, until=1)
    with pytest.raises(CheckpointError, match="other settings"):
        make(tmp_path / "run", masking=Masking(0.2)).resume()


def test_the_loss_falls(make, tmp_path):
    recipe = Recipe(steps=60, tokens_per_step=1024, lengths=((0.0, 64),), learning_rate=5e-3, warmup_steps=5)
    losses = []
    make(tmp_path / "run", recipe).run(lambda report: losses.append(report.loss))
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5


def test_lengths_and_rates_follow_the_schedule():
    recipe = Recipe(steps=100, tokens_per_step=512, lengths=((0.0, 64), (0.25, 128)), warmup_steps=10, learning_rate=1.0)
    assert [recipe.length_at(s) for s in (0, 24, 25, 99)] == [64, 64, 128, 128]
    assert recipe.rate_at(0) == pytest.approx(0.1)
    assert recipe.rate_at(9) == pytest.approx(1.0)
    assert recipe.rate_at(55) == pytest.approx(0.5)
    assert recipe.rate_at(100) == pytest.approx(0.0)


@pytest.mark.parametrize("values", [{"lengths": ((0.5, 64),)}, {"tokens_per_step": 10}, {"steps": 0}])
def test_impossible_recipes_are_refused(values):
    with pytest.raises(ConfigError, match="recipe"):
        Recipe(**{"steps": 10, **values})


def test_recomputing_activations_changes_no_gradient(make, tmp_path):
    reports = []
    for recompute in (False, True):
        trainer = make(tmp_path / str(recompute), replace(RECIPE, recompute=recompute))
        trainer.run(reports.append, until=3)
        reports[-1] = (reports[-1].loss, weights(trainer))
    assert reports[2][0] == reports[-1][0]
    assert torch.equal(reports[2][1], reports[-1][1])


@pytest.mark.parametrize("targets", [0, 1, 40])
def test_the_loss_in_pieces_is_the_loss(make, tmp_path, targets, monkeypatch):
    monkeypatch.setattr("dnagrinder.training.pretrain.LOSS_ROWS", 16)
    monkeypatch.setattr("dnagrinder.training.pretrain.TARGET_ROWS", 8)
    model = make(tmp_path / "run").model
    hidden = torch.randn(50, 32, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    labels = torch.full((50,), IGNORED)
    labels[:targets] = torch.arange(targets) + 5
    loss, accuracy = masked_token_loss(model, hidden, labels)
    loss.backward()
    found, hidden.grad = hidden.grad, None
    if targets:
        logits = model.logits(hidden[:targets])
        expected = torch.nn.functional.cross_entropy(logits, labels[:targets])
        assert accuracy == (logits.argmax(-1) == labels[:targets]).double().mean()
        expected.backward()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(found, hidden.grad)
    else:
        assert loss == 0
        assert accuracy == 0
