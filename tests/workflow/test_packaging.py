"""Lock, environments and project metadata name the same packages and versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CONDA_NAMES = {"pytorch": "torch", "pytorch-gpu": "torch"}
NOT_LOCKED = {"python", "pip", "git", "ninja", "wheel", "cxx-compiler"}


@pytest.fixture(scope="module")
def lock(repository: Path) -> dict[str, Version]:
    """Package to its locked version."""
    lines = [line for line in (repository / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    return {name: Version(version) for name, version in (line.split("==") for line in lines)}


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    """The project table of pyproject.toml."""
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def test_torch_stands_first_without_local_version(repository: Path) -> None:
    lines = [line for line in (repository / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "torch==2.13.0"
    assert not [line for line in lines if "+" in line or line.startswith("nvidia")]


def test_lock_satisfies_the_project(project: dict, lock: dict[str, Version]) -> None:
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["workflow"], *extras["slurm"]]:
        requirement = Requirement(text)
        assert lock[canonicalize_name(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("name", ["dnagrinder", "gpu"])
def test_environment_agrees_with_the_lock(repository: Path, lock: dict[str, Version], name: str) -> None:
    environment = yaml.safe_load((repository / "envs" / f"{name}.yaml").read_text())
    assert environment["channels"] == ["conda-forge", "bioconda", "nodefaults"]
    for dependency in environment["dependencies"]:
        package, _, specifier = dependency.partition(" ")
        if package in NOT_LOCKED:
            continue
        version = lock[canonicalize_name(CONDA_NAMES.get(package, package))]
        if specifier.startswith(">="):
            assert version >= Version(specifier.removeprefix(">="))
        else:
            assert f"={version.major}.{version.minor}" == specifier, package


def test_every_package_of_an_environment_is_pinned(repository: Path) -> None:
    for path in sorted((repository / "envs").glob("*.yaml")):
        for dependency in yaml.safe_load(path.read_text())["dependencies"]:
            assert re.fullmatch(r"[\w-]+ (=\d+(\.\d+)*|>=\d+(\.\d+)*,<\d+(\.\d+)*)", dependency), (
                f"{path.name}: {dependency}"
            )


def test_environments_hold_all_that_the_library_needs(repository: Path, project: dict) -> None:
    needed = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    for name in ("dnagrinder", "gpu"):
        environment = yaml.safe_load((repository / "envs" / f"{name}.yaml").read_text())
        present = {entry.split()[0] for entry in environment["dependencies"]}
        assert needed <= {CONDA_NAMES.get(package, package) for package in present}


def test_snakemake_floor_is_the_same_everywhere(repository: Path, project: dict) -> None:
    (text,) = project["optional-dependencies"]["workflow"]
    floor = re.search(r'min_version\("(\d+\.\d+)\.0"\)', (repository / "workflow" / "Snakefile").read_text())
    assert floor is not None
    assert str(Requirement(text).specifier) == f">={floor[1]}"


def test_every_rule_keeps_the_house_rules(repository: Path) -> None:
    for path in sorted((repository / "rules").glob("*.smk")):
        for rule in path.read_text().split("\nrule ")[1:]:
            for directive in (
                "output:",
                "log:",
                "conda:",
                "params:",
                "threads:",
                "resources:",
                "shell:",
                "mem_mb=",
                "runtime=",
            ):
                assert f" {directive}" in rule, f"{path.name}: {rule.splitlines()[0]} lacks {directive}"
            assert "retries:" not in rule
            memory = re.search(r"mem_mb=.*?(\d{3,})", rule)
            assert memory is not None
            assert int(memory[1]) >= 500
            name = rule.partition(":")[0]
            grows = rule.count("lambda wildcards, attempt:"), rule.count(" * attempt,")
            # training goes on from its last state, so its next attempt needs no more time
            assert grows == ((2, 1) if name == "pretrain_model" else (2, 2)), f"{path.name}: {name}"
