"""A shard that is stopped in the middle, or runs out of memory: little is done again, and the scores are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from workflow_run import Run

from dnagrinder.scoring.packing import Engine
from dnagrinder.scoring.parameters import ScoringParameters
from dnagrinder.scoring.parts import PART
from dnagrinder.scoring.session import open_session
from dnagrinder.scoring.tables import ALLELE_SCHEMA, read_parquet, write_parquet
from tests.faults.conftest import Recorder
from tests.faults.records import Fault

ALLELES = 100_000
SCORER = """
import os, sys
from pathlib import Path
import pyarrow as pa, pyarrow.compute as pc
from dnagrinder.scoring.parts import scored_in_parts
from dnagrinder.scoring.tables import SCORE_SCHEMA, read_parquet, write_parquet

shard, out, journal, dies_at = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
provenance = {"checkpoint": {"name": "stub", "sha256": "0"}} | dict.fromkeys(
    ["tokenizer_sha256", "reference_sha256", "parameters_sha256"], "0")
scored = 0

def score(rows, on_progress):
    # a cheap scorer that notes each thousand alleles before it goes on, and dies in the middle of a part
    global scored
    for first in range(0, len(rows), 1000):
        count = len(rows.slice(first, 1000))
        with journal.open("a") as notes:
            notes.write(f"{count}\\n")
        scored += count
        if scored >= dies_at:
            os.kill(os.getpid(), 9)
    columns = {name: rows[name] for name in rows.column_names}
    columns["score"] = pc.divide(pc.cast(rows["start"], pa.float64()), 8.0)
    for field in SCORE_SCHEMA:
        columns.setdefault(field.name, pa.nulls(len(rows), field.type))
    return pa.table(columns).select(SCORE_SCHEMA.names).cast(SCORE_SCHEMA)

with scored_in_parts(read_parquet(shard), out, provenance, score) as scores:
    write_parquet(scores, out, provenance)
"""


def environment() -> dict[str, str]:
    """Of this process, with the library in the path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def test_a_killed_shard_of_100_000_alleles_scores_one_part_again(tmp_path: Path, record: Recorder) -> None:
    starts = np.arange(ALLELES)
    columns = [["1"] * ALLELES, starts, ["A"] * ALLELES, ["G"] * ALLELES]
    shard = tmp_path / "shard.parquet"
    write_parquet(pa.table(columns, schema=ALLELE_SCHEMA), shard)

    def run(name: str, dies_at: int) -> tuple[int, int]:
        (tmp_path / name).mkdir(exist_ok=True)
        out, journal = tmp_path / name / "scores.parquet", tmp_path / f"{name}.journal"
        command = [sys.executable, "-c", SCORER, str(shard), str(out), str(journal), str(dies_at)]
        before = sum(map(int, journal.read_text().split())) if journal.exists() else 0
        done = subprocess.run(command, env=environment(), check=False)
        return done.returncode, sum(map(int, journal.read_text().split())) - before

    assert run("whole", ALLELES + 1) == (0, ALLELES)
    code, first = run("killed", ALLELES * 9 // 10 + PART // 2)
    assert code == -signal.SIGKILL
    assert first == ALLELES * 9 // 10 + PART // 2
    assert not (tmp_path / "killed" / "scores.parquet").exists()
    code, second = run("killed", ALLELES + 1)
    assert code == 0
    assert 0 < first + second - ALLELES <= PART
    whole, killed = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("whole", "killed"))
    record(Fault.KILLED_SHARD, 1, whole, killed)


@pytest.fixture(scope="module")
def shard(undisturbed: tuple[Run, dict[str, float]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All alleles of the undisturbed run."""
    folder = undisturbed[0].folder / "results"
    tables = [read_parquet(path) for path in sorted((folder / "shards").glob("shard-*.parquet"))]
    path = tmp_path_factory.mktemp("shard") / "shard.parquet"
    write_parquet(pa.concat_tables(tables), path)
    return path


def score_command(run: Run, shard: Path, out: Path) -> list[str]:
    """The command line that scores a shard with the run's reference and model."""
    genome, model = run.folder / "results" / "reference" / "genome.fa.gz", run.folder / "model"
    options = [f"--reference={genome}", f"--checkpoint={model}", "--device=cpu", f"--out={out}"]
    return [sys.executable, "-m", "dnagrinder", "score-alleles", str(shard), *options]


STOPPED = """
# The command line with parts of four alleles, which sends itself SIGTERM as a certain part begins
import os, signal
from dnagrinder.cli import main
from dnagrinder.scoring import parts, session

parts.PART = 4
score, begun = session.ScoringSession.score_alleles, 0

def counted(self, rows, on_progress=None):
    global begun
    begun += 1
    if begun == int(os.environ["STOP_AT"]):
        os.kill(os.getpid(), signal.SIGTERM)
    return score(self, rows, on_progress)

session.ScoringSession.score_alleles = counted
try:
    main()
finally:
    print(begun)
"""


def test_sigterm_keeps_finished_parts_and_leaves_nothing_half_written(
    undisturbed: tuple[Run, dict[str, float]], shard: Path, tmp_path: Path, record: Recorder
) -> None:
    def run(name: str, stop_at: int) -> tuple[int, int, str]:
        """Exit code, parts begun and what was said."""
        command = score_command(undisturbed[0], shard, tmp_path / name / "scores.parquet")
        command[1:3] = ["-c", STOPPED]
        variables = environment() | {"STOP_AT": str(stop_at)}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        return done.returncode, int(done.stdout.split()[-1]), done.stderr

    def files(name: str) -> dict[str, bytes]:
        paths = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in paths}

    code, whole, told = run("whole", stop_at=0)
    assert code == 0, told
    code, begun, told = run("stopped", stop_at=3)
    assert (code, begun) == (143, 3)
    assert told.splitlines()[-1] == "dnagrinder: terminated; what is finished is kept"
    assert "Traceback" not in told
    assert sorted(name[-14:] for name in files("stopped")) == ["000000.parquet", "000001.parquet"]
    code, begun, told = run("stopped", stop_at=0)
    assert (code, begun) == (0, whole - 2), told
    record(Fault.TERMINATED, 1, files("whole"), files("stopped"))


def test_out_of_memory_takes_a_smaller_budget_and_gives_the_same_scores(
    undisturbed: tuple[Run, dict[str, float]], shard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Recorder
) -> None:
    run = undisturbed[0]
    reference = run.folder / "results" / "reference" / "genome.fa.gz"
    forward: Callable[..., list[torch.Tensor]] = Engine._forward
    refused = []

    def scarce(self: Engine, parts: Sequence[object], pack: list[int], extract: object) -> list[torch.Tensor]:
        if len(parts) > 3:
            refused.append(len(parts))
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return forward(self, parts, pack, extract)

    def scored(name: str) -> bytes:
        with open_session(reference, str(run.folder / "model"), ScoringParameters(), device="cpu") as session:
            write_parquet(session.score_alleles(read_parquet(shard)), tmp_path / name, session.provenance)
            if refused:
                assert session.engine.token_budget < 8192
        return (tmp_path / name).read_bytes()

    whole = scored("whole")
    monkeypatch.setattr(Engine, "_forward", scarce)
    scarce_bytes = scored("scarce")
    assert refused
    record(Fault.OUT_OF_MEMORY, len(refused), {"scores": whole}, {"scores": scarce_bytes})
