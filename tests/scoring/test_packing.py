"""Packs: everything runs once, within the budget, and with bits that do not depend on the company."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dnagrinder.scoring.packing import Engine, ModelInput, plan_packs


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 600))
def test_every_sequence_is_in_one_pack_within_the_budget(lengths, budget):
    packs = list(plan_packs(lengths, budget))
    assert sorted(i for pack in packs for i in pack) == list(range(len(lengths)))
    for pack in packs:
        assert len(pack) == 1 or sum(lengths[i] for i in pack) <= budget


def make_inputs(seed, count):
    generator = np.random.default_rng(seed)
    inputs = []
    for _ in range(count):
        ids = generator.integers(5, 300, int(generator.integers(3, 60)))
        masked = tuple(sorted(generator.choice(ids.size, 2, replace=False).tolist()))
        inputs.append(ModelInput(ids, masked))
    return inputs


def results(engine, inputs):
    rows = {}
    engine.log_probs(inputs, lambda index, part: rows.update({index: part}))
    states = {}
    engine.hidden(inputs, lambda index, part: states.update({index: part}))
    return [rows[i] for i in range(len(inputs))], [states[i] for i in range(len(inputs))]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_bits_do_not_depend_on_pack_order_budget_or_threads(checkpoint, precision, seed):
    device = torch.device("cpu")
    model = checkpoint.load_model(device, precision)
    inputs = make_inputs(seed, 30)
    rows, states = results(Engine(model, device), inputs)
    order = np.random.default_rng(seed).permutation(len(inputs)).tolist()
    threads = torch.get_num_threads()
    for budget, count in ((64, 1), (300, 2), (100_000, 1)):
        torch.set_num_threads(count)
        try:
            shuffled, shuffled_states = results(Engine(model, device, budget), [inputs[i] for i in order])
        finally:
            torch.set_num_threads(threads)
        for place, index in enumerate(order):
            assert torch.equal(shuffled[place], rows[index])
            assert torch.equal(shuffled_states[place], states[index])
    assert rows[0].shape == (2, checkpoint.config.vocabulary)


def test_tokens_are_counted_without_padding(engine):
    inputs = make_inputs(1, 7)
    engine.hidden(inputs, lambda *_: None)
    assert engine.tokens == sum(i.ids.size for i in inputs)
