"""`--use-conda` without a network: Snakemake hashes, creates and activates the environments, and every job runs in its own.

The channel is made of the packages that run these tests, so it proves that the environments are complete and that jobs use
them, not that conda-forge solves them. The stand-ins: programs (git, a compiler, ninja) are this machine's, `pytorch-gpu` is
`pytorch`, and flash-attn is an empty wheel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from workflow_run import Run

pytestmark = pytest.mark.slow
TOOLS = os.environ.get("DNAGRINDER_CONDA_TOOLS", "")
STAND_INS = {
    "programs": {"git": ("2.39", "git"), "cxx-compiler": ("1.7", "c++"), "ninja": ("1.11", "true")},
    "meta": {"pytorch-gpu": ("2.13.0", ["pytorch"]), "wheel": ("0.45", [])},
}
CONDA = """\
#!/bin/sh
LOCAL_CONDA_ROOT={root} LOCAL_CONDA_CHANNELS={channels} PYTHONPATH={tools} exec {python} -P {frontend} "$@"
"""
ACTIVATE = """\
if [ ! -d "$1/conda-meta" ]; then echo "not an environment: $1" >&2; exit 1; fi
export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"
"""
NOTES = 'import sys; open(sys.prefix + "/ran.txt", "a").write(" ".join(sys.orig_argv) + "\\n")\n'


@pytest.fixture(scope="module")
def conda(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """Folder of a conda installation with a channel of its own."""
    if not Path(TOOLS, "rattler").is_dir() or not Path(TOOLS, "zstandard").is_dir():
        pytest.skip("DNAGRINDER_CONDA_TOOLS names no folder with py-rattler and zstandard (pip install --target FOLDER ...)")
    if not Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}), "site-packages").is_dir():
        pytest.skip(f"the Python of {sys.base_prefix} keeps its packages outside its library and cannot be moved")
    root = tmp_path_factory.mktemp("conda")
    helpers = repository / "tests" / "local_conda"
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    needed = [Requirement(text).name for text in project["dependencies"]]
    request = STAND_INS | {"distributions": [*needed, "packaging", "pip", "psutil", "setuptools"]}
    (root / "request.json").write_text(json.dumps(request))
    environment = {**os.environ, "PYTHONPATH": TOOLS}
    command = [sys.executable, helpers / "channel.py", root / "channels", root / "request.json"]
    subprocess.run(command, env=environment, check=True)
    text = CONDA.format(
        root=root, channels=root / "channels", tools=TOOLS, python=sys.executable, frontend=helpers / "frontend.py"
    )
    (root / "bin").mkdir()
    (root / "bin" / "conda").write_text(text)
    (root / "bin" / "conda").chmod(0o755)
    (root / "bin" / "activate").write_text(ACTIVATE)
    return root


def snakemake(run: Run, conda: Path, *arguments: str, **variables: str) -> str:
    """What Snakemake prints, with that conda on the PATH and environments in its folder ``envs``."""
    environment = {"PATH": f"{conda / 'bin'}:{os.environ['PATH']}"} | variables
    return run.snakemake("--use-conda", f"--conda-prefix={conda / 'envs'}", *arguments, environment=environment)


def created(conda: Path) -> list[str]:
    """The calls that made an environment."""
    return [call for call in (conda / "calls.txt").read_text().splitlines() if call.startswith("env create")]


def said_by(prefix: Path, program: str) -> str:
    """What the environment's Python prints, which sees no other packages than its own."""
    return subprocess.run(
        [prefix / "bin" / "python", "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def environment(conda: Path, new_run: Callable[..., Run]) -> tuple[Run, Path]:
    """A run with one sample, nothing computed yet, and the one environment that its jobs share."""
    run = new_run(scoring={"shards": 2, "views": 1, "device": "cpu"})
    rows = (run.folder / "config" / "samples.tsv").read_text().splitlines()
    (run.folder / "config" / "samples.tsv").write_text("\n".join(rows[:2]) + "\n")
    snakemake(run, conda, "--conda-create-envs-only")
    (prefix,) = [path.parent for path in (conda / "envs").glob("*/conda-meta")]
    return run, prefix


def test_environment_holds_its_own_packages(environment: tuple[Run, Path], repository: Path) -> None:
    _, prefix = environment
    assert prefix.with_suffix(".yaml").read_text() == (repository / "envs" / "dnagrinder.yaml").read_text()
    for name in ("torch", "pyranges", "pysam", "tokenizers"):
        assert said_by(prefix, f"import {name}; print({name}.__file__)").startswith(f"{prefix}/lib/")
    assert said_by(prefix, "import importlib.util as u; print(u.find_spec('snakemake'))") == "None"


def test_every_job_runs_in_the_environment(environment: tuple[Run, Path], conda: Path) -> None:
    run, prefix = environment
    packages = next((prefix / "lib").glob("python3.*/site-packages"))
    (packages / "sitecustomize.py").write_text(NOTES)
    snakemake(run, conda)
    (packages / "sitecustomize.py").unlink()
    ran = [line for line in (prefix / "ran.txt").read_text().splitlines() if " -P -m dnagrinder " in line]
    assert len(ran) == 14
    assert {"cohort/report.html", "samples/one/report.html", "regions/regions.parquet"} <= run.outputs().keys()
    assert "Nothing to be done" in snakemake(run, conda, "-n")
    assert len(created(conda)) == 1


def write_wheel(folder: Path) -> None:
    """A wheel called like flash-attn with nothing but its version."""
    version = "2.8.3.post2"
    information = f"flash_attn-{version}.dist-info"
    with zipfile.ZipFile(folder / f"flash_attn-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("flash_attn/__init__.py", f"__version__ = '{version}'\n")
        wheel.writestr(f"{information}/METADATA", f"Metadata-Version: 2.1\nName: flash-attn\nVersion: {version}\n")
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")


@pytest.mark.usefixtures("environment")
def test_gpu_environment_is_apart_and_gets_flash_attn_after_its_creation(
    conda: Path, new_run: Callable[..., Run], tmp_path: Path
) -> None:
    write_wheel(tmp_path)
    run = new_run(scoring={"device": "cuda", "shards": 2})
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    shown = snakemake(run, conda, "--conda-create-envs-only", **pip)
    assert "Running post-deploy script" in shown
    assert len(created(conda)) == 2
    (prefix,) = [path.parent for path in (conda / "envs").glob("*/flash-attn.log")]
    assert "Successfully installed flash-attn-2.8.3.post2" in (prefix / "flash-attn.log").read_text()
    assert said_by(prefix, "import flash_attn, torch; print(flash_attn.__version__)") == "2.8.3.post2"


def test_without_flash_attn_the_gpu_environment_stands(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\necho no compiler\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CONDA_PREFIX": str(tmp_path)}
    script = repository / "envs" / "gpu.post-deploy.sh"
    done = subprocess.run(["bash", script], env=variables, capture_output=True, text=True, check=True)
    assert "could not be installed and is not used" in done.stdout
    assert (tmp_path / "flash-attn.log").read_text() == "no compiler\n"
