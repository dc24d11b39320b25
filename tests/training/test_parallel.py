"""Several processes: the same loss curve and the same weights as one, states that either can continue."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dnagrinder.errors import ConfigError
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.training.log import read_log
from dnagrinder.training.parallel import ShardedWeights, World
from dnagrinder.training.state import states

ARCHITECTURE = {"vocabulary": 256, "hidden": 32, "layers": 2, "heads": 2, "intermediate": 48, "tie_decoder": True}
STEPS = 10


@pytest.fixture
def arguments(tmp_path, run_document, corpus, tokenizer):
    """Arguments of a small float32 training, less ``--out``."""
    run_document["architecture"] = ARCHITECTURE
    run_document["recipe"] |= {"steps": STEPS, "tokens_per_step": 64 * 6, "learning_rate": 3e-3, "micro_tokens": 128}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run_document))
    tokenizer.save(tmp_path / "tokenizer.json")
    paths = (tmp_path / "run.yaml", "--corpus", corpus.folder, "--tokenizer", tmp_path / "tokenizer.json")
    return ["pretrain", *map(str, paths), "--precision=float32", "--device=cpu", "--threads=1"]


def command(arguments, out, processes=1):
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] if processes > 1 else []
    return [sys.executable, "-m", *launcher, "dnagrinder", *arguments, f"--out={out}"]


def environment(repository):
    return {
        **os.environ,
        "PYTHONPATH": f"{repository / 'workflow'}:{repository / 'kernels'}",
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }


@pytest.fixture
def train(arguments, repository):
    def run(out, processes=1, *extra):
        subprocess.run(
            command([*arguments, *extra], out, processes), env=environment(repository), check=True, capture_output=True
        )
        return read_log(out)

    return run


def assert_close(found, expected):
    assert [row.tokens for row in found] == [row.tokens for row in expected]
    assert [row.loss for row in found] == pytest.approx([row.loss for row in expected], rel=1e-4)
    assert [row.gradient_norm for row in found] == pytest.approx([row.gradient_norm for row in expected], rel=1e-3)


def checkpoint(out):
    return load_file(out / "toy" / "model.safetensors")


@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
def test_two_processes_learn_what_one_learns(train, tmp_path, sharded):
    alone = train(tmp_path / "one")
    both = train(tmp_path / "two", 2, *(["--sharded"] if sharded else []))
    assert len(both) == STEPS
    assert_close(both, alone)
    expected = checkpoint(tmp_path / "one")
    found = checkpoint(tmp_path / "two")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.dtype == torch.float32  # what was trained in
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4)


def test_a_state_is_continued_by_another_number_of_processes(train, tmp_path):
    alone = train(tmp_path / "one")
    out = tmp_path / "changing"
    train(out, 2, "--steps=4", "--sharded")
    train(out, 1, "--steps=7")
    assert_close(train(out, 2), alone)


def test_a_finished_training_leaves_its_checkpoint_alone(train, tmp_path):
    out = tmp_path / "one"
    train(out)
    card = out / "toy" / "card.json"
    measured = json.loads(card.read_text()) | {"metrics": {"masked_token_accuracy": 0.5}}
    card.write_text(json.dumps(measured))
    train(out)
    assert json.loads(card.read_text()) == measured
    card.unlink()
    train(out)
    assert json.loads(card.read_text())["metrics"] == {}


def test_a_killed_training_ends_with_the_same_weights(arguments, train, repository, tmp_path):
    train(tmp_path / "whole")
    out = tmp_path / "killed"
    process = subprocess.Popen(
        [*command(arguments, out), "--save-every=1"],
        env=environment(repository),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while len(states(out)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert states(out)
    assert not (out / "toy").exists()
    rows = train(out)
    assert [row.step for row in rows] == list(range(1, STEPS + 1))
    digests = [
        hashlib.sha256((folder / "toy" / "model.safetensors").read_bytes()).hexdigest()
        for folder in (tmp_path / "whole", out)
    ]
    assert digests[0] == digests[1]


PATIENT = """
import os, pathlib, sys, time
from datetime import timedelta
import torch
from dnagrinder.training import parallel

parallel.TIMEOUT = timedelta(seconds=5)
folder = pathlib.Path(sys.argv[1])
(folder / os.environ["RANK"]).touch()
while len(list(folder.iterdir())) < 2:
    time.sleep(0.05)
with parallel.joined_world(torch.device("cpu")) as world:
    time.sleep(8 if world.is_first else 0)
    world.wait()
"""


def test_waiting_for_the_first_process_has_no_short_timeout(repository, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PATIENT, str(tmp_path)], env=environment(repository) | world | {"RANK": rank}
        )
        for rank in "01"
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]


def test_one_process_shards_nothing():
    with pytest.raises(ConfigError, match="torchrun"):
        ShardedWeights(MaskedLanguageModel, torch.float32, World())
