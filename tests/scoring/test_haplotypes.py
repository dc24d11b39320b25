"""Haplotype scores of a toy model worked out by hand, and what must hold whatever the weights."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from dnagrinder.genome.cis import CisHaplotype, CisReader, Member
from dnagrinder.genome.edits import Edit
from dnagrinder.genome.reference import ReferenceGenome
from dnagrinder.genome.variants import Allele, normalise
from dnagrinder.model.tokenizer import MASK, SPECIAL_TOKENS, DnaTokenizer
from dnagrinder.scoring import haplotypes as module
from dnagrinder.scoring.alleles import AlleleScorer
from dnagrinder.scoring.haplotype_tables import haplotype_id, haplotypes_table, sorted_haplotypes
from dnagrinder.scoring.haplotypes import HaplotypeScorer, summarise, window_centre
from dnagrinder.scoring.packing import Engine, ModelInput
from dnagrinder.scoring.parameters import ScoringParameters

#: log p of a base that is not seen, by a model that knows the letters' frequencies alone
ALONE = {"A": -1.0, "C": -2.0, "G": -3.0, "T": -1.0}
#: what is added where another base is seen anywhere in the window: (predicted, seen)
COMPANY = {("C", "G"): 0.5, ("G", "C"): 0.25}


class ToyModel:
    """log p(base) = ALONE of it, and COMPANY for what is visible."""

    def __init__(self, tokenizer: DnaTokenizer, company: dict[tuple[str, str], float]) -> None:
        self._strings, self._company = tokenizer.strings, company

    def log_probs(self, inputs: Sequence[ModelInput], consume: Callable[[int, torch.Tensor], None]) -> None:
        for index, model_input in enumerate(inputs):
            seen = {self._strings[i] for i in model_input.ids.tolist() if i > MASK}
            values = [
                ALONE[base]
                + sum(gain for (wanted, other), gain in self._company.items() if wanted == base and other in seen)
                for base in (self._strings[i] for i in model_input.targets[:, 0].tolist())
            ]
            consume(index, torch.tensor(values)[:, np.newaxis])


@pytest.fixture
def letters() -> DnaTokenizer:
    """A tokenizer whose tokens are single bases."""
    return DnaTokenizer.from_merges([*SPECIAL_TOKENS, *"ACGT"], [])


@pytest.fixture
def adenines(tmp_path: Path):
    """A reference of 200 A: T on the other strand."""
    (tmp_path / "a.fa").write_text(">a\n" + "A" * 200 + "\n")
    with ReferenceGenome.open(tmp_path / "a.fa") as genome:
        yield genome


def together(reference: ReferenceGenome, *edits: Edit, contig: str = "a") -> CisHaplotype:
    """A haplotype of one carrier from edits left to right."""
    members, start, end = [], edits[0].start, edits[-1].end
    bases = reference.fetch(contig, 0, reference.length(contig))
    whole, place = "", start
    for edit in edits:
        allele = normalise(
            reference, contig, edit.start - 1, bases[edit.start - 1 : edit.end], bases[edit.start - 1] + edit.replacement
        )
        members.append(Member(allele, edit))
        whole, place = whole + bases[place : edit.start] + edit.replacement, edit.end
    allele = normalise(reference, contig, start - 1, bases[start - 1 : end], bases[start - 1] + whole)
    return CisHaplotype(allele, tuple(members), ("x",))


def scored(letters: DnaTokenizer, reference: ReferenceGenome, company, haplotype: CisHaplotype, views: int = 1):
    model = ToyModel(letters, company)
    scorer = HaplotypeScorer(model, letters, reference, ScoringParameters(window=64, views=views))  # type: ignore[arg-type]
    (found,) = scorer.score([haplotype])
    return found


def test_two_snvs_by_hand(letters, adenines) -> None:
    """A>C at 100 and A>G at 104; on the other strand T>G and T>C.

                     forward                        reverse
    first alone      C - A = -2 + 1 = -1            G - T = -3 + 1 = -2
    second alone     G - A = -3 + 1 = -2            C - T = -2 + 1 = -1
    second | first   G sees C: -2 + 0.25 = -1.75    C sees G: -1 + 0.5 = -0.5
    first | second   C sees G: -1 + 0.5 = -0.5      G sees C: -2 + 0.25 = -1.75
    sum              -3                             -3
    joint, from left -1 - 1.75 = -2.75              -2 - 0.5 = -2.5
    joint, from right -2 - 0.5 = -2.5               -1 - 1.75 = -2.75
    as one block     C + G - A - A = -3 (neither is seen), and so on the other strand; A between are equal
    """
    found = scored(letters, adenines, COMPANY, together(adenines, Edit(100, 101, "C"), Edit(104, 105, "G")))
    assert found.singles == pytest.approx((-1.5, -1.5))
    assert found.singles_sum == pytest.approx(-3)
    assert found.joint == pytest.approx((-2.75 - 2.5 - 2.5 - 2.75) / 4)
    assert found.epistasis == pytest.approx((0.25 + 0.5 + 0.5 + 0.25) / 4)
    assert found.joint_spread == found.epistasis_spread == pytest.approx(0.125)
    assert (found.block_score, found.block_spread) == pytest.approx((-3, 0))
    assert found.rows == 4
    assert found.epistasis == pytest.approx(found.joint - found.singles_sum)


def test_one_masked_block_is_blind_to_the_company(letters, adenines) -> None:
    """Why the joint score is no single block: however strong the interaction, the block's score stays the same."""
    haplotype = together(adenines, Edit(100, 101, "C"), Edit(104, 105, "G"))
    strong = {pair: 10 * gain for pair, gain in COMPANY.items()}
    weak, strongly = (scored(letters, adenines, company, haplotype) for company in (COMPANY, strong))
    assert strongly.block_score == weak.block_score
    assert strongly.epistasis == pytest.approx(10 * weak.epistasis)


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize(
    "edits",
    [
        (Edit(100, 101, "C"), Edit(104, 105, "G")),
        (Edit(100, 101, "C"), Edit(101, 102, "G")),
        (Edit(90, 91, "T"), Edit(100, 100, "CG"), Edit(104, 107, "G"), Edit(110, 111, "C")),
    ],
)
def test_without_interaction_the_difference_is_nought(letters, adenines, edits, views) -> None:
    """Where each token's probability depends on itself alone, scores add up: to the sum of ALONE over what changes."""
    found = scored(letters, adenines, {}, together(adenines, *edits), views)
    assert found.epistasis == pytest.approx(0, abs=1e-5)
    assert found.epistasis_spread == pytest.approx(0, abs=1e-5)
    assert found.rows == 4 * views
    turned = dict(zip("ACGT", "TGCA", strict=True))
    changes = []
    for strand in (lambda base: base, turned.__getitem__):
        gained = sum(ALONE[strand(base)] for edit in edits for base in edit.replacement)
        changes.append(gained - sum(ALONE[strand("A")] for edit in edits for _ in range(edit.start, edit.end)))
    assert found.joint == pytest.approx(sum(changes) / 2)


