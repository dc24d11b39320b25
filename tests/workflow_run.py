"""A small run of the workflow: a few sites of the embedded example, a tiny model, and Snakemake in its own process."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dnagrinder.reports.provenance import without_run

SITES = 12  # first records kept of each VCF
JOINT_SAMPLES = ("HG00171", "HG01500")
EXON = "20\t1108068\t1108151\t9491:4\t0\t+\n"


@dataclass(frozen=True)
class Run:
    """A folder that Snakemake runs in.

    Attributes:
        folder: the run directory, with config/config.yaml.
        repository: checkout under test.
        settings: content of the configuration.
    """

    folder: Path
    repository: Path
    settings: dict[str, Any]

    def snakemake(self, *arguments: str, environment: dict[str, str] | None = None, launcher: Sequence[str] = ()) -> str:
        """Run Snakemake on workflow/Snakefile; returns what it printed. Fails the test on another exit status than 0.

        ``launcher`` is a command that runs the rest of its command line.
        """
        command = [*launcher, sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        if not {"-s", "--snakefile"} & set(arguments):
            command += ["--snakefile", str(self.repository / "workflow" / "Snakefile")]
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        variables |= {"XDG_CACHE_HOME": str(self.folder / "cache")} | (environment or {})
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        logs = "".join(f"\n--- {path}\n{path.read_text()}" for path in sorted(self.folder.glob("logs/**/*.log")))
        assert done.returncode == 0, done.stdout + logs
        return done.stdout

    def outputs(self, below: str = "results") -> dict[str, bytes]:
        """Content of every file below a folder of the run, by its path there; of provenance.json what no run changes."""
        root = self.folder / below
        found = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        if "provenance.json" in found:
            found["provenance.json"] = json.dumps(without_run(json.loads(found["provenance.json"]))).encode()
        return found


def first_sites(source: Path, destination: Path, columns: tuple[str, ...]) -> None:
    """Copy the header, the named sample columns and the first records of a VCF."""
    kept = 0
    with gzip.open(source, "rt") as lines, destination.open("w") as out:
        for line in lines:
            if line.startswith("##"):
                out.write(line)
                continue
            fields = line.rstrip("\n").split("\t")
            if line.startswith("#"):
                wanted = [*range(9), *(fields.index(column) for column in columns)]
            elif (kept := kept + 1) > SITES:
                return
            out.write("\t".join(fields[index] for index in wanted) + "\n")


def make_run(folder: Path, repository: Path, model: Path, /, **changes: Any) -> Run:
    """Fill an empty folder with the small run's input, ``changes`` being keys of the configuration."""
    example = repository / "config" / "example"
    for name in ("reference.fa.gz", "reference.fa.gz.fai", "reference.fa.gz.gzi"):
        shutil.copy(example / name, folder / name)
    shutil.copytree(model, folder / "model")
    first_sites(example / "HG00096.vcf.gz", folder / "one.vcf", ("HG00096",))
    first_sites(example / "joint.vcf.gz", folder / "joint.vcf", JOINT_SAMPLES)
    (folder / "exon.bed").write_text(EXON)
    rows = ["sample\tvcf", "one\tone.vcf", *(f"{name}\tjoint.vcf" for name in JOINT_SAMPLES)]
    (folder / "config").mkdir()
    (folder / "config" / "samples.tsv").write_text("\n".join(rows) + "\n")
    settings = {
        "reference": "reference.fa.gz",
        "checkpoint": "model",
        "regions": "exon.bed",
        "scoring": {"shards": 2, "views": 1, "device": "cpu"},
        "report": {"top": 2},
    } | changes
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
    return Run(folder, repository, settings)
