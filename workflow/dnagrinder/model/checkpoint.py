"""Checkpoints: a folder with ``model.safetensors``, ``tokenizer.json`` and ``card.json``.

The card names the architecture, the sha256 of both other files, the training data, the measured metrics and the limits.
Weights are read from safetensors only; anything else in the folder is ignored. Looking at a checkpoint does not load torch
(two seconds of a process); only its weights do.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from dnagrinder.errors import CheckpointError, OutputError
from dnagrinder.model.config import EncoderConfig
from dnagrinder.model.tokenizer import DnaTokenizer

if TYPE_CHECKING:
    import torch

    from dnagrinder.model.heads import MaskedLanguageModel

EMBEDDED = Path(__file__).resolve().parent.parent / "checkpoints"  # the checkpoints that travel with the package
MOST_JSON = 1 << 26  # bytes of tokenizer.json or card.json: 64 MiB, a hundred times what `mini` has
WEIGHTS, TOKENIZER, CARD = "model.safetensors", "tokenizer.json", "card.json"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are present and whose checksums hold.

    Attributes:
        folder: where its files lie.
        card: content of ``card.json``.
        config: architecture.
        tokenizer: its tokenizer.
        digest: sha256 of ``model.safetensors``.
    """

    folder: Path
    card: dict[str, Any]
    config: EncoderConfig
    tokenizer: DnaTokenizer
    digest: str

    @property
    def name(self) -> str:
        """Name on the card."""
        return str(self.card["name"])

    def load_model(self, device: torch.device, dtype: torch.dtype | None = None) -> MaskedLanguageModel:
        """The model in evaluation mode, in ``dtype`` (default float32).

        Raises:
            CheckpointError: the tensors are not those of the architecture.
        """
        import torch
        from safetensors.torch import load_file

        from dnagrinder.model.heads import MaskedLanguageModel

        try:
            tensors = load_file(self.folder / WEIGHTS)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{self.folder / WEIGHTS} is not a safetensors file ({error}); pickled weights are refused, "
                "convert them to safetensors first"
            ) from error
        with torch.device("meta"):  # shapes without memory: a card may ask for terabytes
            expected = {name: weight.shape for name, weight in MaskedLanguageModel(self.config).named_parameters()}
        problems = [f"missing {name}" for name in sorted(expected.keys() - tensors.keys())]
        problems += [f"unknown {name}" for name in sorted(tensors.keys() - expected.keys())]
        problems += [
            f"{name} is {tuple(tensors[name].shape)}, expected {tuple(shape)}"
            for name, shape in sorted(expected.items())
            if name in tensors and tensors[name].shape != shape
        ]
        if problems:
            more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise CheckpointError(f"{self.folder / WEIGHTS} does not fit its card: {'; '.join(problems[:5])}{more}")
        wild = [name for name, tensor in sorted(tensors.items()) if not tensor.isfinite().all()]
        if wild:
            raise CheckpointError(f"{self.folder / WEIGHTS}: {wild[0]} holds values that are no finite numbers")
        model = MaskedLanguageModel(self.config)
        model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def open_checkpoint(name: str | Path) -> Checkpoint:
    """Open an embedded checkpoint by name (``mini``) or any by its folder, and verify it.

    Raises:
        CheckpointError: no such checkpoint, a file missing, a checksum that differs, or a card that cannot be used.
    """
    folder = Path(name)
    if not folder.is_dir() and (EMBEDDED / name).is_dir():
        folder = EMBEDDED / name
    if not folder.is_dir():
        known = ", ".join(sorted(p.name for p in EMBEDDED.glob("*") if p.is_dir())) or "none"
        raise CheckpointError(f"checkpoint {name} is neither a folder nor an embedded checkpoint (embedded: {known})")
    missing = [file for file in (WEIGHTS, TOKENIZER, CARD) if not (folder / file).is_file()]
    if missing:
        raise CheckpointError(
            f"checkpoint {folder}: {', '.join(missing)} missing; a checkpoint is a folder with {WEIGHTS} (safetensors; "
            f"pickled weights are refused), {TOKENIZER} and {CARD}"
        )
    for file in (TOKENIZER, CARD):
        if (size := (folder / file).stat().st_size) > MOST_JSON:
            raise CheckpointError(f"{folder / file} is {size:,} bytes long; no checkpoint has such a file")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        stated, architecture = card["sha256"], card["architecture"]
        card["name"]
        if not isinstance(stated, dict) or not isinstance(architecture, dict):
            raise TypeError("sha256 and architecture are mappings")
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{folder / CARD} is no model card ({type(error).__name__}: {error})") from error
    digests = {file: file_sha256(folder / file) for file in (WEIGHTS, TOKENIZER)}
    for file, found in digests.items():
        if stated.get(file) != found:
            raise CheckpointError(
                f"{folder / file}: sha256 is {found}, its card says {stated.get(file)}; the file was altered or cut off, "
                "fetch it again"
            )
    tokenizer = DnaTokenizer.load(folder / TOKENIZER)
    config = EncoderConfig.from_dict(architecture)
    if tokenizer.vocabulary > config.vocabulary:
        raise CheckpointError(f"{folder}: the tokenizer has {tokenizer.vocabulary} ids, the model only {config.vocabulary}")
    return Checkpoint(folder, card, config, tokenizer, digests[WEIGHTS])


def save_checkpoint(
    folder: Path,
    model: MaskedLanguageModel,
    tokenizer: DnaTokenizer,
    card: dict[str, Any],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the three files; ``card`` is completed with architecture, parameter count and checksums.

    The card comes last: a folder whose writing was cut short has none, or one with other checksums, and is refused.

    Args:
        dtype: number format of the stored weights; default bfloat16, what training computes with.

    Raises:
        OutputError: the weights cannot be written.
    """
    import torch
    from safetensors.torch import save_file

    from dnagrinder.model.encoder import count_parameters

    folder.mkdir(parents=True, exist_ok=True)
    stored = dtype or torch.bfloat16
    tensors = {name: parameter.detach().to(stored).contiguous() for name, parameter in model.named_parameters()}
    try:
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OutputError(f"{folder / WEIGHTS} cannot be written: {error}") from error
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    tokenizer.save(folder / TOKENIZER)
    complete = {
        **card,
        "architecture": model.config.to_dict(),
        "parameters": count_parameters(model),
        "sha256": {file: file_sha256(folder / file) for file in (WEIGHTS, TOKENIZER)},
    }
    (folder / CARD).write_text(json.dumps(complete, indent=2) + "\n", encoding="utf-8")


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
