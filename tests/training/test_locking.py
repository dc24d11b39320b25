"""Two trainings never share a folder; a killed one leaves no lock."""

import os
import signal
import subprocess
import sys

import pytest

from dnagrinder.cli import main
from dnagrinder.errors import ConfigError
from dnagrinder.training.locking import locked

HOLDER = """
import sys, time
from pathlib import Path
from dnagrinder.training.locking import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/run."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_second_training_is_refused_until_the_first_is_gone(holder, tmp_path):
    with pytest.raises(ConfigError, match="another process is using"), locked(tmp_path / "run"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "run"):
        pass


def test_pretrain_refuses_a_folder_in_use(holder, tmp_path, monkeypatch, capsys):
    arguments = ["pretrain", "run.yaml", "--corpus=c", "--tokenizer=t", f"--out={tmp_path / 'run'}", "--device=cpu"]
    monkeypatch.setattr(sys, "argv", ["dnagrinder", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == ConfigError.exit_code
    assert "another process is using" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["lock"]
