"""Time and memory of everything but the model, as variants and samples double, and how they grow.

variants  a made-up genome of sites on chromosome 20, up to 4.5 million: from the VCF to its tables, pages and back
samples   people resampled from 300 of the 1000 Genomes, up to 1,000, in one joint VCF and in a VCF each
genomes   the cohort's page and table of whole genomes, people who each carry 80 % of 1,125,000 made-up sites
dag       what `snakemake --dry-run` takes for those cohorts
sharing   how many alleles are new as real people are added

Every step runs in a process of its own, on one thread; CPU seconds are those of the step without the imports, memory is
the largest resident set of the process, imports (130 MiB) included. The growth exponent is the slope of log(CPU) on
log(size): 1 is linear. Scores are invented. Needs the shared real data.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import numpy as np
import yaml
from simulated import Panel, invent_scores, invented_origin, write_people, write_sites

from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.tables import write_variant_tables
from dnagrinder.scoring.store.scores import ScoreStore
from dnagrinder.scoring.tables import read_parquet

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(str(harness.REPOSITORY / name) for name in ("workflow", "kernels")),
    "OMP_NUM_THREADS": "1",
}
MEASURED = Path(__file__).with_name("measured.py")
#: Runs a command from a small process: a child's peak memory is at least that of the process that it was forked from.
RUSAGE = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)"""
CONTIG, SHARDS = "20", 8
PARTS = ("variants", "samples", "genomes", "dag", "sharing")
TABLES = ("alleles", "ledger", "genotypes", "summary")
TOLERATED = 1.2  # growth exponent above which a step is said to grow faster than its input


@dataclass(frozen=True)
class Cost:
    """CPU seconds and peak memory (MiB) of a step on input of some size."""

    part: str
    step: str
    size: int
    cpu: float
    memory: float


def measured(part: str, step: str, size: int, *command: object) -> Cost:
    """The cost of one dnagrinder command. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        facts = Path(folder) / "facts.json"
        subprocess.run(
            [sys.executable, MEASURED, facts, *map(str, command)], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL
        )
        told = json.loads(facts.read_text())
    return Cost(part, step, size, told["cpu"], told["memory"])


class CallSet:
    """One VCF on its way through the commands, with invented scores.

    Args:
        folder: where its files go.
        vcf, fasta: input.
        origin: provenance of the invented scores.
        part, size: what is varied, and how far.
    """

    def __init__(self, folder: Path, vcf: Path, fasta: Path, origin: dict[str, Any], part: str, size: int) -> None:
        self.folder, self.vcf, self.fasta, self.origin, self.part, self.size = folder, vcf, fasta, origin, part, size
        self.scores: list[Path] = []

    def read(self, samples: Sequence[str] = ()) -> Cost:
        """read-variants."""
        outputs = [f"--{name}={self._table(name)}" for name in TABLES]
        chosen = [f"--sample={name}" for name in samples]
        return self._cost("read-variants", "read-variants", self.vcf, f"--reference={self.fasta}", *outputs, *chosen)

    def unite(self, *tables: Path) -> Cost:
        """unique-alleles, and invented scores for what it gives."""
        cost = self._unique("unique-alleles", tables)
        self.scores = invent_scores(sorted(self.folder.glob("shard-*.parquet")), self.folder, self.origin)
        return cost

    def look_up(self) -> Cost:
        """unique-alleles with a store that holds every second allele."""
        store = self.folder / "store"
        keep = ScoreStore(store, self.origin)
        for path in self.scores[::2]:
            keep.add(read_parquet(path).replace_schema_metadata(None))
        cost = self._unique("unique-alleles, store of half", (), f"--store={store}")
        shutil.rmtree(store)
        return cost

    def annotate(self) -> Cost:
        """annotate."""
        return self._cost("annotate", "annotate", self.vcf, *self._joined(), f"--out={self.folder}/scored.vcf.gz")

    def tabulate(self, samples: Sequence[str]) -> Cost:
        """sample-tables of all ``samples``."""
        tables = [f"--{name}={self._table(name)}" for name in ("genotypes", "summary")]
        chosen = [f"--sample={name}" for name in samples]
        target = f"--out-dir={self.folder}/samples"
        return self._cost("sample-tables", "sample-tables", *self._joined(), *tables, *chosen, target)

    def report_sample(self, sample: str) -> Cost:
        """Report sample."""
        folder = self.folder / "samples" / sample
        return self._cost("report sample (one)", "report", "sample", folder, f"--out={folder}/report.html")

    def report_cohort(self, samples: Sequence[str]) -> Cost:
        """Report cohort."""
        folders = [self.folder / "samples" / name for name in samples]
        pages = [f"--out={self.folder}/cohort.html", f"--scores={self.folder}/cohort.parquet"]
        return self._cost("report cohort", "report", "cohort", *folders, *pages, f"--multiqc={self.folder}/x_mqc.json")

    def _unique(self, step: str, tables: Sequence[Path], *options: str) -> Cost:
        common = [f"--shards={SHARDS}", f"--out-dir={self.folder}", f"--reference={self.fasta}"]
        return self._cost(step, "unique-alleles", *(tables or [self._table("alleles")]), *common, *options)

    def _joined(self) -> list[str]:
        return [*map(str, self.scores), f"--alleles={self._table('alleles')}", f"--ledger={self._table('ledger')}"]

    def _table(self, name: str) -> Path:
        return self.folder / f"{name}.{'json' if name == 'summary' else 'parquet'}"

    def _cost(self, step: str, *command: object) -> Cost:
        return measured(self.part, step, self.size, *command)


def variant_costs(folder: Path, fasta: Path, origin: dict[str, Any], sizes: Sequence[int]) -> Iterator[Cost]:
    """A made-up genome without sample columns, one size after another."""
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            vcf = Path(name) / "sites.vcf.gz"
            write_sites(vcf, fasta, CONTIG, size)
            one = CallSet(Path(name), vcf, fasta, origin, "variants", size)
            yield one.read()
            yield one.unite()
            yield one.look_up()
            yield one.annotate()
            yield one.tabulate(["one"])
            yield one.report_sample("one")
            yield one.report_cohort(["one"])


def genome_costs(folder: Path, fasta: Path, origin: dict[str, Any], sites: int, sizes: Sequence[int]) -> Iterator[Cost]:
    """People with most of the sites of one made-up genome."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        vcf = Path(name) / "sites.vcf.gz"
        write_sites(vcf, fasta, CONTIG, sites)
        one = CallSet(Path(name), vcf, fasta, origin, "genomes", sites)
        one.read()
        one.unite()
        one.tabulate(["one"])
        people = write_people(Path(name) / "samples", "one", max(sizes))
        for size in sizes:
            yield CallSet(Path(name), vcf, fasta, origin, "genomes", size).report_cohort(people[:size])


