"""A run file checked as a whole, and followed from the tokenizer to an evaluated checkpoint."""

import json

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import ConfigError
from dnagrinder.evaluation import baselines
from dnagrinder.training.run_file import read_run_file


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
