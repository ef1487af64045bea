"""`actserve models ...`: new models for a repository, and the models of a running server, from the command line.

actserve models fetch PE-Core-B-16
actserve models fetch https://example.com/vit-b-16-8f.pt
actserve models import https://example.com/k400_32_8.pth --name xclip-b32
actserve models list
actserve models activate demo@2
actserve models rollback demo

`fetch` and `import` run `python -m export`, which has more options: serving itself needs none of its libraries.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import typer

from serve.cli.calls import DEFAULT_SERVER, ApiRequest, PrintCurl, Server
from serve.contract import MODEL_NAME
from serve.extras import require_extra
from serve.repository import ModelReference

app = typer.Typer(no_args_is_help=True, help="Fetch and import models; see and change those of a running server.")

Wait = Annotated[float, typer.Option(min=0, max=300, help="Seconds to wait until the version is active.")]


Repository = Annotated[
    Path,
    typer.Option(help="Folder of the models.", envvar="SERVE_REPOSITORY", show_envvar=False, file_okay=False),
]
Weights = Annotated[Literal["fp32", "fp16"], typer.Option(help="How matrices are stored.")]
DEFAULT_REPOSITORY = Path("model_repository")


@app.command()
def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="An architecture of open_clip, e.g. PE-Core-B-16, or a path or http(s) address of a checkpoint.",
            metavar="NAME|FILE|ADDRESS",
        ),
    ],
    pretrained: Annotated[str | None, typer.Option(help="Pretrained tag of an architecture with several.")] = None,
    served_as: Annotated[
        str | None, typer.Option("--name", help="Name to serve it under; default: the architecture or file name.")
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    weights: Weights = "fp32",
) -> None:
    """Fetch published weights and make a model of the repository of them; needs the extra `export`."""
    if _is_checkpoint(source):
        if pretrained is not None:
            raise typer.BadParameter("it is for architectures, not for a file", param_hint="--pretrained")
        import_file(source, served_as or _file_name(source), repository, weights)
        return
    given = ["--pretrained", pretrained] if pretrained is not None else []
    served_as = served_as or source
    words = ["model", f"--arch={source}", *given, f"--name={served_as}", f"--repository={repository}"]
    _export([*words, f"--weights={weights}"], served_as=served_as, repository=repository)


@app.command("import")
def import_file(
    source: Annotated[str, typer.Argument(help="File, folder or http(s) address of a file: ActionCLIP, X-CLIP, CLIP.")],
    served_as: Annotated[str, typer.Option("--name", help="Name to serve it under.")],
    repository: Repository = DEFAULT_REPOSITORY,
    weights: Weights = "fp32",
) -> None:
    """Make a model of the repository of a published checkpoint; needs the extra `export`."""
    words = ["import-checkpoint", f"--name={served_as}", f"--repository={repository}", f"--weights={weights}"]
    _export([*words, "--", source], served_as=served_as, repository=repository)


def _is_checkpoint(source: str) -> bool:
    """Return whether a source is a path or address; a folder without `/` could also be an architecture."""
    return "/" in source or Path(source).is_file()


def _file_name(source: str) -> str:
    """Return the name of a file or address without its suffix, to serve it under.

    Raises:
        BadParameter: it cannot be the name of a model.
    """
    path = urlsplit(source).path if "://" in source else source
    name = PurePosixPath(path).stem
    if not MODEL_NAME.fullmatch(name):
        raise typer.BadParameter(f"{name!r} cannot be the name of a model; give another", param_hint="--name")
    return name


def _export(words: Sequence[str], *, served_as: str, repository: Path) -> None:
    """Run a command of export in a separate process, which reports its errors.

    Raises:
        MissingExtra: the extra is not installed.
        typer.Exit: the command failed; with its exit status.
    """
    require_extra("export", needed_by="this command")
    status = subprocess.run([sys.executable, "-m", "export", *words], check=False).returncode
    if status != 0:
        raise typer.Exit(status if status > 0 else 128 - status)
    typer.echo(f"to serve it: actserve serve --model {served_as} --repository {repository}")


@app.command("list")
def list_all(server: Server = DEFAULT_SERVER) -> None:
    """List the versions on disk: which are active, on which engine, and why others cannot be."""
    found = ApiRequest(method="GET", url=_url(server)).answer("models", "aliases")
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
    call = ApiRequest(method="POST", url=url, headers=headers, body=json.dumps(given).encode())
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
