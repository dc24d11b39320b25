"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a time limit would fail where the machine is busy
settings.load_profile("any machine")
REPOSITORY = Path(__file__).resolve().parent.parent


CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")],
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes that share the tests take the files with slow tests first, so that they end at about the same time."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(params=["cpu", CUDA])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that the same expectations hold on; `pytest -m gpu` runs the GPU's half alone."""
    return torch.device(request.param)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout under test."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real genomes and call sets; the test is skipped where it is absent."""
    folder = Path(os.environ.get("DNAGRINDER_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "PROVENANCE.md").is_file():
        pytest.skip(f"real data absent: set DNAGRINDER_DATA to the folder that holds PROVENANCE.md (looked in {folder})")
    return folder
