"""The manifest names exactly the library's text files: what a remote import of the workflow has to bring along."""

from __future__ import annotations

from pathlib import Path

FOLDERS = ("workflow/dnagrinder", "workflow/schemas", "kernels/dnagrinder_kernels")


def test_manifest_names_the_files_of_the_library(repository: Path) -> None:
    present = {
        str(path.relative_to(repository))
        for folder in FOLDERS
        for path in (repository / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted = {name for name in present if "/checkpoints/" not in name or name.endswith("/card.json")}
    named = (repository / "workflow" / "manifest.txt").read_text().split()
    assert named == sorted(named)
    assert set(named) == wanted, "the library's files have changed: run `make manifest`"


def test_named_files_are_text(repository: Path) -> None:
    for name in (repository / "workflow" / "manifest.txt").read_text().split():
        (repository / name).read_text(encoding="utf-8")
