"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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
