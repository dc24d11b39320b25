"""A run file checked as a whole, and followed from the tokenizer to an evaluated checkpoint."""

import json

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import ConfigError
from dnagrinder.evaluation import baselines
from dnagrinder.training.corpus.build import build_corpus
from dnagrinder.training.corpus.shards import Corpus
from dnagrinder.training.parallel import World
from dnagrinder.training.run import train
from dnagrinder.training.run_file import check_corpus, read_run_file


def test_all_problems_of_a_run_file_are_told_at_once(tmp_path, data, run_document):
    run_document["corpus"]["sources"].append({"path": "absent.fa"})
    run_document["recipe"]["stepz"] = 1
    run_document["masking"]["natural_rate"] = 2
    run_document["architecture"] = "giant"
    run_document["evaluation"]["tracks"][0]["colour"] = "blue"
    run_document["colour"] = "red"
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_document))
    with pytest.raises(ConfigError) as caught:
        read_run_file(path, data)
    for fragment in (
        "absent.fa is missing",
        "stepz",
        "natural_rate",
        "'giant'",
        "unknown key colour",
        "unknown key(s) colour",
    ):
        assert fragment in str(caught.value)


def test_the_run_files_that_come_with_the_project_can_be_used(repository):
    found = {path.stem: read_run_file(path).name for path in (repository / "config" / "pretraining").glob("*.yaml")}
    assert found == {"base": "base", "mini": "mini", "mini-first": "mini-first"}


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        ("recipe", {"steps": 4.5}, "steps is a whole number, found 4.5"),
        ("recipe", {"seed": True}, "seed is a whole number, found True"),
        ("recipe", {"seed": -1}, "weight_decay and seed not below"),
        ("recipe", {"learning_rate": "fast"}, "learning_rate is a number, found 'fast'"),
        ("recipe", {"learning_rate": float("nan")}, "learning_rate is a number, found nan"),
        ("recipe", {"betas": [0.9]}, "betas are two numbers"),
        ("recipe", {"reverse_complement": "no"}, "reverse_complement is true or false, found 'no'"),
        (
            "recipe",
            {"curriculum": {"slw": "truncate_schedule", "schedule": [[0.0]]}},
            "recipe curriculum: not enough values",
        ),
        ("masking", {"span_weights": [0] * 6}, "span_weights not negative and not all 0"),
        ("masking", {"natural_rate": 0, "span_spacing": 0}, "nothing is ever asked"),
        ("tokenizer", {"seed": -1}, "seed not negative"),
        ("tokenizer", {"vocabulary": 5000}, "tokenizer: 5000 ids are more than the architecture's 4096"),
        ("evaluation", {"seed": -1}, "seed must not be negative"),
        ("corpus", {1: 2, "held": 3}, "corpus: unknown key 1; corpus: unknown key held"),
    ],
)
def test_a_value_that_training_would_stumble_over_is_told(tmp_path, data, run_document, part, change, told):
    run_document[part] |= change
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_document))
    with pytest.raises(ConfigError) as caught:
        read_run_file(path, data)
    assert told in str(caught.value)


@pytest.mark.parametrize("change", [{"name": "../elsewhere"}, {"name": "a b"}, {"limits": "none"}, {"limits": None}])
def test_a_bad_name_or_list_of_limits_is_told(tmp_path, data, run_document, change):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_document | change))
    with pytest.raises(ConfigError, match=rf"{next(iter(change))} is a .*found {next(iter(change.values()))!r}"):
        read_run_file(path, data)


def test_numbers_may_be_written_as_in_science(tmp_path, data, run_document):
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump(run_document).replace("warmup_steps: 2", "warmup_steps: 2\n  eps: 1e-6\n  learning_rate: 4e-4")
    )
    recipe = read_run_file(path, data).recipe
    assert (recipe.eps, recipe.learning_rate) == (1e-6, 4e-4)


def test_a_tokenizer_of_more_ids_than_the_model_is_refused(tmp_path, run_document, corpus, tokenizer):
    run_document["architecture"] = {"vocabulary": 64, "hidden": 32, "layers": 1, "heads": 2, "intermediate": 32}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_document))
    tokenizer.save(tmp_path / "tokenizer.json")
    with pytest.raises(ConfigError, match="has 200 ids, the run file's architecture 64"):
        train(path, corpus.folder, tmp_path / "tokenizer.json", tmp_path / "out", World())


