"""Architecture: parameter counts, agreement with an independent float64 model, independence of the pack."""

import math

import pytest
import torch

from dnagrinder.errors import CheckpointError
from dnagrinder.model.config import SIZES, EncoderConfig
from dnagrinder.model.encoder import count_parameters, initialise
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder_kernels import alibi_slopes

SMALL = EncoderConfig(vocabulary=50, hidden=24, layers=2, heads=3, intermediate=20)


def small_model(**changes):
    model = MaskedLanguageModel(EncoderConfig(**{**SMALL.to_dict(), **changes}))
    initialise(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model.eval()


def test_base_has_the_papers_parameter_count():
    with torch.device("meta"):
        assert count_parameters(MaskedLanguageModel(SIZES["base"])) == 63_596_800


def test_tying_the_decoder_saves_one_matrix():
    with torch.device("meta"):
        tied = MaskedLanguageModel(EncoderConfig(tie_decoder=True))
    assert count_parameters(tied) == 63_596_800 - 4096 * 768


def test_geglu_of_dnabert2_width_has_its_count():
    with torch.device("meta"):
        model = MaskedLanguageModel(EncoderConfig(activation="geglu", intermediate=3072, tie_decoder=True))
    assert count_parameters(model) == 117_074_176


@pytest.mark.parametrize(
    "change", [{"hidden": 25}, {"layers": 0}, {"activation": "relu"}, {"heads": 2.0}, {"vocabulary": -1}]
)
def test_impossible_architectures_are_refused(change):
    with pytest.raises(CheckpointError, match="architecture"):
        EncoderConfig(**{**SMALL.to_dict(), **change})


def test_unknown_architecture_keys_are_named():
    with pytest.raises(CheckpointError, match="dropout"):
        EncoderConfig.from_dict({"dropout": 0.1})


def naive_hidden(model, ids):
    """The block of model-spec §1.1 written out with explicit sums, float64, one sequence."""
    state = {name: value.double() for name, value in model.state_dict().items()}
    config = model.config

    def layer_norm(x, prefix):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + config.layer_norm_eps).sqrt()
        return scaled * state[f"{prefix}.weight"] + state[f"{prefix}.bias"]

    x = state["encoder.embeddings.word.weight"][ids] + state["encoder.embeddings.token_type.weight"][0]
    x = layer_norm(x, "encoder.embeddings.norm")
    n, width = len(ids), config.head_width
    slopes = alibi_slopes(config.heads)
    for layer in range(config.layers):
        p = f"encoder.blocks.{layer}"
        qkv = x @ state[f"{p}.qkv.weight"].T + state[f"{p}.qkv.bias"]
        q, k, v = qkv.split(config.hidden, dim=1)
        mixed = torch.zeros_like(x)
        for h in range(config.heads):
            part = slice(h * width, (h + 1) * width)
            for i in range(n):
                scores = torch.stack([q[i, part] @ k[j, part] / math.sqrt(width) - slopes[h] * abs(i - j) for j in range(n)])
                mixed[i, part] = scores.softmax(0) @ v[:, part]
        x = layer_norm(x + mixed @ state[f"{p}.out.weight"].T + state[f"{p}.out.bias"], f"{p}.attention_norm")
        gate, value = (x @ state[f"{p}.gated.weight"].T).split(config.intermediate, dim=1)
        ffn = (gate / (1 + torch.exp(-gate)) * value) @ state[f"{p}.down.weight"].T + state[f"{p}.down.bias"]
        x = layer_norm(x + ffn, f"{p}.ffn_norm")
    return x


def test_encoder_is_the_written_out_block():
    model = small_model()
    ids = torch.randint(5, 50, (13,), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = model(ids, torch.tensor([0, 13]), 13)
    torch.testing.assert_close(found.double(), naive_hidden(model, ids), rtol=1e-4, atol=1e-5)


def test_initialisation_is_reproducible():
    first, second = (MaskedLanguageModel(SMALL) for _ in range(2))
    for model in (first, second):
        initialise(model, torch.Generator().manual_seed(5))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
