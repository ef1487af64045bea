"""The data folder of a server, and which installations use it.

The default folder belongs to the user, not to a checkout, so servers of several checkouts share their vocabularies by
default. Each start is recorded in a file of the folder; the server reports other installations that it finds there.
"""

import json
import logging
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from serve.files import write_atomically
from serve.settings import ServeSettings
from serve.store.database import Database, sqlite_url
from serve.version import VERSION

logger = logging.getLogger(__name__)

NOTE = "installations.json"
INSTALLATION = Path(__file__).resolve().parent.parent  # a checkout, or a site-packages folder


def database_file(folder: Path) -> Path:
    """Return the path of the SQLite database of a data folder."""
    return folder / "actserve.db"


def database_of(settings: ServeSettings) -> Database:
    """Return the database that the settings name.

    Raises:
        ConfigurationError: its folder cannot be created, or its URL cannot be used.
    """
    url = settings.store_url.get_secret_value()
    return Database(url or sqlite_url(database_file(settings.data_dir.expanduser())))


@dataclass(frozen=True, kw_only=True)
class StartRecord:
    """The last start of an installation on a folder."""

    version: str
    started_at: str  # ISO 8601, UTC


def register_start(folder: Path, *, installation: Path = INSTALLATION, version: str = VERSION) -> str:
    """Record this installation in the folder; return who else used the folder, "" if nothing else did.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    known = _read(folder / NOTE)
    usage = _describe(known, folder, installation=str(installation), version=version)
    known[str(installation)] = StartRecord(version=version, started_at=datetime.now(UTC).isoformat(timespec="seconds"))
    document = {name: asdict(start) for name, start in known.items()}
    write_atomically(folder / NOTE, json.dumps(document, indent=1, ensure_ascii=False))
    return usage


def _describe(known: dict[str, StartRecord], folder: Path, *, installation: str, version: str) -> str:
    others = {name: start for name, start in known.items() if name != installation}
    if others:
        name, start = max(others.items(), key=lambda item: item[1].started_at)
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        return f"shared with {name} (actserve {start.version}, started {start.started_at[:10]}){more}"
    if installation in known:
        before = known[installation].version
        return "" if before == version else f"last used by actserve {before}"
    return "used before by an unknown installation" if database_file(folder).exists() else "new"


def _read(note: Path) -> dict[str, StartRecord]:
    """Read the recorded installations; none if the file is absent or damaged."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        return {str(name): StartRecord(**start) for name, start in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read and is replaced: %s", note, error)
        return {}
