"""`actserve backup`, `restore` and `doctor`: for the operator of a server, with its SERVE_* variables."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

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
    print(f"{file}: {len(manifest.files)} files, {format_size(created.num_bytes)}, schema {manifest.revision}")
    if not manifest.has_models:
        print("the models are not in the backup", file=sys.stderr)
    if manifest.omitted_settings:
        print(f"secrets are not in the backup: {', '.join(manifest.omitted_settings)}", file=sys.stderr)


def restore(
    file: Annotated[Path, typer.Argument(help="File that `actserve backup` wrote.", exists=True, dir_okay=False)],
) -> None:
    """Restore a backup into an empty database and empty folders, while no server uses them."""
    from serve.backup.restore import restore_backup
    from serve.environment import load_settings

    settings = load_settings({})
    manifest = restore_backup(settings, file)
    print(f"restored the backup of {manifest.created_at} by actserve {manifest.version}")
    print(f"its settings are in {settings.data_dir.expanduser() / 'restored-settings.env'}", file=sys.stderr)
    if manifest.omitted_settings:
        print(f"set these secrets again: {', '.join(manifest.omitted_settings)}", file=sys.stderr)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check settings, disk, store, models, engine, GPU, Triton and clock; exit with 1 if a check fails."""
    from serve.doctor import examine
    from serve.environment import load_settings

    checks = examine(load_settings({}))
    is_healthy = all(check.status != "failed" for check in checks)
    if as_json:
        document = {"healthy": is_healthy, "checks": [check.document() for check in checks]}
        print(json.dumps(document, ensure_ascii=False, indent=1))
    else:
        for check in checks:
            print(f"{check.status:7} {check.name:10} {check.detail}")
    sys.exit(0 if is_healthy else 1)
