"""Checkpoints: what is written comes back, and everything else is refused by name."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from dnagrinder.errors import CheckpointError
from dnagrinder.model.checkpoint import CARD, WEIGHTS, file_sha256, open_checkpoint, save_checkpoint
from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.encoder import initialise
from dnagrinder.model.heads import MaskedLanguageModel


@pytest.fixture
def folder(tokenizer, tmp_path):
    model = MaskedLanguageModel(EncoderConfig(vocabulary=300, hidden=16, layers=1, heads=2, intermediate=8))
    initialise(model, torch.Generator().manual_seed(0))
    save_checkpoint(tmp_path / "toy", model, tokenizer, {"name": "toy", "metrics": {}}, dtype=torch.float32)
    return tmp_path / "toy"


def restate(folder):
    """Make the card agree with the weights again, as an attacker or a careless user would."""
    card = json.loads((folder / CARD).read_text())
    card["sha256"][WEIGHTS] = file_sha256(folder / WEIGHTS)
    (folder / CARD).write_text(json.dumps(card))


def test_weights_come_back(folder):
    checkpoint = open_checkpoint(folder)
    stored = load_file(folder / WEIGHTS)
    model = checkpoint.load_model(torch.device("cpu"))
    assert checkpoint.name == "toy"
    assert checkpoint.digest == file_sha256(folder / WEIGHTS)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, stored[name])


def test_altered_weights_are_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["decoder_bias"] += 1
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(CheckpointError, match="its card says"):
        open_checkpoint(folder)


def test_missing_and_unknown_tensors_are_named(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["surplus"] = tensors.pop("decoder_bias")
    save_file(tensors, folder / WEIGHTS)
    restate(folder)
    with pytest.raises(CheckpointError, match=r"missing decoder_bias.*unknown surplus"):
        open_checkpoint(folder).load_model(torch.device("cpu"))


def test_wrong_shape_is_named(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["decoder_bias"] = torch.zeros(3)
    save_file(tensors, folder / WEIGHTS)
    restate(folder)
    with pytest.raises(CheckpointError, match=r"decoder_bias is \(3,\), expected \(300,\)"):
        open_checkpoint(folder).load_model(torch.device("cpu"))


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_refused_and_not_executed(folder, tmp_path):
    (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    restate(folder)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        open_checkpoint(folder).load_model(torch.device("cpu"))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("file", [WEIGHTS, CARD, "tokenizer.json"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file} missing"):
        open_checkpoint(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"}', "\ufffd{"])
def test_a_card_that_is_none_is_refused(folder, text):
    (folder / CARD).write_text(text)
    with pytest.raises(CheckpointError, match="no model card"):
        open_checkpoint(folder)


def test_an_unknown_name_lists_the_embedded_ones():
    with pytest.raises(CheckpointError, match="neither a folder nor an embedded checkpoint"):
        open_checkpoint("maxi")


def test_weights_that_are_no_numbers_are_refused(folder):
    tensors = load_file(folder / WEIGHTS)
    tensors["decoder_bias"][3] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    restate(folder)
    with pytest.raises(CheckpointError, match="decoder_bias holds values that are no finite numbers"):
        open_checkpoint(folder).load_model(torch.device("cpu"))


@pytest.mark.parametrize("key", ["sha256", "architecture"])
def test_a_card_with_something_else_in_place_of_a_mapping_is_refused(folder, key):
    card = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**card, key: None}))
    with pytest.raises(CheckpointError, match="no model card"):
        open_checkpoint(folder)
