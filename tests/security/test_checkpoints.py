"""Model folders made to do harm: nothing in them is run, and nothing of their sizes is believed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import make_tiny_checkpoint

from dnagrinder.errors import CheckpointError
from dnagrinder.model import checkpoint as module
from dnagrinder.model.checkpoint import CARD, TOKENIZER, WEIGHTS, file_sha256, open_checkpoint


class Payload:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good checkpoint."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    """A copy of a good checkpoint."""
    return Path(shutil.copytree(tiny, tmp_path / "model"))


def agree(folder: Path, **changes: object) -> None:
    """Make the card agree with the files, and its architecture with ``changes``."""
    card = json.loads((folder / CARD).read_text())
    card["sha256"] = {name: file_sha256(folder / name) for name in (WEIGHTS, TOKENIZER)}
    card["architecture"] |= changes
    (folder / CARD).write_text(json.dumps(card))


def load(folder: Path) -> None:
    """What every command does with a checkpoint."""
    open_checkpoint(folder).load_model(torch.device("cpu"))


def header(tensors: object, data: bytes, length: int | None = None) -> bytes:
    """Content of a safetensors file with any header."""
    text = json.dumps(tensors).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_pickled_weights_are_not_unpickled(folder: Path, tmp_path: Path, kind: str) -> None:
    mark = tmp_path / "ran"
    if kind == "pickle":
        (folder / WEIGHTS).write_bytes(pickle.dumps(Payload(mark)))
    else:
        torch.save({"weight": Payload(mark)}, folder / WEIGHTS)
    agree(folder)
    with pytest.raises(CheckpointError, match=r"not a safetensors file.*pickled weights are refused"):
        load(folder)
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        header({}, b"", 1 << 62),
        header({}, b"", 200 << 20) + bytes(1 << 20),
        header({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, b"abcd"),
        header({name: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for name in "ab"}, b"abcd"),
        header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, b"abcd"),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"abcd"),
        b"\0" * 7,
    ],
    ids=["endless header", "large header", "data beyond the end", "overlap", "backwards", "negative", "short"],
)
def test_headers_that_lie(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    agree(folder)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load(folder)


def test_tensors_of_another_architecture_cost_no_memory(folder: Path) -> None:
    agree(folder, hidden=1 << 16, heads=2, vocabulary=1 << 24, intermediate=1 << 18, layers=200)  # 100 terabytes
    with pytest.raises(CheckpointError, match=r"does not fit its card: missing .* more"):
        load(folder)


@pytest.mark.parametrize(
    "change", [{"layers": 10**9}, {"hidden": 1 << 40}, {"heads": True * 0}, {"layers": "12"}, {"layers": 1e3}]
)
def test_an_architecture_without_measure_is_refused(folder: Path, change: dict[str, object]) -> None:
    agree(folder, **change)
    with pytest.raises(CheckpointError, match=r"architecture: .* must be a whole number from 1 to"):
        load(folder)


@pytest.mark.parametrize("name", [CARD, TOKENIZER])
def test_oversized_texts_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with (folder / name).open("r+b") as file:
        file.truncate(module.MOST_JSON + 1)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("was read"))
    with pytest.raises(CheckpointError, match=f"{name} is 67,108,865 bytes long"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, "null", "[]", '{"sha256": {}}', '{"sha256": [], "architecture": {}, "name": ""}']
)
def test_cards_that_are_no_cards(folder: Path, text: str) -> None:
    (folder / CARD).write_text(text)
    with pytest.raises(CheckpointError, match="is no model card"):
        open_checkpoint(folder)


@pytest.mark.parametrize("text", ["[" * 200_000, "{}", "null", '{"model": {"type": "BPE"}}'])
def test_tokenizers_that_are_none(folder: Path, text: str) -> None:
    (folder / TOKENIZER).write_text(text)
    agree(folder)
    with pytest.raises(CheckpointError, match="tokenizer"):
        open_checkpoint(folder)


def test_weights_that_are_no_numbers(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    first = sorted(tensors)[0]
    tensors[first] = torch.full_like(tensors[first], torch.nan)
    save_file(tensors, folder / WEIGHTS)
    agree(folder)
    with pytest.raises(CheckpointError, match=f"{first} holds values that are no finite numbers"):
        load(folder)
