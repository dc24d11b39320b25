"""Derive the embedded example again from three Debian packages.

Usage::

    python make_example.py [--packages FOLDER] [--out FOLDER]

``--packages`` names a folder into which vt-examples, shapeit4-example and r-bioc-rsubread were unpacked
(``dpkg -x``); without it the packages are fetched with ``apt-get download`` into a folder that is removed afterwards.
Every file keeps the true GRCh37 coordinates: the contig is called ``20``, is N up to base 995,000 and ends at
base 1,155,000. The text of the files is the same on every machine; compressed bytes may differ with the zlib in use.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pysam

CONTIG = "20"
SEQUENCE = (995_000, 1_155_000)  # 0-based half-open: bases that the cut reference holds
CALLS = (1_000_000, 1_150_000)  # 0-based half-open: where variants and exons are taken from
LINE_WIDTH = 60
PACKAGES = ("vt-examples", "shapeit4-example", "r-bioc-rsubread")
REFERENCE = "usr/share/doc/vt/examples/ref/20.fa.gz"
GENOTYPES = "usr/share/doc/shapeit4/examples/test/reference.vcf.gz"
EXONS = "usr/lib/R/site-library/Rsubread/annot/hg19_RefSeq_exon.txt"
SINGLE = ("HG00096",)
JOINT = ("HG00171", "HG01500", "NA06984")  # one sample each of the FIN, IBS and CEU populations

LICENCE_TEXT = """\
The example data: where it comes from and under which terms
===========================================================

All files are cuts of public human data (assembly GRCh37, chromosome 20), made by make_example.py in this folder from
packages of Debian 12. Coordinates are the true ones.

reference.fa.gz
    Contig 20, bases 995,001 to 1,155,000; N before; nothing after.
    From: Debian package vt-examples 0.57721+ds-3, examples/ref/20.fa.gz.
    Terms: the human reference sequence (Genome Reference Consortium) is in the public domain.

HG00096.vcf.gz, joint.vcf.gz
    Phased genotypes of the 1000 Genomes Project, phase 3, 20:1,000,001-1,150,000: HG00096 alone, and HG00171, HG01500
    and NA06984 together (three unrelated people; "joint" tells how the calls are stored). Only sites that one of the
    file's samples carries are kept; AC and AN are counted anew; AF is the panel's own.
    From: Debian package shapeit4-example 4.2.2+dfsg-1, test/reference.vcf.gz.
    Terms: open data of the 1000 Genomes Project, no embargo. Please cite: The 1000 Genomes Project Consortium,
    "A global reference for human genetic variation", Nature 526, 68-74 (2015).

exons.bed
    RefSeq exons within 20:1,000,001-1,150,000 (gene 9491, PSMF1); name = NCBI gene id and the exon's number in
    ascending coordinates.
    From: Debian package r-bioc-rsubread 2.12.2-1, annot/hg19_RefSeq_exon.txt.
    Terms: NCBI RefSeq, a work of the United States government, in the public domain.

sha256 of the files as they lie here
------------------------------------
"""


def cut_reference(source: Path) -> Iterator[str]:
    """FASTA lines of the cut: N up to the first base held, then the bases themselves."""
    start, end = SEQUENCE
    with gzip.open(source, "rt", encoding="ascii") as lines:
        bases = "".join(line.strip() for line in lines if not line.startswith(">"))
    sequence = "N" * start + bases[start:end].upper()
    yield f">{CONTIG}\n"
    for offset in range(0, end, LINE_WIDTH):
        yield sequence[offset : offset + LINE_WIDTH] + "\n"


def cut_genotypes(source: Path, samples: Iterable[str]) -> Iterator[str]:
    """VCF lines of the named samples at the sites that one of them carries; AC and AN belong to these samples."""
    wanted = list(samples)
    with gzip.open(source, "rt", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("##"):
                if not line.startswith("##bcftools_"):
                    yield line
                continue
            fields = line.rstrip("\n").split("\t")
            if line.startswith("#"):
                columns = [fields.index(sample) for sample in wanted]
                yield "\t".join([*fields[:9], *wanted]) + "\n"
                continue
            if fields[0] != CONTIG or not CALLS[0] < int(fields[1]) <= CALLS[1]:
                continue
            genotypes = [fields[column] for column in columns]
            alleles = [allele for genotype in genotypes for allele in genotype.split("|")]
            carried = sum(allele != "0" for allele in alleles)
            if carried:
                info = dict(entry.split("=") for entry in fields[7].split(";"))
                info |= {"AC": str(carried), "AN": str(len(alleles))}
                fields[7] = ";".join(f"{name}={value}" for name, value in info.items())
                yield "\t".join([*fields[:9], *genotypes]) + "\n"


def cut_exons(source: Path) -> Iterator[str]:
    """BED6 lines of the exons that lie within the called interval; the source counts from 1, both ends included."""
    with source.open(encoding="ascii") as lines:
        rows = [line.split() for line in lines]
    inside = sorted(
        (int(start) - 1, int(end), gene, strand)
        for gene, contig, start, end, strand in rows[1:]
        if contig == f"chr{CONTIG}" and CALLS[0] < int(start) and int(end) <= CALLS[1]
    )
    numbers: dict[str, int] = {}
    for start, end, gene, strand in inside:
        numbers[gene] = numbers.get(gene, 0) + 1
        yield f"{CONTIG}\t{start}\t{end}\t{gene}:{numbers[gene]}\t0\t{strand}\n"


def compress(lines: Iterable[str], destination: Path) -> None:
    """Write the lines as bgzip."""
    with pysam.BGZFile(str(destination), "wb") as handle:
        for line in lines:
            handle.write(line.encode("ascii"))


def licence(folder: Path) -> str:
    """Text of LICENSE-DATA with the checksum of every data file in the folder."""
    names = ["reference.fa.gz", "HG00096.vcf.gz", "joint.vcf.gz", "exons.bed"]
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    return LICENCE_TEXT + "".join(sums)


def make_example(packages: Path, out: Path) -> None:
    """Write every file of the example into ``out`` from the unpacked packages."""
    out.mkdir(parents=True, exist_ok=True)
    compress(cut_reference(packages / REFERENCE), out / "reference.fa.gz")
    pysam.faidx(str(out / "reference.fa.gz"))
    for name, samples in (("HG00096.vcf.gz", SINGLE), ("joint.vcf.gz", JOINT)):
        compress(cut_genotypes(packages / GENOTYPES, samples), out / name)
        pysam.tabix_index(str(out / name), preset="vcf", force=True)
    (out / "exons.bed").write_text("".join(cut_exons(packages / EXONS)), encoding="ascii")
    (out / "LICENSE-DATA").write_text(licence(out), encoding="ascii")


def fetch_packages(folder: Path) -> Path:
    """Download the Debian packages into ``folder`` and unpack them there."""
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True)  # noqa: S603, S607
    for archive in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg", "-x", archive.name, "unpacked"], cwd=folder, check=True)  # noqa: S603, S607
    return folder / "unpacked"


def main() -> None:
    """Parse the command line and write the example."""
    parser = argparse.ArgumentParser(description="Derive the embedded example again from Debian packages.")
    parser.add_argument("--packages", type=Path, help="folder with the three packages unpacked; default: fetch them")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write; default: this one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        make_example(arguments.packages or fetch_packages(Path(scratch)), arguments.out)


if __name__ == "__main__":
    main()
