"""The container definitions install what the lock file names, copy what is needed, and do the same as each other.

No container is built here: what is checked is the text, and that the copied files alone are a workflow and a package.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from workflow_run import Run

from tests.workflow.test_snakefile import EXPECTED_JOBS, planned


def docker_copies(text: str) -> list[str]:
    """What a Dockerfile copies."""
    return [source for line in re.findall(r"^COPY (.+)$", text, flags=re.MULTILINE) for source in line.split()[:-1]]


def apptainer_copies(text: str) -> list[str]:
    """What an Apptainer definition copies."""
    lines = text.split("%files\n")[1].split("\n\n")[0].splitlines()
    return [line.split()[0] for line in lines]


def commands(text: str) -> list[str]:
    """The commands that install, in order, one each."""
    lines = [line.strip().removeprefix("RUN ").removeprefix("&& ").removesuffix(" \\") for line in text.splitlines()]
    return [line for line in lines if line.startswith(("apt-get", "pip", "rm "))]


@pytest.fixture(scope="module")
def dockerfile(repository: Path) -> str:
    """Text of the Dockerfile."""
    return (repository / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def definition(repository: Path) -> str:
    """Text of the Apptainer definition."""
    return (repository / "apptainer.def").read_text()


def test_both_definitions_do_the_same(dockerfile: str, definition: str) -> None:
    assert docker_copies(dockerfile) == apptainer_copies(definition)
    assert commands(dockerfile) == commands(definition)
    assert re.findall(r"^FROM (.+)$", dockerfile, flags=re.MULTILINE) == re.findall(
        r"^From: (.+)$", definition, flags=re.MULTILINE
    )


def test_python_is_that_of_the_environments_and_allowed(repository: Path, dockerfile: str) -> None:
    version = re.search(r"^FROM python:(\d+\.\d+)-", dockerfile, flags=re.MULTILINE)
    assert version is not None
    for name in ("dnagrinder", "gpu"):
        assert f"python ={version[1]}" in yaml.safe_load((repository / "envs" / f"{name}.yaml").read_text())["dependencies"]
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={version[1]}"


def test_packages_are_installed_as_make_does_and_named_in_the_lock_alone(repository: Path, dockerfile: str) -> None:
    makefile = (repository / "Makefile").read_text().replace("$$", "$")
    wanted = [line.strip().removeprefix("$(PIP) ") for line in makefile.splitlines() if line.startswith("\t$(PIP) ")]
    installed = [line.removeprefix("pip install --no-cache-dir ") for line in commands(dockerfile) if line.startswith("pip")]
    assert installed == wanted
    assert not re.findall(r"==\d", dockerfile)


def test_copied_files_are_a_workflow_and_a_package(
    new_run: Callable[..., Run], repository: Path, dockerfile: str, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    image.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in docker_copies(dockerfile):
        source = repository / name
        if source.is_dir():
            shutil.copytree(source, image / name, ignore=ignored)
        else:
            shutil.copy(source, image)
    assert planned(new_run().snakemake("-n", "--snakefile", str(image / "Snakefile"))) == EXPECTED_JOBS
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    options = ["--no-index", "--no-deps", "--no-build-isolation", f"--target={tmp_path / 'installed'}"]
    subprocess.run([*pip, *options, str(image)], check=True)
    installed = tmp_path / "installed"
    for name in ("dnagrinder/checkpoints/mini/model.safetensors", "dnagrinder_kernels/__init__.py"):
        assert (installed / name).is_file()
    assert list((installed / "dnagrinder" / "reports" / "templates").iterdir())
