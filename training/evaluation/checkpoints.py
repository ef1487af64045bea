"""Read the checkpoint to evaluate, of any format, and identify it by its content."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from serve.files import file_sha256
from training.checkpoints.native_format import Checkpoint
from training.checkpoints.reading import read_checkpoint
from training.checkpoints.tokenizer_files import apply_tokenizer_file
from training.evaluation.results import CheckpointIdentity


def read_for_evaluation(
    path: Path, *, num_frames: int | None = None, activation: str | None = None, tokenizer: Path | None = None
) -> tuple[Checkpoint, CheckpointIdentity]:
    """Read a checkpoint of any format and return it with its identity.

    `num_frames` (T) and `activation` (of the CLIP towers) are for third-party files that do not contain them;
    `tokenizer` is for models that do not use CLIP's tokenizer.

    Raises:
        CheckpointError, ModelConfigError: the checkpoint cannot be read, or its weights do not match the architecture.
    """
    overrides = {"num_frames": num_frames, "activation": activation}
    checkpoint = read_checkpoint(path, overrides={name: item for name, item in overrides.items() if item is not None})
    if tokenizer is not None and checkpoint.text.tokenizer == "tokenizers":
        checkpoint = replace(checkpoint, text=apply_tokenizer_file(checkpoint.text, tokenizer))
    sha256 = file_sha256(path) if path.is_file() else str(checkpoint.provenance.get("sha256", ""))
    config = _mapping(checkpoint.provenance.get("config"))
    step = checkpoint.training_state.get("step", checkpoint.provenance.get("steps"))
    identity = CheckpointIdentity(
        file=path.name,
        sha256=sha256,
        family=checkpoint.family,
        step=step if isinstance(step, int) else None,
        run=str(_mapping(config.get("run")).get("out", "")),
        few_shot=_few_shot(config),
    )
    return checkpoint, identity


def _few_shot(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the shots and the seed of a few-shot run from its configuration; empty for other runs."""
    data = _mapping(config.get("data"))
    shots, seed = data.get("shots"), data.get("shots_seed", 0)
    return {"shots": shots, "seed": seed} if isinstance(shots, int) and shots > 0 else {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
