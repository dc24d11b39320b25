"""score_vcf, the main job in one process: what it keeps where it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dnagrinder.errors import OutputError
from dnagrinder.pipeline import score_vcf
from dnagrinder.scoring import parts
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.session import ScoringSession, open_session
from tests.tiny_checkpoint import make_tiny_checkpoint

PART = 5


@pytest.fixture
def session(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScoringSession]:
    """A tiny model; parts of five alleles."""
    monkeypatch.setattr(parts, "PART", PART)
    model = make_tiny_checkpoint(tmp_path / "model")
    reference = repository / "config" / "example" / "reference.fa.gz"
    with open_session(reference, str(model), ScoringParameters(window=128), device="cpu") as opened:
        yield opened


class StopError(Exception):
    """What stops a run."""


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("with_store", [False, True])
def test_a_stopped_run_goes_on_where_it_was(session, few, tmp_path, monkeypatch, with_store):
    def run(name: str) -> dict[str, object]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        store = tmp_path / f"{name}.store" if with_store else None
        return score_vcf(session, few, folder / "scored.vcf.gz", ledger=folder / "ledger.tsv", store=store)

    whole = run("whole")
    score, begun = ScoringSession.score_alleles, 0

    def stopped(self, alleles, on_progress=None):
        nonlocal begun
        begun += 1
        if begun == 3:
            raise StopError
        return score(self, alleles, on_progress)

    monkeypatch.setattr(ScoringSession, "score_alleles", stopped)
    with pytest.raises(StopError):
        run("stopped")
    assert len(files(tmp_path / "stopped")) == 2
    assert {path.parent.name for path in (tmp_path / "stopped").rglob("*.parquet")} == {".scored.vcf.gz.parts"}
    scored = []

    def counted(self, alleles, on_progress=None):
        scored.append(len(alleles))
        return score(self, alleles, on_progress)

    monkeypatch.setattr(ScoringSession, "score_alleles", counted)
    assert run("stopped") == whole
    assert sum(scored) == whole["unique_alleles"] - 2 * PART > 0
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_scores_are_not_lost_where_the_vcf_cannot_be_written(session, few, tmp_path, monkeypatch):
    out, store = tmp_path / "out" / "scored.vcf.gz", tmp_path / "store"
    score_vcf(session, few, tmp_path / "whole" / "scored.vcf.gz")
    with monkeypatch.context() as full:

        def no_space(*_, **__):
            raise OutputError("no space left")

        full.setattr("dnagrinder.pipeline.annotate_vcf", no_space)
        with pytest.raises(OutputError):
            score_vcf(session, few, out, store=store)
    monkeypatch.setattr("dnagrinder.scoring.packing.Engine._forward", None)
    score_vcf(session, few, out, store=store)
    assert files(out.parent) == files(tmp_path / "whole")
    counts = score_vcf(session, few, out, store=store)
    assert (counts["scored"], counts["rejected"]) == (0, counts["alleles_in"] - counts["from_store"])
