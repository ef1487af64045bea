"""The manifest of an output folder: what decides its content, so that a later run continues the same work."""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serve.errors import InvalidOption
from serve.files import write_atomically
from serve.jobs.records import JobKind
from serve.json_models import read_model
from serve.version import VERSION

FILE = "manifest.json"
Format = Literal["parquet", "jsonl"]


class RunSettings(BaseModel):
    """What decides the content of the output; a run continues a folder only with equal settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: JobKind
    options: dict[str, Any] = Field(description="Options of the kind, with the versions of model and vocabulary.")
    model: str = Field(description="`name@version`.")
    model_digest: str = Field(description="Digest of all files of the model version.")
    features_digest: str = Field(description="Digest of the graph that computes the features.")
    engine: str = Field(description="Runtime and precision.")
    vocabulary_digest: str | None = Field(description="Digest of the vocabulary; null if none is used.")
    formats: tuple[Format, ...]
    features: bool = Field(description="Whether the tables contain features.")


class Manifest(BaseModel):
    """Content of `manifest.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    run_id: str = Field(pattern="^[0-9a-f]{32}$", description="Random id; ids of imported videos derive from it.")
    version: str = Field(description="Version of actserve that created the folder.")
    created_at: str
    settings: RunSettings


def create_manifest(folder: Path, settings: RunSettings) -> Manifest:
    """Write the manifest of a new output folder."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = Manifest(run_id=secrets.token_hex(16), version=VERSION, created_at=created, settings=settings)
    write_atomically(folder / FILE, manifest.model_dump_json(indent=1) + "\n")
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of an output folder; None if it has none.

    Raises:
        InvalidOption: the file is not a manifest of this version of actserve.
    """
    path = folder / FILE
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        return read_model(Manifest, content)
    except InvalidOption as error:
        raise InvalidOption(f"{path} is not a manifest of `actserve batch` that this version reads: {error}") from error


def check_same_settings(folder: Path, manifest: Manifest, settings: RunSettings) -> None:
    """Check that a run would continue the work of the folder.

    Raises:
        InvalidOption: a setting differs; the message lists the differences.
    """
    before, now = manifest.settings.model_dump(mode="json"), settings.model_dump(mode="json")
    options_before, options_now = before.pop("options"), now.pop("options")
    pairs = {name: (before[name], now[name]) for name in before}
    for name in sorted({*options_before, *options_now}):
        pairs[f"options.{name}"] = (options_before.get(name), options_now.get(name))
    differences = [
        f"{name} was {_shorten(old)} and is {_shorten(new)}" for name, (old, new) in pairs.items() if old != new
    ]
    if differences:
        raise InvalidOption(
            f"{folder} was written with other settings: {'; '.join(differences)}. "
            "Run with the same settings to continue, or choose another folder with --out"
        )


def _shorten(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
