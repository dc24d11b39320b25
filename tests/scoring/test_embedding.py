"""Embeddings of regions: means over bases, bins, windows at contig ends, and regions that do not fit."""

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from dnagrinder.cli import app
from dnagrinder.scoring.embedding import RegionEmbedder
from dnagrinder.scoring.packing import Engine


def frame(rows):
    return pd.DataFrame(rows, columns=["contig", "start", "end"])


class TokenNumbers:
    """The hidden state of token i of a sequence is (i, bases it stands for in letters: 1)."""

    def hidden(self, inputs, consume):
        for index, model_input in enumerate(inputs):
            numbers = torch.arange(model_input.ids.size).float()
            consume(index, torch.stack([numbers, torch.ones_like(numbers)], dim=1))


def expected(tokenizer, sequence, first, start, end):
    """Mean over the bases of [start, end) of their token's number; the window's first base lies at ``first``."""
    ids = tokenizer.encode(sequence)
    of_base = np.repeat(np.arange(1, ids.size + 1), tokenizer.lengths[ids])
    return of_base[start - first : end - first].mean()


@pytest.mark.parametrize(("start", "end", "window"), [(700, 800, 300), (5, 20, 400), (2990, 3000, 200), (1990, 2110, 120)])
def test_an_embedding_is_the_mean_over_the_bases(checkpoint, reference, start, end, window):
    embedder = RegionEmbedder(TokenNumbers(), checkpoint.tokenizer, reference, window)
    (found,) = embedder.embed(frame([("1", start, end)]))
    middle = (start + end) // 2
    left, right = max(0, middle - window // 2), min(3000, middle - window // 2 + window)
    wanted = expected(checkpoint.tokenizer, reference.fetch("1", left, right), left, start, end)
    assert found.values == pytest.approx([wanted, 1.0])
    assert (found.start, found.end) == (start, end)


def test_bins_cover_the_region_and_average_to_it(checkpoint, reference):
    regions = frame([("1", 300, 337), ("2", 3, 30)])
    (whole, second) = RegionEmbedder(TokenNumbers(), checkpoint.tokenizer, reference, 200).embed(regions)
    bins = list(RegionEmbedder(TokenNumbers(), checkpoint.tokenizer, reference, 200, 10).embed(regions))
    assert [(b.region, b.start, b.end) for b in bins[:4]] == [(0, 300, 310), (0, 310, 320), (0, 320, 330), (0, 330, 337)]
    assert bins[-1].end == 30
    mean = sum(b.values[0] * (b.end - b.start) for b in bins[:4]) / 37
    assert mean == pytest.approx(whole.values[0])
    assert second.region == 1


def test_an_embedding_does_not_depend_on_the_company(checkpoint, reference, monkeypatch):
    device = torch.device("cpu")
    regions = frame([("1", 100 * i, 100 * i + 50) for i in range(1, 20)])
    results = []
    for budget, chunk in ((8192, 1_000_000), (100, 1_000_000), (8192, 300)):
        monkeypatch.setattr("dnagrinder.scoring.embedding.CHUNK_BASES", chunk)
        engine = Engine(checkpoint.load_model(device), device, budget)
        embedder = RegionEmbedder(engine, checkpoint.tokenizer, reference, 400)
        results.append(np.stack([e.values for e in embedder.embed(regions)]))
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert np.unique(results[0], axis=0).shape[0] == len(regions)


def test_the_command_accounts_for_every_region(checkpoint, fasta, tmp_path):
    bed = tmp_path / "regions.bed"
    bed.write_text("1\t100\t160\ta\n1\t0\t900\ttoo long\n7\t1\t2\tabsent\n2\t0\t40\n")
    out, ledger = tmp_path / "embeddings.parquet", tmp_path / "ledger.tsv"
    arguments = [
        "embed",
        str(bed),
        "-r",
        str(fasta),
        "-o",
        str(out),
        "--ledger",
        str(ledger),
        "--window",
        "500",
        "--bin",
        "25",
    ]
    done = CliRunner().invoke(app, [*arguments, "--checkpoint", str(checkpoint.folder), "--json"])
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)
    assert counts["regions_in"] == counts["embedded"] + counts["rejected"] == 4
    assert counts["rejected_by_reason"] == {"CONTIG_ABSENT": 1, "LONGER_THAN_WINDOW": 1}
    table = pq.read_table(out)
    assert table["start"].to_pylist() == [100, 125, 150, 0, 25]
    assert table["end"].to_pylist() == [125, 150, 160, 25, 40]
    assert table["name"].to_pylist() == ["a", "a", "a", None, None]
    assert len(table["embedding"][0]) == checkpoint.config.hidden
    assert b"sha256" in table.schema.metadata[b"dnagrinder"]
    assert "LONGER_THAN_WINDOW" in ledger.read_text()