def sample_costs(folder: Path, fasta: Path, origin: dict[str, Any], panel: Panel, sizes: Sequence[int]) -> Iterator[Cost]:
    """Resampled people, first in one joint VCF, then in a VCF each."""
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            vcf = Path(name) / "joint.vcf.gz"
            people = panel.write_joint(vcf, size)
            one = CallSet(Path(name), vcf, fasta, origin, "samples, joint", size)
            yield one.read(people)
            yield one.unite()
            yield one.annotate()
            yield one.tabulate(people)
            yield one.report_sample(people[0])
            yield one.report_cohort(people)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        vcfs = panel.write_single(Path(name), max(sizes))
        tables, seconds = _read_each(vcfs, fasta)
        for size in sizes:
            one = CallSet(Path(name), vcfs[0], fasta, origin, "samples, single", size)
            yield Cost(one.part, "read-variants", size, sum(seconds[:size]), 0)
            yield one.unite(*tables[:size])
            for table in ("alleles", "ledger"):
                shutil.copy(tables[0].with_name(f"{table}.parquet"), one.folder)
            yield one.annotate()


def _read_each(vcfs: Sequence[Path], fasta: Path) -> tuple[list[Path], list[float]]:
    """The alleles of each file, and the CPU seconds of reading it, in this process: a start each would drown the rest."""
    tables, seconds = [], []
    for vcf in vcfs:
        folder = vcf.with_suffix("")
        folder.mkdir()
        started = time.process_time()
        with ReferenceGenome.open(fasta) as genome:
            write_variant_tables(vcf, genome, **{name: folder / f"{name}.parquet" for name in TABLES})
        seconds.append(time.process_time() - started)
        tables.append(folder / "alleles.parquet")
    return tables, seconds


