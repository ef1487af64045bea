"""The format of a backup: a tar file whose first member, `manifest.json`, lists the others with size and SHA-256.

manifest.json
store.db            the database, always as a SQLite file
settings.env        SERVE_* variables without secrets
feedback/...        clips of corrections and their index
jobs/...            uploaded inputs of unfinished jobs
models/...          the folder of models
"""

from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

MANIFEST, STORE, SETTINGS = "manifest.json", "store.db", "settings.env"
FOLDERS = ("feedback", "jobs", "models")
MAX_MANIFEST_BYTES = 64 * 2**20


class BackupFile(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    num_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        path = PurePosixPath(name)
        if str(path) != name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise ValueError("the name of a file must be a relative path without `..`")
        if name not in (STORE, SETTINGS) and (path.parts[0] not in FOLDERS or len(path.parts) < 2):
            raise ValueError(f"a file must be {STORE}, {SETTINGS} or in one of the folders {', '.join(FOLDERS)}")
        return name


class Manifest(BaseModel):
    """Contents of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    version: str  # release that made the backup
    created_at: str  # ISO 8601, UTC
    revision: str  # schema of the database
    database: Literal["sqlite", "postgresql"]
    omitted_settings: tuple[str, ...]  # names of the variables that hold secrets
    has_models: bool
    files: tuple[BackupFile, ...]
