"""Length: 140,000 tokens through `base`, and a training step at 17,000, each in its own process, whose memory is read."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dnagrinder.model.checkpoint import open_checkpoint, save_checkpoint
from dnagrinder.model.config import SIZES
from dnagrinder.model.encoder import initialise
from dnagrinder.model.heads import MaskedLanguageModel

GIB = 2**30
MEASURED = """
import json, resource, sys
{body}
print(json.dumps({{**result, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}}))
"""
EMBED = """
from dnagrinder.cli import app
import contextlib, io
output = io.StringIO()
with contextlib.redirect_stdout(output):
    app({arguments!r}, standalone_mode=False)
result = json.loads(output.getvalue())
"""
TRAIN = """
from pathlib import Path
from dnagrinder.model.checkpoint import open_checkpoint
from dnagrinder.model.config import SIZES
from dnagrinder.model.heads import MaskedLanguageModel
from dnagrinder.training.batches import BatchMaker
from dnagrinder.training.corpus.build import build_corpus
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.corpus.sources import Source
from dnagrinder.training.curriculum import Curriculum
from dnagrinder.training.masking import Masking
from dnagrinder.training.pretrain import Trainer
from dnagrinder.training.recipe import Recipe
folder = Path({folder!r})
build_corpus([Source(Path({fasta!r}), 1.0, (), 0.1)], folder / "corpus", segment=150_200)
recipe = Recipe(steps=1, tokens_per_step=17_000, curriculum=Curriculum(max_tokens=17_000), recompute=True)
batches = BatchMaker(Corpus(folder / "corpus"), open_checkpoint("mini").tokenizer, recipe, Masking(0.15))
trainer = Trainer(MaskedLanguageModel(SIZES["base"]), batches, recipe, {{}}, folder)
reports = []
trainer.run(reports.append)
result = {{"loss": reports[0].loss, "tokens": reports[0].tokens}}
"""


def measured(body):
    """The result of a program, printed as JSON, with the peak memory of its process."""
    program = MEASURED.format(body=body)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def base_checkpoint(tmp_path_factory):
    """`base` with random weights: its size and cost, not its knowledge."""
    model = MaskedLanguageModel(SIZES["base"])
    initialise(model, torch.Generator().manual_seed(0))
    card = {"name": "base-untrained", "description": "random weights for a test of size", "limits": ["untrained"]}
    folder = tmp_path_factory.mktemp("base") / "base"
    save_checkpoint(folder, model, open_checkpoint("mini").tokenizer, card)
    return folder


@pytest.fixture(scope="module")
def random_genome(tmp_path_factory):
    """One contig of 1,000,000 random bases."""
    path = tmp_path_factory.mktemp("genome") / "random.fa"
    path.write_text(">1\n" + "".join(random.Random(0).choices("ACGT", k=1_000_000)) + "\n")
    return path


@pytest.mark.slow
def test_140000_tokens_of_a_chromosome_run_through_base(base_checkpoint, shared_data, tmp_path):
    bed, out = tmp_path / "long.bed", tmp_path / "long.parquet"
    bed.write_text("20\t5000000\t5760000\tlong\n")
    fasta = shared_data / "grch37" / "chr20.fa.gz"
    options = [
        "--window",
        "760000",
        "--bin",
        "10000",
        "--precision",
        "bfloat16",
        "--checkpoint",
        str(base_checkpoint),
        "--json",
    ]
    arguments = ["embed", str(bed), "--reference", str(fasta), "--out", str(out), *options]
    result = measured(EMBED.format(arguments=arguments))
    assert result["tokens"] > 140_000
    assert result["rows"] == 76
    assert result["peak"] <= 2.5 * GIB


@pytest.mark.slow
def test_a_training_step_at_17000_tokens_through_base(random_genome, tmp_path):
    result = measured(TRAIN.format(fasta=str(random_genome), folder=str(tmp_path / "run")))
    assert result["tokens"] == 17_000
    assert 7 < result["loss"] < 10  # untrained: about ln(4096) = 8.3
    assert result["peak"] <= 6 * GIB
    assert Path(tmp_path / "run" / "state-00000001.safetensors").is_file()