def dag_cost(folder: Path, shape: str, people: int) -> Cost:
    """`snakemake --dry-run` of a cohort, ``joint`` or ``single`` in ``shape``; the start of the process is included."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        base = Path(name)
        example = harness.REPOSITORY / "config" / "example"
        for path in example.glob("reference.fa.gz*"):
            shutil.copy(path, base)
        names = [f"S{number:05d}" for number in range(people)]
        files = ["joint.vcf"] * people if shape == "joint" else [f"{one}.vcf" for one in names]
        for file in dict.fromkeys(files):
            columns = names if shape == "joint" else [file.removesuffix(".vcf")]
            title = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *columns]
            (base / file).write_text("##fileformat=VCFv4.2\n##contig=<ID=20>\n" + "\t".join(title) + "\n")
        rows = [f"{one}\t{file}" for one, file in zip(names, files, strict=True)]
        (base / "config").mkdir()
        (base / "config" / "samples.tsv").write_text("\n".join(["sample\tvcf", *rows]) + "\n")
        settings = {"reference": "reference.fa.gz", "checkpoint": "mini", "scoring": {"shards": 16, "device": "cpu"}}
        (base / "config" / "config.yaml").write_text(yaml.safe_dump(settings))
        command = [
            sys.executable,
            "-c",
            RUSAGE,
            sys.executable,
            "-m",
            "snakemake",
            "--dry-run",
            "--quiet",
            "all",
            "--cores",
            "2",
        ]
        command += ["--snakefile", str(harness.REPOSITORY / "workflow" / "Snakefile")]
        variables = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONPATH"}
        variables["XDG_CACHE_HOME"] = name
        done = subprocess.run(
            command, cwd=base, check=True, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    cpu, kilobytes = map(float, done.stdout.splitlines()[-1].split())
    return Cost("dag", shape, people, cpu, kilobytes / 1024)


def sharing(panel: Panel, counts: Sequence[int], seed: int = 1) -> list[tuple[int, float, float]]:
    """(people, alleles carried by any of them, mean number carried by one), averaged over orders of the real people.

    Sites with several ALTs count once an ALT.
    """
    people = panel.haplotypes.shape[1] // 2
    both = panel.haplotypes.reshape(len(panel.sites), people, 2)
    carries = np.concatenate([(both == number).any(axis=2) for number in range(1, int(both.max()) + 1)])
    orders = [np.random.default_rng(seed + n).permutation(people) for n in range(20)]
    each = float(carries.sum(axis=0).mean())
    rows = []
    for count in counts:
        distinct = [int(carries[:, order[:count]].any(axis=1).sum()) for order in orders]
        rows.append((count, float(np.mean(distinct)), each))
    return rows


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Least-squares slope of log(value) on log(size)."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def show(costs: Sequence[Cost]) -> bool:
    """Print each step's costs and growth; whether none grows faster than tolerated."""
    good = True
    for part, step in dict.fromkeys((cost.part, cost.step) for cost in costs):
        rows = [cost for cost in costs if (cost.part, cost.step) == (part, step)]
        told = ", ".join(f"{cost.size:,}: {cost.cpu:.2f} s {cost.memory:.0f} MiB" for cost in rows)
        growth = exponent([c.size for c in rows], [c.cpu for c in rows]) if len(rows) > 1 else math.nan
        last = math.log(rows[-1].cpu / rows[-2].cpu, rows[-1].size / rows[-2].size) if len(rows) > 1 else math.nan
        good &= not growth > TOLERATED
        print(f"{part}, {step}: {told}; exponent {growth:.2f}, last step {last:.2f}", flush=True)
    return good


def write(costs: Sequence[Cost]) -> None:
    """Append to scale.csv."""
    path = harness.DESTINATION.file("scale.csv")
    if path is None:
        return
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["part", "step", "size", "CPU seconds", "MiB", "processor"])
        for cost in costs:
            row = [cost.part, cost.step, cost.size, f"{cost.cpu:.4g}", f"{cost.memory:.0f}", harness.processor()]
            writer.writerow(row)


def main() -> None:
    """Measure the parts asked for."""
    parser = harness.option_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["dag", "sharing"])
    parser.add_argument("--variants", nargs="+", type=int, default=[1_125_000, 2_250_000, 4_500_000])
    parser.add_argument("--samples", nargs="+", type=int, default=[125, 250, 500, 1000])
    parser.add_argument("--genomes", nargs="+", type=int, default=[8, 16, 32, 64])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="for temporary files, some 3 GB")
    arguments = harness.start(parser)
    data = harness.shared_data()
    if data is None:
        parser.error("the shared real data are absent: set DNAGRINDER_DATA")
    fasta = data / "grch37" / "chr20.fa.gz"
    panel = Panel.read(data / "grch37" / "kgp3_chr20_1-4M.phased300.vcf.gz")
    costs: list[Cost] = []
    if "dag" in arguments.parts:
        costs += [dag_cost(arguments.folder, shape, size) for shape in ("single", "joint") for size in arguments.samples]
    if {"variants", "samples", "genomes"} & set(arguments.parts):
        origin = invented_origin(fasta)
        if "variants" in arguments.parts:
            costs += _told(variant_costs(arguments.folder, fasta, origin, arguments.variants))
        if "samples" in arguments.parts:
            costs += _told(sample_costs(arguments.folder, fasta, origin, panel, arguments.samples))
        if "genomes" in arguments.parts:
            costs += _told(genome_costs(arguments.folder, fasta, origin, min(arguments.variants), arguments.genomes))
    if "sharing" in arguments.parts:
        for people, distinct, each in sharing(panel, [1, 2, 5, 10, 20, 40, 75, 150, 300]):
            print(f"sharing: {people} people carry {distinct:,.0f} different alleles, one of them {each:,.0f}")
    write(costs)
    good = show(costs)
    print("no step grows faster than its input" if good else f"MISSED: a step's exponent is above {TOLERATED}")


def _told(costs: Iterator[Cost]) -> list[Cost]:
    """All of them, each printed as it comes."""
    kept = []
    for cost in costs:
        print(f"  {cost.part} {cost.size:,}, {cost.step}: {cost.cpu:.2f} CPU s, {cost.memory:.0f} MiB", flush=True)
        kept.append(cost)
    return kept


if __name__ == "__main__":
    main()
