"""What decides a score besides model, reference and allele, and the provenance that every output carries."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dnagrinder import __version__
from dnagrinder.errors import ConfigError

if TYPE_CHECKING:
    from dnagrinder.model.checkpoint import Checkpoint

# Forced-boundary views (masked bases, slot of the scored base); ``views`` takes the first ones. On held-out human bases
# (1, 0) is best by far and the others lie close together (docs/method.md).
VIEWS = ((1, 0), (5, 2), (4, 1), (4, 2), (5, 1), (6, 3))
PRECISIONS = ("float32", "bfloat16")
# Spacings of lattice scoring that were measured (docs/lattice.md); 0 masks one site a pass.
LATTICES = (0, 32, 64, 128, 256)
DEFAULT_LATTICE = 32  # of prescore: the cheapest, and the spacing that `mini` was trained with
TILE = 2048  # bases of a contig that a lattice pass scores together, in a fixed grid from base 0
METHOD_REVISION = 2  # raised by every change of the code that changes a score; part of the parameters' digest
HAPLOTYPE_METHOD = "chain_of_blocks/2"  # raised by every change of the code that changes a score of a haplotype alone
TOKEN_BUDGET = 8192  # tokens of a pack; 8 row blocks, ~150 MB of activations in `base`


@dataclass(frozen=True)
class ScoringParameters:
    """Parameters of the scores.

    Attributes:
        window: bases of reference around a locus that the model sees; clipped at contig ends.
        views: number of forced-boundary views of an SNV, and of block widths of other alleles, on each strand.
        precision: number format of the model's arithmetic.
        epsilon: share of attention that may be left out (certified); 0 for none.
        lattice: SNVs only: distance in bases of the sites masked in one pass (``scoring.lattice``); 0 for one site a pass.
    """

    window: int = 512
    views: int = 1
    precision: str = "float32"
    epsilon: float = 1e-6
    lattice: int = 0

    def __post_init__(self) -> None:
        problems = []
        if not 32 <= self.window <= 1_000_000:
            problems.append(f"window must lie between 32 and 1,000,000 bases, found {self.window}")
        if not 1 <= self.views <= len(VIEWS):
            problems.append(f"views must lie between 1 and {len(VIEWS)}, found {self.views}")
        if self.precision not in PRECISIONS:
            problems.append(f"precision is one of {', '.join(PRECISIONS)}, found {self.precision!r}")
        if not 0 <= self.epsilon < 1:
            problems.append(f"epsilon must lie in [0, 1), found {self.epsilon}")
        if self.lattice not in LATTICES:
            problems.append(f"lattice is one of {', '.join(map(str, LATTICES))}, found {self.lattice}")
        if problems:
            raise ConfigError("scoring parameters", problems)

    @property
    def stated(self) -> dict[str, Any]:
        """Name and value of every parameter in force: ``lattice`` comes with its tile, and only where it is used."""
        values = asdict(self)
        lattice = values.pop("lattice")
        return {**values, "lattice": lattice, "tile": TILE} if lattice else values

    @property
    def digest(self) -> str:
        """sha256 over the parameters, the views spelled out, and the revision of the method, in canonical JSON."""
        stated = {**self.stated, "views": VIEWS[: self.views], "method_revision": METHOD_REVISION}
        return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()


def provenance(checkpoint: Checkpoint, reference_sha256: str, parameters: ScoringParameters) -> dict[str, Any]:
    """What an output must name to be traced: tool version, checksums of weights, tokenizer and reference, parameters."""
    return {
        "tool_version": __version__,
        "checkpoint": {"name": checkpoint.name, "sha256": checkpoint.digest},
        "tokenizer_sha256": checkpoint.tokenizer.digest,
        "reference_sha256": reference_sha256,
        "parameters": parameters.stated,
        "parameters_sha256": parameters.digest,
    }


def context_digest(traced: dict[str, Any]) -> str:
    """sha256 over everything of a provenance that decides a score; the tool's version is not part of it."""
    deciding = [
        traced["checkpoint"]["sha256"],
        traced["tokenizer_sha256"],
        traced["reference_sha256"],
        traced["parameters_sha256"],
    ]
    return hashlib.sha256("\n".join(deciding).encode()).hexdigest()