def test_three_alleles_by_hand(letters, adenines) -> None:
    """C, G, C on A with one interaction, G that sees C: +1; C that sees G gains nothing.

    forward, alone   -1, -2, -1: sum -4             from the left   -1, (-2 + 1), -1 = -3
                                                    from the right  -1, (-2 + 1), -1 = -3
    reverse: G, C, G alone   -2, -1, -2: sum -5
             from the left   G -2, C -1, G sees the C between: -2 + 1 = -4
             from the right  G -2, C -1, G sees C: -1 = -4
    """
    edits = (Edit(100, 101, "C"), Edit(104, 105, "G"), Edit(108, 109, "C"))
    found = scored(letters, adenines, {("G", "C"): 1.0}, together(adenines, *edits))
    assert found.singles == pytest.approx((-1.5, -1.5, -1.5))
    assert found.joint == pytest.approx(-3.5)
    assert found.epistasis == pytest.approx(1)
    assert found.epistasis_spread == pytest.approx(0, abs=1e-6)
    assert found.joint_spread == pytest.approx(0.5)


def test_steps_are_summed_along_both_orders(adenines) -> None:
    """Columns are rows (strands x views); singles 1, 2, 4; further steps from the left 20, 40; from the right 100, 200."""
    haplotype = together(adenines, Edit(100, 101, "C"), Edit(104, 105, "G"), Edit(108, 109, "C"))
    steps = np.array([[1, 1], [2, 2], [4, 4], [20, 20], [40, 40], [100, 100], [200, 200], [7, 9]], dtype=float)
    found = summarise(haplotype, steps)
    left, right = 1 + 20 + 40, 4 + 100 + 200
    assert (found.joint, found.joint_spread) == ((left + right) / 2, (right - left) / 2)
    assert (found.singles, found.singles_sum) == ((1.0, 2.0, 4.0), 7.0)
    assert (found.epistasis, found.epistasis_spread) == (found.joint - 7, found.joint_spread)
    assert (found.block_score, found.block_spread, found.rows) == (8.0, 1.0, 4)


