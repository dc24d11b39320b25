"""Bad and unusual input, one folder a case: ``tests/cases/<name>/{config.yaml, input/, expected.yaml}``.

config.yaml: ``about`` (why the case is there); ``command`` (score-variants where absent, or workflow); ``prepare`` (a
damage of PREPARATIONS that plain files cannot hold); ``reference`` and ``checkpoint`` where they are not the common ones;
``settings`` for the workflow's configuration.

expected.yaml: ``exit_code`` and the fragments of ``error``, or ``counts`` of the command's JSON, ``records`` of the scored
VCF (``contig position status,status``), ``ledger`` rows (reason and fragments of the detail) and ``same_score`` (records
that must have one score). All cases share ``tests/cases/reference.fa``.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pysam
import pytest
import yaml
from safetensors.torch import load_file, save_file
from tiny_checkpoint import make_tiny_checkpoint

from dnagrinder.cli import main
from dnagrinder.model.checkpoint import file_sha256

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.parent.name for path in CASES.glob("*/config.yaml"))


@dataclass
class Workspace:
    """A case's files, copied to where they may be damaged."""

    folder: Path
    checkpoint: Path

    @property
    def vcf(self) -> Path:
        """The case's variants."""
        return next(iter(sorted(self.folder.glob("variants.vcf*"))), self.folder / "variants.vcf")

    @property
    def reference(self) -> Path:
        """The common reference."""
        return self.folder / "reference.fa"


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, standard output and error."""

    code: int
    out: str
    err: str


def truncate(work: Workspace) -> None:
    """Pack the VCF by bgzip and cut it in the middle of its first block of records."""
    packed = work.folder / "variants.vcf.gz"
    pysam.tabix_compress(str(work.vcf), str(packed))
    work.folder.joinpath("variants.vcf").unlink()
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])


def gzip_reference(work: Workspace) -> None:
    """Pack the reference by plain gzip."""
    work.reference.write_bytes(gzip.compress(work.reference.read_bytes()))


def text_reference(work: Workspace) -> None:
    """Put text in the place of the reference."""
    work.reference.write_text("once upon a time\n")


def read_only_reference(work: Workspace) -> None:
    """Move the reference into a folder that cannot be written."""
    locked = work.folder / "locked"
    locked.mkdir()
    work.reference.rename(locked / "reference.fa")
    work.reference.symlink_to(locked / "reference.fa")
    locked.chmod(0o555)


def rewrite_card(work: Workspace) -> None:
    """Make the card agree with the weights as they are now."""
    card = json.loads((work.checkpoint / "card.json").read_text())
    card["sha256"]["model.safetensors"] = file_sha256(work.checkpoint / "model.safetensors")
    (work.checkpoint / "card.json").write_text(json.dumps(card))


def alter_weights(work: Workspace) -> None:
    """Change one byte of the weights."""
    weights = work.checkpoint / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)


def drop_tensor(work: Workspace) -> None:
    """Leave out one tensor; the card agrees with the file."""
    weights = work.checkpoint / "model.safetensors"
    tensors = load_file(weights)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, weights)
    rewrite_card(work)


def pickle_weights(work: Workspace) -> None:
    """Put a pickle in the place of the weights; the card agrees with the file."""
    (work.checkpoint / "model.safetensors").write_bytes(pickle.dumps({"weight": [1.0, 2.0]}))
    rewrite_card(work)


def drop_card(work: Workspace) -> None:
    """Remove the card."""
    (work.checkpoint / "card.json").unlink()


PREPARATIONS: dict[str, Callable[[Workspace], None]] = {
    function.__name__: function
    for function in (
        truncate,
        gzip_reference,
        text_reference,
        read_only_reference,
        alter_weights,
        drop_tensor,
        pickle_weights,
        drop_card,
    )
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that all cases use."""
    return make_tiny_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """The case's folder; what it locked is unlocked at the end."""
    yield tmp_path
    for path in tmp_path.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def set_up(name: str, config: dict[str, Any], tiny: Path, scratch: Path) -> Workspace:
    """Copy case, reference and checkpoint, then do the case's damage."""
    work = Workspace(scratch, scratch / "model")
    sources = [(CASES / "reference.fa", scratch), *((path, scratch) for path in (CASES / name / "input").glob("*"))]
    work.checkpoint.mkdir()
    for source, target in [*sources, *((path, work.checkpoint) for path in tiny.iterdir())]:
        (target / source.name).write_bytes(source.read_bytes())
    if "prepare" in config:
        PREPARATIONS[config["prepare"]](work)
    return work


