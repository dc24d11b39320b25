"""Fixtures of the workflow's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import make_tiny_checkpoint
from workflow_run import Run, make_run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny checkpoint."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def new_run(tmp_path_factory: pytest.TempPathFactory, repository: Path, tiny: Path) -> Callable[..., Run]:
    """Makes a run in a new folder; keyword arguments are keys of its configuration."""

    def make(**changes: Any) -> Run:
        return make_run(tmp_path_factory.mktemp("run"), repository, tiny, **changes)

    return make