@pytest.fixture
def many(reference) -> list[CisHaplotype]:
    """Pairs and triples of SNVs and indels on contig 1, some across the run of N's edge."""
    draw, found = random.Random(8), []
    while len(found) < 12:
        start = draw.randrange(100, 1990)
        edits = []
        for place in sorted(draw.sample(range(start, start + 30), draw.choice([2, 2, 3]))):
            base = reference.fetch("1", place, place + 1)
            edits.append(Edit(place, place + 1, draw.choice([b for b in ["A", "C", "G", "T", ""] if b != base])))
        if "N" not in reference.fetch("1", start, start + 31):
            found.append(together(reference, *edits, contig="1"))
    return found


def test_order_chunks_and_packs_do_not_change_a_score(checkpoint, reference, many, monkeypatch) -> None:
    def scores(haplotypes: list[CisHaplotype], budget: int) -> dict[str, dict]:
        device = torch.device("cpu")
        engine = Engine(checkpoint.load_model(device), device, budget)
        scorer = HaplotypeScorer(engine, checkpoint.tokenizer, reference, ScoringParameters(window=128, views=2))
        return {haplotype_id(item.haplotype): asdict(item) for item in scorer.score(haplotypes)}

    first = scores(many, 8192)
    monkeypatch.setattr(module, "CHUNK", 5)
    assert scores(random.Random(1).sample(many, len(many)), 300) == first
    assert len(first) == len(many)
    assert all(item["epistasis_spread"] > 0 for item in first.values())


def test_the_block_score_is_that_of_the_recombined_allele(engine, checkpoint, reference, many) -> None:
    """And each single is its allele's own block score where the windows are the same."""
    parts = (engine, checkpoint.tokenizer, reference, ScoringParameters(window=128))
    found = list(HaplotypeScorer(*parts).score(many))
    alleles = [item.haplotype.allele for item in found]
    ones = {item.allele: item for item in AlleleScorer(*parts).score(alleles)}
    for item in found:
        whole = ones[item.haplotype.allele]
        assert (item.block_score, item.block_spread) == pytest.approx((whole.score, whole.spread), abs=1e-9)


def test_progress_and_nothing_to_do(engine, checkpoint, reference, many) -> None:
    calls: list[tuple[int, int]] = []
    scorer = HaplotypeScorer(engine, checkpoint.tokenizer, reference, ScoringParameters(window=64))
    list(scorer.score(many[:2], lambda done, total: calls.append((done, total))))
    assert calls == [(2, 2)]
    assert haplotypes_table(scorer.score([])).num_rows == 0


def test_table_is_sorted_and_names_its_rows(letters, adenines, tmp_path) -> None:
    text = "##fileformat=VCFv4.2\n##contig=<ID=a>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\tt\n"
    for position, alt, calls in ((101, "C", "1|0\t1|1"), (105, "G", "1|1\t0|1"), (60, "T", "0|1\t."), (62, "C", "0|1\t.")):
        text += f"a\t{position}\t.\tA\t{alt}\t.\t.\t.\tGT\t{calls}\n"
    (tmp_path / "calls.vcf").write_text(text)
    found = sorted_haplotypes(CisReader(tmp_path / "calls.vcf", adenines, distance=10, window=64))
    scorer = HaplotypeScorer(ToyModel(letters, COMPANY), letters, adenines, ScoringParameters(window=64))  # type: ignore[arg-type]
    rows = haplotypes_table(scorer.score(found)).to_pylist()
    assert [(row["start"], row["ref"], row["alt"], row["kind"], row["carriers"], row["copies"]) for row in rows] == [
        (59, "AAA", "TAC", "mnv", ["s"], 1),
        (100, "AAAAA", "CAAAG", "haplotype", ["s", "t"], 2),
    ]
    assert rows[1]["members"] == ["a:101:A:C", "a:105:A:G"]
    assert rows[1]["id"] == haplotype_id(found[1]) != rows[0]["id"]
    assert rows[1]["singles"] == pytest.approx([-1.5, -1.5])
    assert rows[1]["epistasis"] == pytest.approx(0.375)


