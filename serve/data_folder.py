"""The data folder of a server and the installations that use it.

The default folder is per user, so servers started from different checkouts share their vocabularies. Each start is
recorded in a file of the folder; the server reports other installations recorded there.
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

RECORDS_FILE = "installations.json"
INSTALLATION = Path(__file__).resolve().parent.parent  # a checkout, or a site-packages folder


def database_path(folder: Path) -> Path:
    """Return the path of the SQLite database of a data folder."""
    return folder / "actserve.db"


def open_database(settings: ServeSettings) -> Database:
    """Open the database of the settings.

    Raises:
        ConfigurationError: its folder cannot be created, or its URL cannot be used.
    """
    url = settings.store_url.get_secret_value()
    return Database(url or sqlite_url(database_path(settings.data_dir.expanduser())))


@dataclass(frozen=True, kw_only=True)
class StartRecord:
    """The last start of an installation on a folder."""

    version: str
    started_at: str  # ISO 8601, UTC


def register_start(folder: Path, *, installation: Path = INSTALLATION, version: str = VERSION) -> str:
    """Record this start in the folder; return a description of other or earlier users of the folder, or "".

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = _read_records(folder / RECORDS_FILE)
    usage = _describe_usage(records, folder, installation=str(installation), version=version)
    records[str(installation)] = StartRecord(
        version=version, started_at=datetime.now(UTC).isoformat(timespec="seconds")
    )
    document = {name: asdict(start) for name, start in records.items()}
    write_atomically(folder / RECORDS_FILE, json.dumps(document, indent=1, ensure_ascii=False))
    return usage


def _describe_usage(records: dict[str, StartRecord], folder: Path, *, installation: str, version: str) -> str:
    others = {name: start for name, start in records.items() if name != installation}
    if others:
        name, start = max(others.items(), key=lambda item: item[1].started_at)
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        return f"shared with {name} (actserve {start.version}, started {start.started_at[:10]}){more}"
    if installation in records:
        last_version = records[installation].version
        return "" if last_version == version else f"last used by actserve {last_version}"
    return "used before by an unknown installation" if database_path(folder).exists() else "new"


def _read_records(path: Path) -> dict[str, StartRecord]:
    """Read the recorded starts by installation; return an empty dict if the file is missing or damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): StartRecord(**start) for name, start in document.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read and will be replaced: %s", path, error)
        return {}
