"""The one configuration of the encoder, and its named sizes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from dnagrinder.errors import CheckpointError

ACTIVATIONS = ("swiglu", "geglu")
#: What a card may ask for; far above any encoder, far below what would exhaust a machine before the weights are looked at.
MOST = {
    "vocabulary": 1 << 24,
    "hidden": 1 << 16,
    "layers": 1 << 10,
    "heads": 1 << 10,
    "intermediate": 1 << 18,
    "token_types": 16,
}


@dataclass(frozen=True)
class EncoderConfig:
    """Architecture of a dnaGrinder encoder; the defaults are ``base``, the paper's model.

    Post-LN blocks of the MosaicBERT lineage, no dropout (model-spec §1.1). Facts of the paper: 12 layers, vocabulary 4,096,
    ALiBi, SwiGLU, 63.6 M parameters; the widths are inferred from that count.
    """

    vocabulary: int = 4096
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 1024  # width after gating; the projection in front is twice as wide
    activation: str = "swiglu"  # or "geglu" (DNABERT-2's shape is geglu with 3072)
    tie_decoder: bool = False  # True: the output matrix is the embedding matrix
    token_types: int = 2  # kept for the lineage's checkpoints; type 0 is always used
    layer_norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise CheckpointError(f"architecture: {name} must be a whole number from 1 to {most:,}, found {value!r}")
        if self.hidden % self.heads:
            raise CheckpointError(f"architecture: hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        if self.activation not in ACTIVATIONS:
            raise CheckpointError(f"architecture: activation is one of {', '.join(ACTIVATIONS)}, found {self.activation!r}")

    @property
    def head_width(self) -> int:
        """Features of one attention head."""
        return self.hidden // self.heads

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the checkpoint's card holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EncoderConfig:
        """Inverse of ``to_dict``. Raises CheckpointError on a key that the encoder does not know."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise CheckpointError(f"architecture: unknown key(s) {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return cls(**values)


SIZES = {
    "base": EncoderConfig(),
    "mini": EncoderConfig(hidden=256, layers=8, heads=4, intermediate=768, tie_decoder=True),
}