@pytest.fixture
def patterns(tmp_path, run_document):
    """A run file, its data folder and its sources: two patterns that look the same, before one FASTA by its name."""
    data = tmp_path / "data"
    for number, name in enumerate(("a/one.fa", "b/two.fa", "c/three.fa")):
        (data / name).parent.mkdir(parents=True)
        (data / name).write_text(f">{number}\n{'ACGT' * 1000}\n")
    sources = [{"path": "a/*.fa", "copies": 0.5}, {"path": "b/*.fa"}, {"path": "c/three.fa", "copies": 2}]
    run_document["corpus"]["sources"] = sources
    run_document["evaluation"]["tracks"][0]["fasta"] = "c/three.fa"
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_document))
    return path, data, sources


def test_a_corpus_of_patterns_belongs_to_its_run_file(tmp_path, patterns):
    path, data, _ = patterns
    build_corpus(read_run_file(path, data).sources, tmp_path / "corpus")
    check_corpus(read_run_file(path), Corpus(tmp_path / "corpus"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"copies": 3}, "three.fa was built with other copies"),
        ({"held_out": ["2"]}, "three.fa was built with other held-out parts"),
        ({"soft_mask": "windowmasker"}, "three.fa was built with other soft mask"),
        ({"panels": [{"path": "p.vcf.gz"}]}, "three.fa was built with other panels"),
        ({"path": "c/four.fa"}, "four.fa is not in the corpus"),
    ],
)
def test_a_corpus_of_another_run_file_is_refused(tmp_path, patterns, run_document, change, told):
    path, data, sources = patterns
    build_corpus(read_run_file(path, data).sources, tmp_path / "corpus")
    sources[2] |= change
    path.write_text(yaml.safe_dump(run_document))
    with pytest.raises(ConfigError, match=f"does not belong.*{told}"):
        check_corpus(read_run_file(path), Corpus(tmp_path / "corpus"))


def test_a_pattern_starts_from_the_data_folder(patterns, run_document):
    path, data, sources = patterns
    sources[0]["path"] = f"{data}/a/*.fa"
    path.write_text(yaml.safe_dump(run_document))
    with pytest.raises(ConfigError, match="must start from the data folder"):
        read_run_file(path, data)


def test_from_run_file_to_an_evaluated_checkpoint(tmp_path, data, run_file, monkeypatch):
    monkeypatch.setattr(baselines, "TWO_SIDED", 3)  # the table of 13-base words takes seconds
    runner = CliRunner()

    def run(*arguments):
        result = runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    corpus, tokenizer, out = tmp_path / "corpus", tmp_path / "tokenizer.json", tmp_path / "out"
    run("build-corpus", run_file, "--data", data, "--out", corpus)
    run("train-tokenizer", run_file, "--corpus", corpus, "--out", tokenizer)
    training = ("pretrain", run_file, "--corpus", corpus, "--tokenizer", tokenizer, "--out", out)
    assert runner.invoke(app, [*map(str, training), "--steps", "0"]).exit_code == 2  # nothing to save or to draw
    run(*training, "--steps", 2)
    assert not (out / "toy").exists()
    run(*training)
    evaluated = tmp_path / "evaluation"
    options = ("--data", data, "--checkpoint", out / "toy", "--out", evaluated, "--bases", 24)
    printed = run("evaluate", run_file, *options, "--write-card", "--json")
    card = json.loads((out / "toy" / "card.json").read_text())
    metrics = card["metrics"]
    assert json.loads(printed.stdout) == metrics
    assert metrics["scoring_cross_entropy_nats"]["bases"] == 24
    assert metrics["scoring_cross_entropy_nats"]["uniform"] == pytest.approx(np.log(4))
    assert json.loads((evaluated / "metrics.json").read_text())["plan"]["bases"] == 24
    assert "evaluation of a checkpoint" in (evaluated / "evaluation.html").read_text()
    assert 0 <= metrics["masked_token_accuracy"] <= 1
    assert card["training"]["tokens"] == 4 * 128
    assert len((out / "log.tsv").read_text().splitlines()) == 5
