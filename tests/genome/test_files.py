"""Files written aside: whole or absent, cleaned of what killed writers left, and clear about a full disk."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dnagrinder.errors import OutputError
from dnagrinder.genome import files
from dnagrinder.genome.files import scratch_folder, written_aside

WRITER = """
import os, sys
from pathlib import Path
from dnagrinder.genome.files import scratch_folder, written_aside
with {function}(Path(sys.argv[1])) as aside:
    (aside / "file" if aside.is_dir() else aside).write_text("half")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("function", ["written_aside", "scratch_folder"])
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path, function: str) -> None:
    target = tmp_path / "table"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", WRITER.format(function=function), target], env=environment, check=False)
    assert done.returncode == -9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".")
    with written_aside(tmp_path / "other") as aside:
        aside.write_text("1")
    assert left.exists()
    with written_aside(target) as aside:
        assert not left.exists()
        aside.write_text("2")
    assert {path.name for path in tmp_path.iterdir()} == {"other", "table"}


def test_a_living_writer_keeps_its_aside(tmp_path: Path) -> None:
    with written_aside(tmp_path / "table") as first, written_aside(tmp_path / "table.tbi") as second:
        first.write_text("1")
        second.write_text("2")
        with scratch_folder(tmp_path / "table") as one, scratch_folder(tmp_path / "table") as other:
            assert len({first, second, one, other}) == 4
        assert first.exists()


def test_a_writer_in_a_container_of_the_same_name_keeps_its_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has a number that nobody has here, or that another has."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with monkeypatch.context() as there:
        there.setattr(os, "readlink", lambda _: "pid:[1]")
        there.setattr(os, "getpid", lambda: dead.pid)
        with written_aside(tmp_path / "table") as theirs:
            theirs.write_text("1")
            there.undo()
            with written_aside(tmp_path / "table") as ours:
                ours.write_text("2")
            assert theirs.read_text() == "1"
    assert (tmp_path / "table").read_text() == "1"


def test_an_error_of_the_block_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "table"
    target.write_text("before")

    def fail(half: Path) -> None:
        half.write_text("half")
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), written_aside(target) as aside:
        fail(aside)
    with pytest.raises(ValueError, match="mine"), scratch_folder(target) as folder:
        fail(folder / "half")
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    assert target.read_text() == "before"


@pytest.mark.parametrize(
    ("code", "advice"),
    [(errno.ENOSPC, "free some space"), (errno.EDQUOT, "quota"), (errno.EROFS, "name a place"), (None, "name a place")],
)
def test_a_failing_write_is_told_with_what_to_do(tmp_path: Path, code: int | None, advice: str) -> None:
    error = OSError(code, "why") if code else OSError("why")
    for writing in (written_aside, scratch_folder):
        with pytest.raises(OutputError, match=rf"table cannot be written: .*{advice}"), writing(tmp_path / "table"):
            raise error


def test_htslib_says_no_reason_but_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_free_bytes", lambda _: 0)
    with pytest.raises(OutputError, match="No space left on device; free some space"), written_aside(tmp_path / "table"):
        raise OSError("Error closing BGZFile object")


def test_an_error_about_another_file_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), written_aside(tmp_path / "table"):
        (tmp_path / "input").read_text()
    with pytest.raises(FileNotFoundError), scratch_folder(tmp_path / "table"):
        (tmp_path / "input").read_text()
