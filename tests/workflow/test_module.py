"""The ways in which a workflow is taken up by others: imported by path or from a tag, deployed, run from `.test`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from workflow_run import Run

from tests.workflow.test_snakefile import EXPECTED_JOBS, planned

CLONE = ("workflow", "rules", "envs", "kernels", "config", "profiles", ".test")
IMPORT = """\
configfile: "config/config.yaml"

module dnagrinder:
    snakefile: {snakefile}
    config: config
{more}
use rule * from dnagrinder as scores_*

rule mine:
    default_target: True
    input: rules.scores_all.input
"""
# What `snakedeploy deploy-workflow` writes into workflow/Snakefile
DEPLOYED = """\
from snakemake.utils import min_version

min_version("6.10.0")


configfile: "config/config.yaml"


# declare the dnagrinder workflow as a module
module dnagrinder:
    snakefile:
        {snakefile}
    config:
        config


use rule * from dnagrinder
"""


@dataclass(frozen=True)
class Remote:
    """A repository on a code host: ``snakefile`` names its tag, ``environment`` keeps the network out of reaching it."""

    snakefile: str
    environment: dict[str, str]
    weights: bytes


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory, repository: Path, tiny: Path) -> Remote:
    """This checkout as tag v1 of github.com/acme/grinder, with the tiny model as its embedded checkpoint `embedded`."""
    folder = tmp_path_factory.mktemp("remote")
    source, card = folder / "source", "workflow/dnagrinder/checkpoints/embedded/card.json"
    for name in ("workflow", "rules", "envs", "kernels"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "checkpoints"))
    shutil.copytree(tiny, (source / card).parent)
    listed = [line for line in (source / "workflow" / "manifest.txt").read_text().split() if "/checkpoints/" not in line]
    (source / "workflow" / "manifest.txt").write_text("\n".join([card, *listed]) + "\n")
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(source)]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["tag", "v1"]):
        subprocess.run([*git, *arguments], check=True)
    (folder / "git" / "acme").mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", "--bare", source, folder / "git" / "acme" / "grinder"], check=True)
    environment = {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{folder}/git/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }
    snakefile = 'github("acme/grinder", path="workflow/Snakefile", tag="v1")'
    return Remote(snakefile, environment, (tiny / "model.safetensors").read_bytes())


def one_sample(run: Run) -> Run:
    """The run with the first line of its sample sheet."""
    sheet = run.folder / "config" / "samples.tsv"
    sheet.write_text("\n".join(sheet.read_text().splitlines()[:2]) + "\n")
    return run


def test_import_by_path_plans_the_same_jobs(new_run: Callable[..., Run], repository: Path) -> None:
    run = new_run()
    snakefile = repr(str(repository / "workflow" / "Snakefile"))
    (run.folder / "Snakefile").write_text(IMPORT.format(snakefile=snakefile, more=""))
    jobs = planned(run.snakemake("-n", "--snakefile", "Snakefile"))
    assert jobs == {"mine": 1} | {f"scores_{name}": count for name, count in EXPECTED_JOBS.items() if name != "all"}


def test_prefix_moves_what_is_made_and_changes_no_byte(new_run: Callable[..., Run], repository: Path) -> None:
    """All outputs, logs and benchmarks go below the prefix; the user's own files stay where the settings say."""
    plain, run = one_sample(new_run()), one_sample(new_run())
    plain.snakemake()
    snakefile = repr(str(repository / "workflow" / "Snakefile"))
    (run.folder / "Snakefile").write_text(IMPORT.format(snakefile=snakefile, more='    prefix: "dna"\n'))
    run.snakemake("--snakefile", "Snakefile")
    assert run.outputs("dna/results") == plain.outputs()
    assert run.outputs("dna/logs").keys() == plain.outputs("logs").keys()
    assert run.outputs("dna/benchmarks").keys() == plain.outputs("benchmarks").keys()
    assert not [name for name in ("results", "logs", "benchmarks") if (run.folder / name).exists()]
    assert "Nothing to be done" in run.snakemake("-n", "--snakefile", "Snakefile")


def test_import_from_a_tag(new_run: Callable[..., Run], remote: Remote) -> None:
    """The rules run from Snakemake's cache of a tag: library by the manifest, embedded weights from the clone."""
    run = new_run(checkpoint="embedded")
    shutil.rmtree(run.folder / "model")
    (run.folder / "Snakefile").write_text(IMPORT.format(snakefile=remote.snakefile, more=""))
    target = "results/scores/scores-0001-of-0002.parquet"
    run.snakemake(target, "--snakefile", "Snakefile", environment=remote.environment)
    assert (run.folder / target).is_file()
    assert (run.folder / "results/checkpoint/embedded/model.safetensors").read_bytes() == remote.weights
    again = run.snakemake("-n", target, "--snakefile", "Snakefile", environment=remote.environment)
    assert "Nothing to be done" in again


def test_deployed_layout(new_run: Callable[..., Run], remote: Remote) -> None:
    """workflow/Snakefile imports the tag, config/ lies beside it, and Snakemake is started in the folder of both."""
    run = new_run(checkpoint="embedded")
    shutil.rmtree(run.folder / "model")
    (run.folder / "workflow").mkdir()
    (run.folder / "workflow" / "Snakefile").write_text(DEPLOYED.format(snakefile=remote.snakefile))
    where = ("--snakefile", "workflow/Snakefile")
    assert planned(run.snakemake("-n", *where, environment=remote.environment)) == EXPECTED_JOBS | {"fetch_checkpoint": 1}
    run.snakemake("results/callsets/one/alleles.parquet", *where, environment=remote.environment)
    assert (run.folder / "results/callsets/one/alleles.parquet").is_file()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A copy of what a clone holds, to run in."""
    folder = tmp_path_factory.mktemp("clone")
    for name in CLONE:
        ignored = shutil.ignore_patterns("__pycache__", "results", "logs", "benchmarks", ".snakemake")
        shutil.copytree(repository / name, folder / name, ignore=ignored)
    shutil.copy(repository / "Snakefile", folder)
    return folder


@pytest.mark.parametrize(("snakefile", "directory"), [("Snakefile", ""), ("workflow/Snakefile", ".test")])
def test_clone_runs_the_example(clone: Path, snakefile: str, directory: str) -> None:
    """As a user does in the root, and as the catalog of workflows does in `.test`."""
    folder = clone / directory
    run = Run(folder, clone, yaml.safe_load((folder / "config" / "config.yaml").read_text()))
    where = ("--snakefile", str(clone / snakefile))
    callsets = {"read_variants": 2, "annotate_variants": 2}
    people = dict.fromkeys(("annotate_sample", "score_context", "report_sample"), 4)
    assert planned(run.snakemake("-n", *where)) == EXPECTED_JOBS | callsets | people
    run.snakemake("results/callsets/HG00096/alleles.parquet", *where)
    assert (folder / "results/callsets/HG00096/alleles.parquet").is_file()