def score(work: Workspace, config: dict[str, Any]) -> list[str]:
    """Arguments of the command that scores the case."""
    return [
        "score-variants",
        str(work.vcf),
        f"--reference={work.folder / config.get('reference', 'reference.fa')}",
        f"--checkpoint={config.get('checkpoint', work.checkpoint)}",
        f"--out={work.folder / 'out' / 'scored.vcf.gz'}",
        f"--ledger={work.folder / 'out' / 'ledger.tsv'}",
        "--views=1",
        "--device=cpu",
        "--json",
    ]


def run_here(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Outcome:
    """Run the command line in this process."""
    monkeypatch.setattr(sys, "argv", ["dnagrinder", *arguments])
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return Outcome(code, captured.out, captured.err)


def run_apart(command: list[str], folder: Path, repository: Path) -> Outcome:
    """Run a command in a process of its own."""
    variables = {
        **os.environ,
        "PYTHONPATH": f"{repository / 'workflow'}:{repository / 'kernels'}",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def without_override(command: list[str]) -> list[str]:
    """The command such that read-only folders are read-only for it, even where root runs the tests."""
    if os.geteuid() != 0:
        return command
    prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("root, and no setpriv that could give up root's right to write anywhere")
    return [*prefix, *command]


def run_workflow(work: Workspace, config: dict[str, Any], repository: Path) -> Outcome:
    """Dry-run the workflow on the case."""
    settings = {"samples": "samples.tsv", "reference": "reference.fa", "checkpoint": "model"} | config["settings"]
    (work.folder / "config").mkdir()
    (work.folder / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    workflow = str(repository / "workflow" / "Snakefile")
    return run_apart([sys.executable, "-m", "snakemake", "-n", "-s", workflow], work.folder, repository)


def scored_records(path: Path) -> tuple[list[str], list[str | None]]:
    """Records of a scored VCF as ``contig position statuses`` and their DG_SCORE, both in file order."""
    shown, scores = [], []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            if line.startswith("#"):
                continue
            contig, position, *_ = fields = line.rstrip("\n").split("\t")
            info = dict(entry.partition("=")[::2] for entry in fields[7].split(";"))
            shown.append(f"{contig} {position} {info.get('DG_STATUS', '.')}")
            scores.append(info.get("DG_SCORE"))
    return shown, scores


def check_success(outcome: Outcome, expected: dict[str, Any], out: Path) -> None:
    """Compare counts, records, ledger and equal scores with what the case expects."""
    counts = json.loads(outcome.out)
    assert counts["alleles_in"] == counts["scored"] + counts["from_store"] + counts["rejected"]
    assert {name: counts[name] for name in expected["counts"]} == expected["counts"]
    records, scores = scored_records(out / "scored.vcf.gz")
    assert records == expected["records"]
    assert (out / "scored.vcf.gz.tbi").is_file()
    for record, scored in zip(records, scores, strict=True):
        for status, score in zip(record.split()[2].split(","), (scored or ".").split(","), strict=True):
            assert (score != ".") == (status == "scored"), record
    header, *lines = (out / "ledger.tsv").read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    assert len(rows) == counts["rejected"]
    for wanted in expected.get("ledger", []):
        (row,) = (row for row in rows if row["reason"] == wanted["reason"])
        for fragment in wanted["detail"]:
            assert fragment in row["detail"]
    equal = [scores[index] for index in expected.get("same_score", [])]
    assert len(set(equal)) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_case(
    name: str,
    tiny: Path,
    scratch: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = yaml.safe_load((CASES / name / "config.yaml").read_text())
    expected = yaml.safe_load((CASES / name / "expected.yaml").read_text())
    work = set_up(name, config, tiny, scratch)
    if config.get("command") == "workflow":
        outcome = run_workflow(work, config, repository)
    elif config.get("prepare") == "read_only_reference":
        command = without_override([sys.executable, "-m", "dnagrinder", *score(work, config)])
        outcome = run_apart(command, scratch, repository)
        assert [path.name for path in (scratch / "locked").iterdir()] == ["reference.fa"]
    else:
        outcome = run_here(score(work, config), monkeypatch, capsys)
    assert outcome.code == expected["exit_code"], outcome
    if expected["exit_code"] == 0:
        check_success(outcome, expected, scratch / "out")
    else:
        told = outcome.err + (outcome.out if config.get("command") == "workflow" else "")
        for fragment in expected["error"]:
            assert fragment in told, outcome
        assert not (scratch / "out" / "scored.vcf.gz").exists()
        if config.get("command") != "workflow":
            assert len(outcome.err.strip().splitlines()) == 1, outcome


def test_every_damage_is_used() -> None:
    used = {yaml.safe_load((CASES / name / "config.yaml").read_text()).get("prepare") for name in NAMES}
    assert used - {None} == set(PREPARATIONS)
