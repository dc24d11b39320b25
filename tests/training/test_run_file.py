"""Markov baselines by hand, and an evaluation from run file to card."""

import json

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.errors import ConfigError
from dnagrinder.training.markov import CODE, MarkovModel
from dnagrinder.training.run_file import read_run_file


def ascii_bases(text):
    return np.frombuffer(text.encode(), dtype=np.uint8)


def test_order_zero_counts_both_strands():
    model = MarkovModel([ascii_bases("AAAC")], 0, strength=0.0)
    assert model.probabilities(np.zeros((1, 0), dtype=np.uint8))[0].tolist() == [3 / 8, 1 / 8, 1 / 8, 3 / 8]


def test_order_one_interpolates_with_order_zero():
    model = MarkovModel([ascii_bases("ACAC")], 1, strength=1.0)
    # forward AC CA AC, reverse GT TG GT: after A always C, seen twice
    zero = (np.array([1, 2, 1, 2]) + 0.25) / 7
    expected = (np.array([0, 2, 0, 0]) + zero) / 3
    found = model.probabilities(np.array([[CODE[ord("A")]]]))[0]
    np.testing.assert_allclose(found, expected)


def test_a_deterministic_sequence_is_predicted():
    model = MarkovModel([ascii_bases("ACCTTA" * 500)], 4, strength=1.0)
    context = CODE[ascii_bases("ACCT")][None, :]
    assert model.probabilities(context)[0].argmax() == "ACGT".index("T")
    assert model.probabilities(context)[0].max() > 0.99


def test_unknown_bases_are_not_counted():
    model = MarkovModel([ascii_bases("ANNNC")], 1, strength=1.0)
    np.testing.assert_allclose(model.probabilities(np.array([[0]])), [[0.25] * 4])


def test_order_beyond_memory_is_refused():
    with pytest.raises(ValueError, match="between 0 and 12"):
        MarkovModel([], 13)


def test_all_problems_of_a_run_file_are_told_at_once(tmp_path, data, run_document):
    run_document["corpus"]["sources"].append({"path": "absent.fa"})
    run_document["recipe"]["stepz"] = 1
    run_document["masking"]["natural_rate"] = 2
    run_document["architecture"] = "giant"
    run_document["colour"] = "red"
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run_document))
    with pytest.raises(ConfigError) as caught:
        read_run_file(path, data)
    for fragment in ("absent.fa is missing", "stepz", "natural_rate", "'giant'", "unknown key colour"):
        assert fragment in str(caught.value)


def test_from_run_file_to_an_evaluated_checkpoint(tmp_path, data, run_file):
    runner = CliRunner()

    def run(*arguments):
        result = runner.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result

    tokenizer, out = tmp_path / "tokenizer.json", tmp_path / "out"
    run("train-tokenizer", run_file, "--data", data, "--out", tokenizer)
    run("pretrain", run_file, "--data", data, "--tokenizer", tokenizer, "--out", out, "--steps", 2)
    assert not (out / "toy").exists()
    run("pretrain", run_file, "--data", data, "--tokenizer", tokenizer, "--out", out)
    printed = run("evaluate", run_file, "--data", data, "--checkpoint", out / "toy", "--write-card", "--json")
    card = json.loads((out / "toy" / "card.json").read_text())
    metrics = card["metrics"]
    assert json.loads(printed.stdout) == metrics
    assert metrics["scoring_cross_entropy_nats"]["bases"] == 20
    assert metrics["scoring_cross_entropy_nats"]["uniform"] == pytest.approx(np.log(4))
    assert {"order0", "order5", "order11", "model", "model_95"} <= metrics["scoring_cross_entropy_nats"].keys()
    assert 0 <= metrics["masked_token_accuracy"] <= 1
    assert card["training"]["tokens"] == 4 * 128
    assert len((out / "log.tsv").read_text().splitlines()) == 5
