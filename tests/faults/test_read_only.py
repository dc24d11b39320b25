"""Inputs that cannot be written beside, and a user without any place for caches."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from workflow_run import Run

from tests.faults.conftest import Recorder
from tests.faults.records import Fault
from tests.faults.test_shard import environment, score_command, shard

__all__ = ["shard"]
INPUTS = ("reference.fa.gz", "one.vcf", "joint.vcf", "exon.bed", "model")


def without_override(command: list[str]) -> list[str]:
    """The command such that read-only is read-only for it, even where root runs the tests."""
    if os.geteuid() != 0:
        return command
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("root, and no setpriv that could give up root's right to write anywhere")
    return [*prefix, *command]


def lock(folder: Path) -> None:
    """Take the right to write from a folder and all that lies in it."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def unlock(folder: Path) -> None:
    """Give it back, so that the folder can be removed."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_inputs_in_a_read_only_folder(new_run: Callable[..., Run], wanted: dict[str, bytes], record: Recorder) -> None:
    run = new_run()
    inputs = run.folder / "inputs"
    inputs.mkdir()
    for name in INPUTS:
        (run.folder / name).rename(inputs / name)
        (run.folder / name).symlink_to(inputs / name)
    for name in ("reference.fa.gz.fai", "reference.fa.gz.gzi"):
        (run.folder / name).unlink()
    before = {path: path.read_bytes() for path in inputs.rglob("*") if path.is_file()}
    lock(inputs)
    try:
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "-s", str(run.repository / "workflow" / "Snakefile")]
        variables = {**environment(), "XDG_CACHE_HOME": str(run.folder / "cache")}
        done = subprocess.run(
            without_override(command), cwd=run.folder, env=variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert {path: path.read_bytes() for path in inputs.rglob("*") if path.is_file()} == before
    finally:
        unlock(inputs)
    record(Fault.READ_ONLY, 1, wanted, run.outputs())


def test_no_place_for_caches(
    undisturbed: tuple[Run, dict[str, float]], shard: Path, tmp_path: Path, record: Recorder
) -> None:
    """Home cannot be written; then the named folders of temporary files and of kernels neither."""
    run = undisturbed[0]
    nowhere, passing = tmp_path / "nowhere", tmp_path / "passing"
    nowhere.mkdir()
    passing.mkdir()
    lock(nowhere)
    kept = {name: value for name, value in environment().items() if not name.startswith(("DNAGRINDER_", "XDG_"))}
    found = {}
    for name, temporary in (("whole", None), ("passing", passing), ("nowhere", nowhere)):
        out = tmp_path / "out" / f"{name}.parquet"
        places = {"HOME": str(nowhere), "TMPDIR": str(temporary)} if temporary else {}
        places |= {"DNAGRINDER_CACHE": str(nowhere)} if temporary == nowhere else {}  # TMPDIR has substitutes
        done = subprocess.run(
            without_override(score_command(run, shard, out)),
            env={**kept, **places},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert ("RuntimeWarning" in done.stderr) == (name == "nowhere"), done.stderr
        found[name] = out.read_bytes()
    assert list(nowhere.iterdir()) == []
    assert list(passing.rglob("*.digest.json"))
    record(Fault.NO_CACHE, 1, {"scores.parquet": found["whole"]}, {"scores.parquet": found["passing"]})
