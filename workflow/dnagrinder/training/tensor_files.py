"""Safetensors files of a training: written aside and renamed, readable for all, with an error of ours where that fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError

from dnagrinder.errors import OutputError
from dnagrinder.genome.files import written_aside

T = TypeVar("T")


def write_tensors(
    save: Callable[[dict[str, T], Path, dict[str, str] | None], None],
    tensors: Mapping[str, T],
    path: Path,
    metadata: dict[str, str] | None = None,
) -> None:
    """Write tensors with ``save`` (``save_file`` of safetensors.torch or safetensors.numpy).

    Args:
        metadata: texts by name; with several names the file's bytes are in random order.

    Raises:
        OutputError: the file cannot be written, e.g. because the disk is full.
    """
    with written_aside(path) as aside:
        try:
            save(dict(tensors), aside, metadata)
        except SafetensorError as error:
            raise OutputError(
                f"{path} cannot be written: {error}; free some space and start the same command again"
            ) from error
        aside.chmod(0o644)  # safetensors writes for the owner alone
