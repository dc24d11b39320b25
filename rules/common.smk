# Shared by all rules. The place of the library, the Python that runs it, the checked settings, the files of the model.
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.sourcecache import LocalSourceFile

HERE = workflow.current_basedir
IS_CLONE = isinstance(HERE, LocalSourceFile)


def library_root():
    """Folder that holds workflow/ and kernels/: the clone itself, or Snakemake's cache of a remote repository.

    A remote folder cannot be listed, so workflow/manifest.txt names its files; the cache keeps their layout.
    """
    if IS_CLONE:
        return Path(HERE.get_path_or_uri(secret_free=True)).resolve().parent
    names = Path(workflow.source_path("../workflow/manifest.txt")).read_text().split()
    return [
        Path(workflow.source_path(f"../{name}")).parents[name.count("/")]
        for name in names
    ][0]


def any_of(names):
    """Regular expression that matches exactly one of the names."""
    return "|".join(re.escape(name) for name in names) or "(?!)"


def given(paths):
    """Input files of the user's: where the settings say, even if a module's `prefix` moves all that is made."""
    return [local(path) for path in paths]


LIBRARY = [str(library_root() / folder) for folder in ("workflow", "kernels")]
sys.path[:0] = [folder for folder in LIBRARY if folder not in sys.path]

from dnagrinder.errors import ConfigError, without_secrets
from dnagrinder.settings import CHECKPOINT_FILES, interpreter, load_settings

try:
    SETTINGS = load_settings(config, Path.cwd())
except ConfigError as error:
    raise WorkflowError(
        "\n  - ".join(["The settings cannot be used:", *error.problems])
    )

# An exported PYTHONPATH does not reach jobs in a conda environment; one in front of the command does.
DNAGRINDER = shlex.join(
    [
        "env",
        f"PYTHONPATH={':'.join(LIBRARY)}",
        interpreter(
            sys.executable,
            {
                method.name.lower()
                for method in workflow.deployment_settings.deployment_method
            },
        ),
        "-P",
        "-m",
        "dnagrinder",
    ]
)
# For the provenance; a job that is a Snakemake of its own inherits the command of the first.
os.environ.setdefault("DNAGRINDER_COMMAND", shlex.join(sys.argv))
GPUS = 1 if SETTINGS.device == "cuda" else 0
MODEL_ENV = "../envs/gpu.yaml" if GPUS else "../envs/dnagrinder.yaml"

if not SETTINGS.checkpoint_is_embedded:
    CHECKPOINT = SETTINGS.checkpoint
elif IS_CLONE:
    CHECKPOINT = f"{LIBRARY[0]}/dnagrinder/checkpoints/{SETTINGS.checkpoint}"
else:
    CHECKPOINT = f"<results>/checkpoint/{SETTINGS.checkpoint}"
MODEL = [f"{CHECKPOINT}/{name}" for name in CHECKPOINT_FILES]
if not SETTINGS.checkpoint_is_embedded:
    MODEL = given(MODEL)
READING = [
    f"--window={SETTINGS.scoring.window}",
    f"--precision={SETTINGS.scoring.precision}",
]
SCORING = [
    *READING,
    f"--views={SETTINGS.scoring.views}",
    f"--lattice={SETTINGS.scoring.lattice}",
]
WITH_HAPLOTYPES = SETTINGS.scoring.haplotype_distance > 0
STORE = [f"--store={SETTINGS.store}"] if SETTINGS.store else []
COMPUTING = [
    f"--device={SETTINGS.scoring.device}",
    f"--token-budget={SETTINGS.scoring.token_budget}",
]
CALLSETS = [callset.name for callset in SETTINGS.callsets]
SAMPLES = [sample.name for sample in SETTINGS.samples]
FAMILIES = SETTINGS.families
SCORES = [
    *(f"<results>/scores/scores-{shard}.parquet" for shard in SETTINGS.shards),
    "<results>/shards/stored.parquet",
]
TRACKS = ["mean", "A", "C", "G", "T"] if SETTINGS.report.tracks else []
SAMPLE_HAPLOTYPES = (
    multiext("<results>/samples/{sample}/haplotypes", ".parquet", ".tsv")
    if WITH_HAPLOTYPES
    else []
)
GENOME = multiext("<results>/reference/genome.fa", ".gz", ".gz.fai", ".gz.gzi")
CALLSET_FILES = [
    *("alleles.parquet", "ledger.parquet", "genotypes.parquet", "summary.json"),
    *(["haplotypes.parquet"] if WITH_HAPLOTYPES else []),
    *("scored.vcf.gz", "scored.vcf.gz.tbi"),
]
SAMPLE_FILES = [
    *("scores.parquet", "scores.tsv", "ledger.parquet", "ledger.tsv", "sample.json"),
    *(["haplotypes.parquet", "haplotypes.tsv"] if WITH_HAPLOTYPES else []),
    *("context.parquet", "report.html"),
    *(f"mutagenesis/{track}.bedgraph" for track in TRACKS),
]
FAMILY_FILES = ["candidates.tsv", "family.json"]
COHORT_FILES = [
    "distribution.json",
    "scores.parquet",
    "report.html",
    "dnagrinder_mqc.json",
]
REGION_FILES = (
    ["regions.parquet", "regions.bedgraph", "ledger.tsv"] if SETTINGS.regions else []
)
# All that docs/outputs.md lists, not only what users open: what nothing asks for, Snakemake does not make again when it is lost.
RESULTS = [
    *GENOME,
    "<results>/reference/genome.json",
    *expand(
        "<results>/callsets/{callset}/{file}", callset=CALLSETS, file=CALLSET_FILES
    ),
    *expand("<results>/shards/shard-{shard}.parquet", shard=SETTINGS.shards),
    *SCORES,
    *expand("<results>/samples/{sample}/{file}", sample=SAMPLES, file=SAMPLE_FILES),
    *expand("<results>/families/{family}/{file}", family=FAMILIES, file=FAMILY_FILES),
    *expand("<results>/cohort/{file}", file=COHORT_FILES),
    *expand("<results>/regions/{file}", file=REGION_FILES),
]


def model_folder(wildcards, input):
    """Params function: the folder of the model's files."""
    return os.path.dirname(input.model[0])


def family_of(sample):
    """family.json of the family whose proband the sample is; nothing for all others."""
    member = SETTINGS.sample(sample)
    return (
        f"<results>/families/{member.family}/family.json"
        if member.role == "proband"
        else []
    )


def output_folder(wildcards, output):
    """Params function: the folder of the first output."""
    return os.path.dirname(output[0])


def judging(wildcards, input):
    """Params function: the calibration to apply, if there is one, and the reference that it may need."""
    if not input.calibration:
        return []
    return [f"--calibration={input.calibration}", f"--reference={input.genome[0]}"]


def columns(wildcards):
    """Params function: the columns of the call set's file that belong to samples of the sheet."""
    return [f"--sample={name}" for name in SETTINGS.callset(wildcards.callset).columns]


def haplotypes_of(callset):
    """Table of a call set's haplotypes; nothing where none are scored."""
    return f"<results>/callsets/{callset}/haplotypes.parquet" if WITH_HAPLOTYPES else []


def haplotypes_option(wildcards, input):
    """Params function: the option that names the table of haplotypes."""
    return [f"--haplotypes={input.haplotypes}"] if input.haplotypes else []
