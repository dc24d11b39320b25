"""The trainer: it learns, resumes to the bit, keeps states apart, and its pieces add up to the whole."""

import weakref
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors import SafetensorError

from dnagrinder.errors import CheckpointError, ConfigError, OutputError
from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.model.tokenizer import CLS, PAD
from dnagrinder.training import state
from dnagrinder.training.batches import FILL, BatchMaker
from dnagrinder.training.curriculum import Curriculum
from dnagrinder.training.masking import IGNORED, Masking
from dnagrinder.training.parallel import World
from dnagrinder.training.pretrain import Trainer, masked_token_loss
from dnagrinder.training.recipe import Recipe
from dnagrinder.training.state import states

RECIPE = Recipe(
    steps=8,
    tokens_per_step=256,
    curriculum=Curriculum("truncate_schedule", 64, ((0.0, 32), (0.5, 64))),
    learning_rate=3e-3,
    warmup_steps=2,
    seed=5,
    reverse_complement=True,
)
MASKING = Masking(0.15, 30.0)


@pytest.fixture
def make(corpus, tokenizer):
    def build(folder, recipe=RECIPE, dtype=torch.float32, masking=MASKING, **identity):
        config = EncoderConfig(tokenizer.vocabulary, hidden=32, layers=2, heads=2, intermediate=48, tie_decoder=True)
        batches = BatchMaker(corpus, tokenizer, recipe, masking)
        return Trainer(MaskedLanguageModel(config), batches, recipe, identity, folder, dtype=dtype)

    return build


def weights(trainer):
    return torch.cat([value.flatten() for value in trainer.final_weights().values()])


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


def test_the_newest_two_states_are_kept(make, tmp_path):
    make(tmp_path / "run").run(lambda _: None, save_every=2)
    assert [path.stem for path in states(tmp_path / "run")] == ["state-00000006", "state-00000008"]
    assert not [path for path in (tmp_path / "run").iterdir() if path not in states(tmp_path / "run")]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_training_that_diverges_stops_before_its_weights_do(make, tmp_path, bad):
    trainer = make(tmp_path / "run")
    trainer.run(lambda _: None, save_every=1, until=3)
    before, kept = weights(trainer), [path.name for path in states(tmp_path / "run")]
    parameter = next(iter(trainer.model.parameters()))
    parameter.register_hook(lambda gradient: gradient * bad)
    reports = []
    with pytest.raises(
        ConfigError, match=r"training diverged at step 4: loss [\d.]+, gradient norm (nan|inf); .*learning_rate"
    ):
        trainer.run(reports.append, save_every=1)
    assert [report.step for report in reports] == [4]
    assert not reports[0].is_finite
    assert torch.equal(weights(trainer), before)
    assert [path.name for path in states(tmp_path / "run")] == kept
    again = make(tmp_path / "run")
    assert again.resume()
    assert again.step == 3
    assert torch.equal(weights(again), before)


def test_a_state_that_cannot_be_written_costs_none_of_those_kept(make, tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    trainer = make(tmp_path / "run")
    trainer.run(lambda _: None, save_every=1, until=3)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    monkeypatch.setattr(state, "save_file", full)
    with pytest.raises(OutputError, match=r"state-00000004\.safetensors cannot be written.*No space left.*free some space"):
        trainer.run(lambda _: None, save_every=1)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == kept


def test_only_the_first_process_keeps_whole_tensors(make, tmp_path, monkeypatch):
    trainer = make(tmp_path / "run")
    trainer.run(lambda _: None, until=1)
    alive = []

    def whole(tensor):
        assert sum(reference() is not None for reference in alive) <= 1
        copy = tensor.detach().clone()
        alive.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr(trainer.weights, "whole", whole)
    trainer.world = World(rank=1)
    trainer.save()
    assert len(alive) == 3 * len(trainer.weights.masters())


def test_other_settings_do_not_continue_a_state(make, tmp_path):
    make(tmp_path / "run", corpus_sha256="a").run(lambda _: None, until=1)
    with pytest.raises(CheckpointError, match=r"other settings \(corpus_sha256, recipe\)"):
        make(tmp_path / "run", replace(RECIPE, learning_rate=1e-3), corpus_sha256="b").resume()


def test_settings_of_memory_do_continue_a_state(make, tmp_path):
    make(tmp_path / "run").run(lambda _: None, until=1)
    assert make(tmp_path / "run", replace(RECIPE, micro_tokens=64, recompute=True)).resume()


def test_an_unreadable_state_names_the_file(make, tmp_path):
    make(tmp_path / "run").run(lambda _: None, until=1)
    (path,) = states(tmp_path / "run")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"state-00000001\.safetensors cannot be read"):
        make(tmp_path / "run").resume()


