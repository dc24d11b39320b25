"""The state of a training on disk: written aside and renamed, the newest few kept.

``state-00001200.safetensors`` holds ``master.*``, ``exp_avg.*`` and ``exp_avg_sq.*`` (float32, whole whatever the number of
processes) and, as metadata, step, seconds and the identity of the run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dnagrinder.errors import CheckpointError
from dnagrinder.training.tensor_files import write_tensors

KEPT = 2  # states on disk


@dataclass(frozen=True)
class TrainingState:
    """A saved state: steps done, seconds spent, and the tensors by name."""

    step: int
    seconds: float
    tensors: dict[str, Tensor]


def save_state(folder: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Write a state and remove all but the newest KEPT. Raises OutputError, and then removes none."""
    path = folder / f"state-{state.step:08d}.safetensors"
    facts = {"step": str(state.step), "seconds": repr(state.seconds), "run": json.dumps(identity)}
    write_tensors(save_file, {name: tensor.contiguous() for name, tensor in state.tensors.items()}, path, facts)
    for old in states(folder)[:-KEPT]:
        old.unlink()


def load_newest_state(folder: Path, identity: dict[str, Any]) -> TrainingState | None:
    """The newest state of a folder; None where it has none.

    Raises:
        CheckpointError: it cannot be read, or belongs to a run with other settings.
    """
    found = states(folder)
    if not found:
        return None
    path = found[-1]
    facts = _facts(path)
    saved = json.loads(facts["run"])
    wanted = json.loads(json.dumps(identity))
    different = sorted(key for key in {*saved, *wanted} if saved.get(key) != wanted.get(key))
    if different:
        raise CheckpointError(
            f"{path} belongs to a run with other settings ({', '.join(different)}); give another folder or the same settings"
        )
    return TrainingState(int(facts["step"]), float(facts["seconds"]), load_file(path))


def newest_identity(folder: Path) -> dict[str, Any]:
    """The identity that the newest state of a folder was saved with. Raises CheckpointError where there is none."""
    found = states(folder)
    if not found:
        raise CheckpointError(f"{folder} holds no state of a training")
    identity: dict[str, Any] = json.loads(_facts(found[-1])["run"])
    return identity


def _facts(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata())
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; remove it to go on from the state before it") from error


def states(folder: Path) -> list[Path]:
    """The states of a folder, oldest first."""
    return sorted(path for path in folder.glob("state-*.safetensors") if re.fullmatch(r"state-\d{8}", path.stem))
