"""`actserve models ...`: add models to a repository, and manage the models of a running server.

actserve models fetch PE-Core-B-16
actserve models fetch https://example.com/vit-b-16-8f.pt
actserve models import https://example.com/k400_32_8.pth --name xclip-b32
actserve models list
actserve models activate demo@2
actserve models rollback demo

`fetch` and `import` run `python -m export` in a separate process, because serving does not depend on its libraries.
"""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit

import typer

from serve.cli.calls import ApiRequest, PrintCurl, Server
from serve.cli.output import command, output
from serve.cli.programs import run_program
from serve.client.address import DEFAULT_SERVER
from serve.contract import MODEL_NAME
from serve.repository import ModelReference

app = typer.Typer(
    no_args_is_help=True, help="Fetch and import models; list and activate the models of a running server."
)

Wait = Annotated[float, typer.Option(min=0, max=300, help="Seconds to wait until the version is active.")]
Repository = Annotated[
    Path,
    typer.Option(help="Folder of the models.", envvar="SERVE_REPOSITORY", show_envvar=False, file_okay=False),
]
Weights = Annotated[Literal["fp32", "fp16"], typer.Option(help="Precision of the stored weights.")]
DEFAULT_REPOSITORY = Path("model_repository")


@command(app)
def fetch(
    source: Annotated[
        str,
        typer.Argument(
            help="An architecture of open_clip, e.g. PE-Core-B-16, or a path or http(s) address of a checkpoint.",
            metavar="NAME|FILE|ADDRESS",
        ),
    ],
    pretrained: Annotated[str | None, typer.Option(help="Pretrained tag, if the architecture has several.")] = None,
    served_as: Annotated[
        str | None, typer.Option("--name", help="Name of the served model; default: the architecture or file name.")
    ] = None,
    repository: Repository = DEFAULT_REPOSITORY,
    weights: Weights = "fp32",
) -> None:
    """Download published weights and add them to the repository as a model; needs the extra `export`."""
    if _is_checkpoint(source):
        if pretrained is not None:
            raise typer.BadParameter("it is for architectures, not for a file", param_hint="--pretrained")
        import_file(source, served_as or _file_name(source), repository, weights)
        return
    tag = ["--pretrained", pretrained] if pretrained is not None else []
    served_as = served_as or source
    arguments = ["model", f"--arch={source}", *tag, f"--name={served_as}", f"--repository={repository}"]
    _export([*arguments, f"--weights={weights}"], served_as=served_as, repository=repository)


@command(app, "import")
def import_file(
    source: Annotated[
        str, typer.Argument(help="File, folder or http(s) URL of a checkpoint of ActionCLIP, X-CLIP or CLIP.")
    ],
    served_as: Annotated[str, typer.Option("--name", help="Name of the served model.")],
    repository: Repository = DEFAULT_REPOSITORY,
    weights: Weights = "fp32",
) -> None:
    """Add a published checkpoint to the repository as a model; needs the extra `export`."""
    arguments = ["import-checkpoint", f"--name={served_as}", f"--repository={repository}", f"--weights={weights}"]
    _export([*arguments, "--", source], served_as=served_as, repository=repository)


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


def _export(arguments: Sequence[str], *, served_as: str, repository: Path) -> None:
    """Run a command of `python -m export` in a separate process, which reports its own errors.

    Raises:
        MissingExtra: the extra is not installed.
        typer.Exit: the command failed; the exit status is the same.
    """
    run_program("export", arguments, needed_by="this command")
    document = {"name": served_as, "repository": str(repository)}
    output().change(document, f"serve it with: actserve serve --model {served_as} --repository {repository}")


@command(app, "list")
def list_all(server: Server = DEFAULT_SERVER) -> None:
    """List the versions on disk: whether they are active, and their engine or the reason why they cannot be served."""
    listing = ApiRequest(method="GET", url=_url(server)).send_for_json("models", "aliases")
    if output().as_json:
        output().result(listing, None)
        return
    for item in listing["models"]:
        status = item.get("engine") or item.get("fault") or "not loaded"
        typer.echo(f"{item['name']}@{item['version']}\t{'active' if item['active'] else '-'}\t{status}")
    for alias, name in listing["aliases"].items():
        typer.echo(f"{alias} -> {name}")


@command(app)
def activate(
    model: Annotated[str, typer.Argument(help="NAME (its newest version) or NAME@VERSION.")],
    alias: Annotated[
        str | None, typer.Option(help="Alias to route to the model; requests without a model use the alias `default`.")
    ] = None,
    wait: Wait = 300,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Activate a version; if it cannot be served, nothing changes."""
    reference = ModelReference.parse(model)
    document: dict[str, Any] = {} if reference.version is None else {"version": reference.version}
    if alias is not None:
        document["alias"] = alias
    _change_active(f"{_url(server)}/{quote(reference.name)}:activate", document, wait=wait, print_curl=print_curl)


@command(app)
def rollback(
    name: Annotated[str, typer.Argument(help="A model or an alias.")],
    wait: Wait = 300,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Return to the previous version."""
    _change_active(f"{_url(server)}/{quote(name)}:rollback", {}, wait=wait, print_curl=print_curl)


def _change_active(url: str, document: dict[str, Any], *, wait: float, print_curl: bool) -> None:
    """Send an activation or a rollback and print its result."""
    headers = {"Content-Type": "application/json", "Prefer": f"wait={wait:g}"}
    call = ApiRequest(method="POST", url=url, headers=headers, body=json.dumps(document).encode())
    if print_curl:
        typer.echo(call.to_curl())
        return
    response = call.send_for_json("is_done", "active")
    if response["is_done"]:
        output().change(response, f"active: {', '.join(response['active'])}; default: {response['default']}")
        for warning in response.get("warnings", ()):  # older servers send no warnings
            output().note(f"warning: {warning['vocabulary']}: {warning['detail']}")
    else:
        staging = response["staging"]
        text = f"{staging['reference']} is {staging['stage']}; `actserve models list` shows when it is active"
        output().change(response, text)


def _url(server: str) -> str:
    return f"{server}/v1/models"