def test_the_loss_falls(make, tmp_path):
    recipe = Recipe(steps=60, tokens_per_step=1024, curriculum=Curriculum(max_tokens=64), learning_rate=5e-3, warmup_steps=5)
    reports = []
    make(tmp_path / "run", recipe).run(reports.append)
    losses = [report.loss for report in reports]
    assert sum(losses[-5:]) / 5 < losses[0] - 0.5
    assert reports[-1].accuracy > reports[0].accuracy


def test_gradients_of_micro_batches_add_up_to_those_of_one(make, tmp_path):
    results = []
    for micro in (10_000, 64):
        trainer = make(tmp_path / str(micro), replace(RECIPE, micro_tokens=micro))
        reports = []
        trainer.run(reports.append, until=3)
        results.append((reports, weights(trainer)))
    (one, whole), (many, parts) = results
    assert [r.loss for r in one] == pytest.approx([r.loss for r in many], rel=1e-6)
    assert [r.gradient_norm for r in one] == pytest.approx([r.gradient_norm for r in many], rel=1e-5)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)


def test_every_process_gets_its_share_and_as_many_batches(corpus, tokenizer):
    recipe = replace(RECIPE, tokens_per_step=32 * 7, micro_tokens=64)
    alone = BatchMaker(corpus, tokenizer, recipe, MASKING).step(1)
    shares = [BatchMaker(corpus, tokenizer, recipe, MASKING, rank=rank, world=3).step(1) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    together = torch.cat([batch.input_ids[: batch.tokens] for share in shares for batch in share])
    assert torch.equal(together, torch.cat([batch.input_ids[: batch.tokens] for batch in alone]))


def test_what_fills_up_a_batch_asks_for_nothing_and_changes_nothing(make, corpus, tokenizer, tmp_path):
    recipe = replace(RECIPE, tokens_per_step=64 * 9, curriculum=Curriculum(max_tokens=64))
    (batch,) = BatchMaker(corpus, tokenizer, recipe, MASKING).step(0)
    assert batch.input_ids.numel() == 3 * FILL > batch.tokens
    assert (batch.input_ids[batch.tokens :] == PAD).all()
    assert not batch.weights[batch.tokens :].any()
    model = make(tmp_path / "run").model
    filled = model(batch.input_ids, batch.cu_seqlens, batch.max_seqlen)
    bare = model(batch.input_ids[: batch.tokens], batch.cu_seqlens[:-1], batch.max_seqlen)
    torch.testing.assert_close(filled[: batch.tokens], bare)


def test_a_process_without_sequences_computes_an_empty_batch(make, corpus, tokenizer, tmp_path):
    shares = [BatchMaker(corpus, tokenizer, RECIPE, MASKING, rank=rank, world=16).step(7) for rank in range(16)]
    (empty,) = next(share for share in shares if not share[0].weights.any())
    assert (empty.tokens, empty.input_ids.numel()) == (0, FILL)
    trainer = make(tmp_path / "run")
    hidden = trainer.model(empty.input_ids, empty.cu_seqlens, empty.max_seqlen)
    loss, hits = masked_token_loss(trainer.model, hidden, empty.labels, empty.weights)
    loss.backward()
    assert (loss.item(), hits) == (0.0, 0)
    gradients = {name: p.grad for name, p in trainer.model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []  # or sharded processes stop agreeing
    assert not any(gradient.any() for gradient in gradients.values())


def test_a_step_without_targets_is_saved_and_resumed(make, tmp_path):
    make(tmp_path / "run", masking=Masking(1e-9)).run(lambda _: None, until=1)
    assert make(tmp_path / "run").resume()


def test_both_strands_are_read_where_told(corpus, tokenizer):
    def first_texts(reverse):
        recipe = replace(RECIPE, reverse_complement=reverse, tokens_per_step=64 * 32)
        maker = BatchMaker(corpus, tokenizer, recipe, Masking(0.0))
        (batch,) = maker.step(0)
        bounds = [start for start in batch.cu_seqlens.tolist() if start <= batch.tokens]
        return [tokenizer.decode(batch.input_ids[a:b].numpy()) for a, b in pairwise(bounds)]

    segments = [corpus.segment(number).tobytes().decode() for number in range(len(corpus))]

    def share_on_the_forward_strand(texts):
        return sum(any(text in segment for segment in segments) for text in texts) / len(texts)

    assert share_on_the_forward_strand(first_texts(False)) == 1
    assert 0.3 < share_on_the_forward_strand(first_texts(True)) < 0.7


def test_rates_follow_the_schedule():
    recipe = Recipe(steps=100, warmup_steps=10, learning_rate=1.0)
    assert recipe.rate_at(0) == pytest.approx(0.1)
    assert recipe.rate_at(9) == pytest.approx(1.0)
    assert recipe.rate_at(55) == pytest.approx(0.5)
    assert recipe.rate_at(100) == pytest.approx(0.0)


def test_a_step_holds_as_many_sequences_as_fit(corpus, tokenizer):
    assert [RECIPE.sequences_at(step) for step in (0, 3, 4, 7)] == [8, 8, 4, 4]
    maker = BatchMaker(corpus, tokenizer, RECIPE, MASKING)
    assert [sum(int((b.input_ids == CLS).sum()) for b in maker.step(step)) for step in (0, 7)] == [8, 4]
    assert maker.epochs_at(8) == pytest.approx(48 / len(corpus))


@pytest.mark.parametrize("values", [{"tokens_per_step": 10}, {"steps": 0}, {"learning_rate": 0.0}, {"micro_tokens": 0}])
def test_impossible_recipes_are_refused(values):
    with pytest.raises(ConfigError, match="recipe"):
        Recipe(**{"steps": 10, **values})


def test_recomputing_activations_changes_no_gradient(make, tmp_path):
    results = []
    for recompute in (False, True):
        trainer = make(tmp_path / str(recompute), replace(RECIPE, recompute=recompute))
        reports = []
        trainer.run(reports.append, until=3)
        results.append((reports[-1].loss, weights(trainer)))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("targets", [0, 1, 40])
def test_the_loss_in_pieces_is_the_loss(make, tmp_path, targets, monkeypatch):
    monkeypatch.setattr("dnagrinder.training.pretrain.LOSS_ROWS", 16)
    monkeypatch.setattr("dnagrinder.training.pretrain.TARGET_ROWS", 8)
    model = make(tmp_path / "run").model
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 32, generator=generator).requires_grad_(True)
    weight = torch.rand(50, generator=generator)
    labels = torch.full((50,), IGNORED)
    labels[:targets] = torch.arange(targets) + 5
    loss, hits = masked_token_loss(model, hidden, labels, weight)
    loss.backward()
    found, hidden.grad = hidden.grad, None
    logits = model.logits(hidden[:targets])
    nats = torch.nn.functional.cross_entropy(logits, labels[:targets], reduction="none") if targets else hidden[:0, 0]
    assert hits == (logits.argmax(-1) == labels[:targets]).sum()
    expected = (nats * weight[:targets]).sum()
    torch.testing.assert_close(loss, expected)
    if targets:
        expected.backward()
        torch.testing.assert_close(found, hidden.grad)
