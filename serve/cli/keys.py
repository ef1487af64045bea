"""`actserve keys ...`: the API keys in the database of a server, for whoever runs it.

actserve keys create camera-1 --scope infer --expires 90d
actserve keys list
actserve keys rotate camera-1
actserve keys revoke camera-1

The commands open the database that SERVE_DATA_DIR or SERVE_STORE_URL names; the server need not run. A running server
accepts a new key at once and refuses a revoked one within two seconds.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from serve.access.scopes import Scope

if TYPE_CHECKING:
    from serve.access.key_store import KeyStore

app = typer.Typer(no_args_is_help=True, help="API keys of a server, in its database.")

Name = Annotated[str, typer.Argument(help="Name of the key: letters, digits and . _ @ -, at most 64 characters.")]
Expires = Annotated[str | None, typer.Option(help="Lifetime, e.g. 12h or 90d; without it the key does not expire.")]


@app.command()
def create(
    name: Name,
    scope: Annotated[list[Scope], typer.Option(help="What the key may do; can be given several times.")],
    expires: Expires = None,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    from serve.access.keys import NAME
    from serve.errors import InvalidOption

    if NAME.fullmatch(name) is None:
        raise InvalidOption(f"the name {name[:80]!r} has to match {NAME.pattern}")
    lifetime = _seconds(expires)
    with _store() as store:
        key, text = store.create(name, sorted(set(scope)), lifetime_seconds=lifetime)
    typer.echo(f"{name} may {', '.join(key.scopes)}{_until(key.expires_at)}; the key is shown only once:", err=True)
    typer.echo(text)


@app.command("list")
def list_keys(
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each key.")] = False,
) -> None:
    """List the keys, revoked and expired ones too; secrets are not stored."""
    with _store() as store:
        keys = store.all()
    for key in keys:
        state = "revoked" if key.revoked_at is not None else "valid" if key.is_valid() else "expired"
        facts = {
            "name": key.name, "key_id": key.key_id, "scopes": list(key.scopes), "state": state,
            "created_at": _time(key.created_at), "expires_at": _time(key.expires_at),
            "last_used_at": _time(key.last_used_at),
        }  # fmt: skip
        if as_json:
            typer.echo(json.dumps(facts))
        else:
            used = _time(key.last_used_at) or "never"
            typer.echo(f"{key.name}  {state}{_until(key.expires_at)}  {','.join(key.scopes)}  last used {used}")


@app.command()
def revoke(name: Name) -> None:
    """Revoke a key."""
    with _store() as store:
        store.revoke(name)
    typer.echo(f"{name} is revoked")


@app.command()
def rotate(name: Name, expires: Expires = None) -> None:
    """Replace a key by a new one with the same scopes, and print it; the old one is revoked."""
    lifetime = _seconds(expires)
    with _store() as store:
        key, text = store.rotate(name, lifetime_seconds=lifetime)
    typer.echo(f"{name} has a new key{_until(key.expires_at)}; it is shown only once:", err=True)
    typer.echo(text)


@contextmanager
def _store() -> Iterator["KeyStore"]:
    """Open the key store of the settings in the environment."""
    from serve.access.key_store import KeyStore
    from serve.data_folder import database_of
    from serve.environment import load_settings

    settings = load_settings({})
    settings.require_extras()
    database = database_of(settings)
    try:
        database.migrate()
        yield KeyStore(database)
    finally:
        database.close()


def _seconds(expires: str | None) -> float | None:
    from serve.access.keys import parse_lifetime

    if expires is None:
        return None
    try:
        return parse_lifetime(expires)
    except ValueError as error:
        raise typer.BadParameter(f"--expires: {error}") from error


def _until(moment: float | None) -> str:
    return "" if moment is None else f" until {_time(moment)}"


def _time(moment: float | None) -> str | None:
    """Return a time in ISO 8601, UTC."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
