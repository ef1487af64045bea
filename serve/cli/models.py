"""`actserve models ...`: manage the models of a running server.

actserve models list
actserve models activate demo@2
actserve models rollback demo
"""

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from serve.cli.calls import DEFAULT_SERVER, Call, PrintCurl, Server
from serve.repository import ModelReference

app = typer.Typer(no_args_is_help=True, help="Models of a running server.")

Wait = Annotated[float, typer.Option(min=0, max=300, help="Seconds to wait until the version is active.")]


@app.command("list")
def list_all(server: Server = DEFAULT_SERVER) -> None:
    """List the versions on disk: which are active, on which engine, and why others cannot be."""
    found = Call(method="GET", url=_url(server)).answer("models", "aliases")
    for item in found["models"]:
        state = item.get("engine") or item.get("fault") or "not loaded"
        typer.echo(f"{item['name']}@{item['version']}\t{'active' if item['active'] else '-'}\t{state}")
    for alias, name in found["aliases"].items():
        typer.echo(f"{alias} -> {name}")


@app.command()
def activate(
    model: Annotated[str, typer.Argument(help="NAME (its newest version) or NAME@VERSION.")],
    alias: Annotated[
        str | None, typer.Option(help="Alias to route to the model; `default` is that of requests without a model.")
    ] = None,
    wait: Wait = 300,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Activate a version; if it cannot be served, nothing changes."""
    wanted = ModelReference.parse(model)
    given: dict[str, Any] = {} if wanted.version is None else {"version": wanted.version}
    if alias is not None:
        given["alias"] = alias
    _move(f"{_url(server)}/{quote(wanted.name)}:activate", given, wait=wait, print_curl=print_curl)


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="A model or an alias.")],
    wait: Wait = 300,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Return to the previous version."""
    _move(f"{_url(server)}/{quote(name)}:rollback", {}, wait=wait, print_curl=print_curl)


def _move(url: str, given: dict[str, Any], *, wait: float, print_curl: bool) -> None:
    headers = {"Content-Type": "application/json", "Prefer": f"wait={wait:g}"}
    call = Call(method="POST", url=url, headers=headers, body=json.dumps(given).encode())
    if print_curl:
        typer.echo(call.curl())
        return
    found = call.answer("is_done", "active")
    if found["is_done"]:
        typer.echo(f"active: {', '.join(found['active'])}; default: {found['default']}")
        for warning in found.get("warnings", ()):  # older servers send none
            typer.echo(f"warning: {warning['vocabulary']}: {warning['detail']}", err=True)
    else:
        staging = found["staging"]
        typer.echo(f"{staging['reference']} is {staging['stage']}; `actserve models list` shows when it is active")


def _url(server: str) -> str:
    return f"{server}/v1/models"