def test_a_haplotype_in_two_spellings_is_one(tmp_path) -> None:
    """A deletion in a run of A, told at either end of the run; carriers are in the file's order."""
    (tmp_path / "runs.fa").write_text(">a\n" + "TGCTCAGTCC" * 8 + "TG" + "A" * 8 + "CG" + "CTGACCTGTC" * 8 + "\n")
    text = "##fileformat=VCFv4.2\n##contig=<ID=a>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts\tt\tu\n"
    for position, ref, alt, calls in (
        (82, "GA", "G", "0|0\t0|1\t0|0"),
        (88, "AA", "A", "0|1\t0|0\t1|0"),
        (92, "G", "T", "0|1\t0|1\t1|0"),
    ):
        text += f"a\t{position}\t.\t{ref}\t{alt}\t.\t.\t.\tGT\t{calls}\n"
    (tmp_path / "calls.vcf").write_text(text)
    with ReferenceGenome.open(tmp_path / "runs.fa") as genome:
        reader = CisReader(tmp_path / "calls.vcf", genome, distance=20, window=128)
        assert len(list(reader)) == 2
        (found,) = sorted_haplotypes(CisReader(tmp_path / "calls.vcf", genome, distance=20, window=128))
    assert found.carriers == ("s", "t", "u")
    assert [(member.edit.start, member.edit.end) for member in found.members] == [(82, 83), (91, 92)]


@pytest.fixture(scope="module")
def repeat(tmp_path_factory: pytest.TempPathFactory):
    """300 bases without a repeat, 300 times CA, GATT and 300 more."""
    draw = random.Random(7)
    before, behind = ("".join(draw.choice("ACGT") for _ in range(299)) for _ in range(2))
    path = tmp_path_factory.mktemp("repeat") / "r.fa"
    path.write_text(f">r\n{before}T{'CA' * 300}GATT{behind}\n")
    with ReferenceGenome.open(path) as genome:
        yield genome


@pytest.mark.parametrize("spelling", [(302, 310), (302, 340), (580, 600), (880, 890), (894, 896)])
def test_deletions_in_a_long_repeat_score_alike_wherever_they_are_spelled(engine, checkpoint, repeat, spelling) -> None:
    """As a whole they move to the repeat's left end, further than the window reaches."""
    scorer = HaplotypeScorer(engine, checkpoint.tokenizer, repeat, ScoringParameters(window=256))
    there, here = (together(repeat, Edit(a, a + 2, ""), Edit(b, b + 4, ""), contig="r") for a, b in (spelling, (300, 302)))
    assert haplotype_id(there) == haplotype_id(here)
    found, leftmost = scorer.score([there, here])
    assert {**asdict(found), "haplotype": None} == {**asdict(leftmost), "haplotype": None}
    (as_one,) = AlleleScorer(engine, checkpoint.tokenizer, repeat, ScoringParameters(window=256)).score([here.allele])
    assert found.block_score == pytest.approx(as_one.score, abs=1e-9)


def test_alleles_far_from_where_the_whole_stands_are_scored_in_their_context(engine, checkpoint, repeat) -> None:
    """G>C and GA behind it make one CA more, which as one allele stands 600 bases further left."""
    haplotype = together(repeat, Edit(900, 901, "C"), Edit(902, 902, "GA"), contig="r")
    assert haplotype.allele.key == "r:300:T:TCA"
    (found,) = HaplotypeScorer(engine, checkpoint.tokenizer, repeat, ScoringParameters(window=256)).score([haplotype])
    assert np.isfinite([found.joint, *found.singles, found.block_score]).all()


@pytest.mark.parametrize(
    ("start", "ref", "alt", "first", "last", "centre"),
    [
        (500, "A", "C", 500, 520, 500),  # the whole's own middle where the alleles lie around it
        (499, "TCA", "T", 500, 502, 501),
        (299, "T", "TCA", 900, 902, 838),  # 902 - 64
        (299, "T", "TCA", 340, 364, 300),
        (299, "T", "TCA", 341, 365, 301),
        (699, "T", "TCA", 500, 520, 564),  # 500 + 64
    ],
)
def test_a_quarter_of_the_window_lies_on_each_side_of_all_alleles(start, ref, alt, first, last, centre) -> None:
    edits = [Edit(first, first + 1, "T"), Edit(last - 1, last, "T")]
    assert window_centre(Allele("r", start, ref, alt), edits, 256) == centre
