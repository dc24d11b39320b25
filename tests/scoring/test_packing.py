"""Packs: everything runs once, within the budget, and with bits that do not depend on the company."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dnagrinder.errors import MemoryLimitError
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
        targets = generator.integers(0, 300, (2, int(generator.integers(1, 5))))
        inputs.append(ModelInput(ids, masked, targets))
    return inputs


def results(engine, inputs):
    rows = {}
    engine.log_probs(inputs, lambda index, part: rows.update({index: part}))
    states = {}
    engine.hidden(inputs, lambda index, part: states.update({index: part.clone()}))
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
    assert [tuple(row.shape) for row in rows] == [i.targets.shape for i in inputs]


def test_tokens_are_counted_without_padding(engine):
    inputs = make_inputs(1, 7)
    engine.hidden(inputs, lambda *_: None)
    assert engine.tokens == sum(i.ids.size for i in inputs)
    assert engine.forwards == len(inputs)


def test_targets_need_a_row_a_masked_position():
    with pytest.raises(ValueError, match="one row a masked position"):
        ModelInput(np.arange(5), (1, 2), np.zeros((1, 1), dtype=np.int64))


class Scarce:
    """Stands before a model and runs out of memory for packs beyond ``limit`` tokens, in the words of torch."""

    def __init__(self, model, limit, error):
        self._model, self._limit, self._error = model, limit, error
        self.sizes = []

    def hidden(self, ids, cu_seqlens, max_seqlen):
        self.sizes.append(ids.numel())
        if ids.numel() > self._limit:
            raise self._error
        return self._model.hidden(ids, cu_seqlens, max_seqlen)

    def __getattr__(self, name):
        return getattr(self._model, name)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 byte"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_out_of_memory_halves_the_budget_and_changes_no_score(checkpoint, error):
    device = torch.device("cpu")
    model = checkpoint.load_model(device)
    inputs = make_inputs(5, 40)
    expected = results(Engine(model, device), inputs)
    engine = Engine(model, device, token_budget=1000)
    engine._model = Scarce(engine._model, 100, error)
    found = results(engine, inputs)
    for wanted, got in zip(expected, found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(wanted, got, strict=True))
    assert engine.token_budget < 200
    assert max(engine._model.sizes) > 500  # it did run out
    assert engine.tokens == 2 * sum(i.ids.size for i in inputs)


def test_a_sequence_too_long_for_the_memory_is_named(checkpoint):
    device = torch.device("cpu")
    engine = Engine(checkpoint.load_model(device), device)
    engine._model = Scarce(engine._model, 10, OUT_OF_MEMORY[0])
    with pytest.raises(MemoryLimitError, match=r"a sequence of 59 tokens does not fit .* smaller window"):
        engine.hidden([ModelInput(np.full(59, 6))], lambda *_: None)


def test_another_error_of_the_model_is_not_taken_for_memory(checkpoint):
    device = torch.device("cpu")
    engine = Engine(checkpoint.load_model(device), device)
    engine._model = Scarce(engine._model, 10, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        engine.hidden([ModelInput(np.full(59, 6))], lambda *_: None)
