"""`actserve backup`, `restore` and `doctor`: for the operator of a server, with its SERVE_* variables."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from serve.cli.output import output
from serve.files import format_size


def backup(
    file: Annotated[Path, typer.Argument(help="File to write; it must not exist.")],
    models: Annotated[bool, typer.Option(help="Include the folder of models, unless it is the bundled one.")] = True,
) -> None:
    """Write the database, feedback, uploads of jobs, models and settings to a file; the server may run."""
    from serve.backup.create import create_backup
    from serve.environment import load_settings

    created = create_backup(load_settings({}), file, environment=os.environ, has_models=models)
    manifest = created.manifest
    document = {
        "file": str(file), "num_files": len(manifest.files), "num_bytes": created.num_bytes,
        "revision": manifest.revision, "has_models": manifest.has_models,
        "omitted_settings": list(manifest.omitted_settings),
    }  # fmt: skip
    size = format_size(created.num_bytes)
    output().change(document, f"{file}: {len(manifest.files)} files, {size}, schema {manifest.revision}")
    if not manifest.has_models:
        output().note("the models are not in the backup")
    if manifest.omitted_settings:
        output().note(f"secrets are not in the backup: {', '.join(manifest.omitted_settings)}")


def restore(
    file: Annotated[Path, typer.Argument(help="File that `actserve backup` wrote.", exists=True, dir_okay=False)],
) -> None:
    """Restore a backup into an empty database and empty folders, while no server uses them."""
    from serve.backup.restore import restore_backup
    from serve.environment import load_settings

    settings = load_settings({})
    manifest = restore_backup(settings, file)
    variables = settings.data_dir.expanduser() / "restored-settings.env"
    document = {
        "created_at": manifest.created_at, "version": manifest.version, "settings": str(variables),
        "omitted_settings": list(manifest.omitted_settings),
    }  # fmt: skip
    output().change(document, f"restored the backup of {manifest.created_at} by actserve {manifest.version}")
    output().note(f"its settings are in {variables}")
    if manifest.omitted_settings:
        output().note(f"set these secrets again: {', '.join(manifest.omitted_settings)}")


def doctor() -> None:
    """Check settings, disk, store, models, engine, GPU, Triton and clock; exit with 1 if a check fails."""
    from serve.doctor import examine
    from serve.environment import load_settings

    checks = examine(load_settings({}))
    is_healthy = all(check.status != "failed" for check in checks)
    lines = [f"{check.status:7} {check.name:10} {check.detail}" for check in checks]
    output().result({"healthy": is_healthy, "checks": [check.document() for check in checks]}, "\n".join(lines))
    sys.exit(0 if is_healthy else 1)
