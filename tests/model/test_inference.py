"""The inference path: the same model as the one with gradients, in any pack, to the bit."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.encoder import initialise
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.model.inference import InferenceModel

NARROW = EncoderConfig(vocabulary=50, hidden=24, layers=2, heads=3, intermediate=20)  # served by PyTorch
WIDE = EncoderConfig(vocabulary=96, hidden=64, layers=2, heads=2, intermediate=48)  # served by the compiled kernels
TILED = EncoderConfig(vocabulary=96, hidden=64, layers=2, heads=2, intermediate=64)  # so are all its products, with AMX
GEGLU = EncoderConfig(vocabulary=96, hidden=64, layers=2, heads=2, intermediate=64, activation="geglu")


def make_model(config, dtype=torch.float32):
    model = MaskedLanguageModel(config)
    initialise(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model.to(dtype).eval().requires_grad_(False)


def make_pack(config, lengths, seed=2):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, config.vocabulary, (sum(lengths),), generator=generator)
    return ids, torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])


@pytest.mark.parametrize("config", [NARROW, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("activation", ["swiglu", "geglu"])
@pytest.mark.parametrize("lengths", [[13], [31, 7, 100, 1], [1500]])
def test_hidden_states_are_those_of_the_model_with_gradients(config, activation, lengths, device):
    config = EncoderConfig(**{**config.to_dict(), "activation": activation})
    model = make_model(config)
    ids, cu = make_pack(config, lengths)
    exact = make_model(config, torch.float64)(ids, cu, max(lengths))
    plain = model(ids, cu, max(lengths)).double()
    on_device = InferenceModel(model.to(device))
    found = on_device.hidden(ids.to(device), cu.to(device), max(lengths)).cpu().double()
    assert (found - exact).abs().max() <= max(2 * (plain - exact).abs().max(), 2e-6)


@pytest.mark.parametrize("config", [WIDE, TILED], ids=["wide", "tiled"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_pack_is_not_touched_by_the_first(dtype, config, device):
    model = InferenceModel(make_model(config, dtype).to(device))
    ids, cu = (x.to(device) for x in make_pack(config, [90, 20], seed=5))
    fresh = model.hidden(ids, cu, 90).clone()
    large, bounds = (x.to(device) for x in make_pack(config, [2000, 300]))
    model.hidden(large, bounds, 2000)
    assert torch.equal(model.hidden(ids, cu, 90), fresh)


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    order=st.randoms(use_true_random=False),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    config=st.sampled_from([NARROW, WIDE, TILED, GEGLU]),
)
def test_bits_of_a_sequence_do_not_depend_on_the_pack_or_on_threads(lengths, order, dtype, config):
    model = InferenceModel(make_model(config, dtype))
    ids, _ = make_pack(config, lengths)
    parts = ids.split(lengths)
    alone = [model.hidden(part, torch.tensor([0, part.numel()]), part.numel()).clone() for part in parts]
    places = list(range(len(parts)))
    order.shuffle(places)
    bounds = torch.tensor([0, *torch.tensor([lengths[i] for i in places]).cumsum(0).tolist()])
    threads = torch.get_num_threads()
    for count in (1, 2):
        torch.set_num_threads(count)
        try:
            together = model.hidden(torch.cat([parts[i] for i in places]), bounds, max(lengths))
        finally:
            torch.set_num_threads(threads)
        for place, index in enumerate(places):
            assert torch.equal(together[bounds[place] : bounds[place + 1]], alone[index])


def test_bfloat16_is_as_exact_as_the_model_with_gradients():
    model = make_model(TILED, torch.bfloat16)
    ids, cu = make_pack(TILED, [31, 7, 1500])
    exact = make_model(TILED, torch.bfloat16).double()(ids, cu, 1500)
    plain = model(ids, cu, 1500).double()
    found = InferenceModel(model).hidden(ids, cu, 1500).double()
    assert (found - exact).abs().max() <= 2 * (plain - exact).abs().max()


def test_log_probs_of_a_position_do_not_depend_on_their_number():
    model = InferenceModel(make_model(TILED, torch.bfloat16))
    hidden = torch.randn(3000, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    chosen = torch.randint(0, 96, (3000, 2), generator=torch.Generator().manual_seed(4))
    together = model.chosen_log_probs(hidden, chosen)
    for rows in (slice(0, 1), slice(2040, 2090), slice(2999, 3000)):
        assert torch.equal(model.chosen_log_probs(hidden[rows], chosen[rows]), together[rows])


@pytest.mark.parametrize("tied", [False, True])
def test_chosen_log_probs_equal_the_training_logits(tied):
    model = make_model(EncoderConfig(**{**WIDE.to_dict(), "tie_decoder": tied}))
    hidden = torch.randn(5, 64, generator=torch.Generator().manual_seed(3))
    chosen = torch.tensor([[0, 95], [7, 7], [1, 2], [3, 4], [50, 51]])
    expected = model.logits(hidden).log_softmax(-1).gather(1, chosen)
    torch.testing.assert_close(InferenceModel(model).chosen_log_probs(hidden, chosen), expected)
    assert InferenceModel(model).chosen_log_probs(hidden[:0], chosen[:0]).shape == (0, 2)


@pytest.mark.parametrize(("config", "dtype"), [(WIDE, torch.float32), (TILED, torch.bfloat16)])
def test_planned_memory_is_what_the_buffers_take(config, dtype):
    model = InferenceModel(make_model(config, dtype))
    ids, cu = make_pack(config, [3000])
    model.hidden(ids, cu, 3000)
    buffers = model._buffers
    taken = sum(x.numel() * x.element_size() for x in (buffers.states, buffers.qkv, buffers.mixed))
    assert model.planned_bytes(3000) == taken
