"""`actserve keys ...`: manage the API keys in the database of a server, for its operator.

actserve keys create camera-1 --scope infer --expires 90d
actserve keys list
actserve keys rotate camera-1
actserve keys revoke camera-1

The commands open the database of SERVE_DATA_DIR or SERVE_STORE_URL; the server does not need to run. A running server
accepts a new key immediately and rejects a revoked key within two seconds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve.cli.output import command, output
from serve.scopes import Scope

if TYPE_CHECKING:
    from serve.access.key_store import KeyStore
    from serve.access.keys import ApiKey
    from serve.access.limits import KeyLimits

app = typer.Typer(no_args_is_help=True, help="API keys in the database of a server.")

Name = Annotated[str, typer.Argument(help="Name of the key: letters, digits and . _ @ -, at most 64 characters.")]
Expires = Annotated[str | None, typer.Option(help="Lifetime, e.g. 12h or 90d; without it the key does not expire.")]


@command(app)
def create(
    name: Name,
    scope: Annotated[list[Scope], typer.Option(help="Scope of the key; can be given several times.")],
    expires: Expires = None,
    rate: Annotated[str | None, typer.Option(help="Limit of the rate of requests, e.g. 10/s, 60/m or 1000/h.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, max=100_000, help="Limit of concurrent requests.")] = None,
    daily: Annotated[
        int | None, typer.Option(min=1, max=10**9, help="Limit of requests per day, from midnight UTC.")
    ] = None,
) -> None:
    """Create a key and print it; it cannot be shown again.

    The servers of one database share the counts of a key with limits. Without a limit, requests are not counted.
    """
    from serve.access.keys import NAME
    from serve.errors import InvalidOption

    if NAME.fullmatch(name) is None:
        raise InvalidOption(f"the name of a key must match {NAME.pattern}, got {name[:80]!r}")
    lifetime, limits = _parse_lifetime(expires), _make_limits(rate, concurrency, daily)
    with _open_store() as store:
        key, text = store.create(name, sorted(set(scope)), lifetime_seconds=lifetime, limits=limits)
    scopes = ", ".join(key.scopes)
    output().note(f"{name} has the scopes {scopes}{_until(key.expires_at)}; the key is shown only once:")
    output().result(_new_key_document(key, text), text)


@command(app, "list")
def list_keys() -> None:
    """List the keys, including revoked and expired ones; secrets are not stored."""
    with _open_store() as store:
        keys = store.all()
    for key in keys:
        status = "revoked" if key.revoked_at is not None else "valid" if key.is_valid() else "expired"
        document = {
            "name": key.name, "key_id": key.key_id, "scopes": list(key.scopes), "state": status,
            "created_at": _format_time(key.created_at), "expires_at": _format_time(key.expires_at),
            "last_used_at": _format_time(key.last_used_at), "limits": asdict(key.limits),
        }  # fmt: skip
        used, limits = _format_time(key.last_used_at) or "never", _describe_limits(key.limits)
        text = f"{key.name}  {status}{_until(key.expires_at)}  {','.join(key.scopes)}  last used {used}{limits}"
        output().result(document, text)


@command(app)
def revoke(name: Name) -> None:
    """Revoke a key."""
    with _open_store() as store:
        store.revoke(name)
    output().change({"name": name, "state": "revoked"}, f"{name} is revoked")


@command(app)
def rotate(name: Name, expires: Expires = None) -> None:
    """Replace a key with a new key that has the same scopes and limits, and print it; the old key is revoked."""
    lifetime = _parse_lifetime(expires)
    with _open_store() as store:
        key, text = store.rotate(name, lifetime_seconds=lifetime)
    output().note(f"{name} has a new key{_until(key.expires_at)}; it is shown only once:")
    output().result(_new_key_document(key, text), text)


def _new_key_document(key: "ApiKey", text: str) -> dict[str, Any]:
    """Return the document of a new key; it is the only one that contains the key itself."""
    return {
        "name": key.name, "key_id": key.key_id, "scopes": list(key.scopes), "expires_at": _format_time(key.expires_at),
        "key": text,
    }  # fmt: skip


@contextmanager
def _open_store() -> Iterator["KeyStore"]:
    """Open the key store in the database that the environment configures."""
    from serve.access.key_store import KeyStore
    from serve.data_folder import open_database
    from serve.environment import load_settings

    settings = load_settings({})
    settings.require_extras()
    database = open_database(settings)
    try:
        database.migrate()
        yield KeyStore(database)
    finally:
        database.close()


def _parse_lifetime(expires: str | None) -> float | None:
    from serve.access.keys import parse_lifetime

    if expires is None:
        return None
    try:
        return parse_lifetime(expires)
    except ValueError as error:
        raise typer.BadParameter(f"--expires: {error}") from error


def _make_limits(rate: str | None, concurrency: int | None, daily: int | None) -> "KeyLimits":
    from serve.access.limits import KeyLimits, parse_rate

    try:
        requests, seconds = (None, None) if rate is None else parse_rate(rate)
    except ValueError as error:
        raise typer.BadParameter(f"--rate: {error}") from error
    return KeyLimits(rate_requests=requests, rate_seconds=seconds, max_concurrency=concurrency, daily_quota=daily)


def _describe_limits(limits: "KeyLimits") -> str:
    parts = [
        None if limits.rate_requests is None else f"{limits.rate_requests} requests in {limits.rate_seconds} s",
        None if limits.max_concurrency is None else f"{limits.max_concurrency} concurrent",
        None if limits.daily_quota is None else f"{limits.daily_quota} daily",
    ]
    text = ", ".join(part for part in parts if part is not None)
    return f"  at most {text}" if text else ""


def _until(timestamp: float | None) -> str:
    return "" if timestamp is None else f" until {_format_time(timestamp)}"


def _format_time(timestamp: float | None) -> str | None:
    """Format a time in ISO 8601, UTC."""
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")
