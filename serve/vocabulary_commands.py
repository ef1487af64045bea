"""`actserve vocab ...`: the vocabularies of a running server from the command line.

actserve vocab put sports labels.csv
actserve vocab add sports "playing padel" --synonym "paddle tennis"
actserve vocab history sports
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from serve.errors import ActserveError
from serve.server_calls import DEFAULT_SERVER, Call, Server

app = typer.Typer(no_args_is_help=True, help="Vocabularies of a running server.")

TYPES_BY_SUFFIX = {".json": "application/json", ".csv": "text/csv", ".txt": "text/plain"}

PrintCurl = Annotated[bool, typer.Option("--print-curl", help="Show the request as a curl command; do not send it.")]
Author = Annotated[str, typer.Option(help="Who makes the change; stands in the history.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until the server uses the change.")]
Name = Annotated[str, typer.Argument(help="Name of the vocabulary.")]


@app.command("list")
def list_all(server: Server = DEFAULT_SERVER) -> None:
    """Name, version and number of labels of each vocabulary."""
    token = None
    while True:
        query = f"?page_token={token}" if token else ""
        page = Call(method="GET", url=f"{_base(server)}{query}").send().json()
        for item in page["vocabularies"]:
            typer.echo(f"{item['name']}@{item['version']}\t{item['num_labels']} labels\t{item['description']}")
        token = page["next_page_token"]
        if token is None:
            return


@app.command()
def show(
    name: Name,
    server: Server = DEFAULT_SERVER,
    file_format: Annotated[str, typer.Option("--format", help="txt (names), csv (phrases) or json (all).")] = "txt",
) -> None:
    """A vocabulary, NAME or NAME@VERSION: its labels, one a line, or as a file that `put` takes."""
    url = f"{_url(server, name)}:export?format={quote(file_format)}"
    typer.echo(Call(method="GET", url=url).send().text, nl=False)


@app.command()
def put(
    name: Name,
    file: Annotated[
        Path, typer.Argument(help="Labels: .txt (one a line), .csv or .json.", exists=True, dir_okay=False)
    ],
    split_names: Annotated[bool, typer.Option(help="Make words of CamelCase and snake_case names.")] = False,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Make a vocabulary of a file, or replace one."""
    media_type = TYPES_BY_SUFFIX.get(file.suffix.lower())
    if media_type is None:
        raise ActserveError(f"{file}: a file ends in {', '.join(TYPES_BY_SUFFIX)}")
    current = _etag(server, name)
    condition = {"If-None-Match": "*"} if current is None else {"If-Match": current}
    query = "?split_names=true" if split_names else ""
    headers = {"Content-Type": media_type, **condition, **_common(author, wait)}
    call = Call(method="PUT", url=f"{_url(server, name)}{query}", headers=headers, body=file.read_bytes())
    _change(call, print_curl=print_curl)


@app.command()
def add(
    name: Name,
    labels: Annotated[list[str], typer.Argument(help="Labels to add.")],
    synonym: Annotated[list[str] | None, typer.Option(help="Another phrase for it; with one label.")] = None,
    negative: Annotated[list[str] | None, typer.Option(help="A phrase near it that is not it; with one label.")] = None,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Add labels."""
    if (synonym or negative) and len(labels) != 1:
        raise ActserveError("--synonym and --negative belong to one label: add the labels one by one")
    added = [{"name": label, "synonyms": synonym or [], "negatives": negative or []} for label in labels]
    _patch(server, name, {"add": added}, author=author, wait=wait, print_curl=print_curl)


@app.command()
def remove(
    name: Name,
    labels: Annotated[list[str], typer.Argument(help="Labels to remove, by name or label_id.")],
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Remove labels."""
    _patch(server, name, {"remove": labels}, author=author, wait=wait, print_curl=print_curl)


@app.command()
def rename(
    name: Name,
    label: Annotated[str, typer.Argument(help="A label, by name or label_id.")],
    to: Annotated[str, typer.Argument(help="Its new name.")],
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Rename a label; it keeps its identity."""
    document = {"rename": [{"label": label, "to": to}]}
    _patch(server, name, document, author=author, wait=wait, print_curl=print_curl)


@app.command()
def history(name: Name, server: Server = DEFAULT_SERVER) -> None:
    """Versions, newest first: when, by whom, why."""
    for item in Call(method="GET", url=f"{_url(server, name)}/versions?page_size=1000").send().json()["versions"]:
        told = "\t".join((item["created_at"], f"{item['num_labels']} labels", item["author"], item["note"]))
        typer.echo(f"{name}@{item['version']}\t{told}")


@app.command()
def diff(
    name: Name,
    old: Annotated[int, typer.Argument(help="A version.")],
    new: Annotated[int, typer.Argument(help="Another.")],
    server: Server = DEFAULT_SERVER,
) -> None:
    """What was changed between two versions."""
    found = Call(method="GET", url=f"{_url(server, name)}:diff?from={old}&to={new}").send().json()
    lines = [f"- {label}" for label in found["removed"]] + [f"+ {label}" for label in found["added"]]
    lines += [f"~ {before} -> {after}" for before, after in found["renamed"]]
    lines += [f"~ {label}: other phrases" for label in found["changed"]] + [f"~ {item}" for item in found["fields"]]
    lines += ["~ order of labels"] if found["moved"] else []
    typer.echo("\n".join(lines) or "no difference")


@app.command()
def rollback(
    name: Name,
    version: Annotated[int, typer.Argument(help="The version to return to.")],
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Make a new version that equals an old one."""
    call = _json_call("POST", f"{_url(server, name)}:rollback", {"version": version}, _required(server, name))
    _change(_with(call, _common(author, wait)), print_curl=print_curl)


@app.command()
def delete(name: Name, print_curl: PrintCurl = False, server: Server = DEFAULT_SERVER) -> None:
    """Delete a vocabulary with its history."""
    call = Call(method="DELETE", url=_url(server, name), headers={"If-Match": _required(server, name)})
    if print_curl:
        typer.echo(call.curl())
        return
    call.send()
    typer.echo(f"{name} deleted")


def _patch(server: str, name: str, document: Mapping[str, Any], *, author: str, wait: float, print_curl: bool) -> None:
    call = _json_call("PATCH", _url(server, name), document, _required(server, name))
    _change(_with(call, _common(author, wait)), print_curl=print_curl)


def _json_call(method: str, url: str, document: Mapping[str, Any], etag: str) -> Call:
    body = json.dumps(document, ensure_ascii=False).encode()
    return Call(method=method, url=url, headers={"Content-Type": "application/json", "If-Match": etag}, body=body)


def _with(call: Call, headers: Mapping[str, str]) -> Call:
    return Call(method=call.method, url=call.url, headers={**call.headers, **headers}, body=call.body)


def _change(call: Call, *, print_curl: bool) -> None:
    """Send a change and tell what became of it."""
    if print_curl:
        typer.echo(call.curl())
        return
    found = call.send().json()
    state = "in use" if found["is_current"] else "committed; the server still encodes it"
    typer.echo(f"{found['name']}@{found['version']}: {found['num_labels']} labels, {state}")


def _common(author: str, wait: float) -> dict[str, str]:
    return {"Prefer": f"wait={wait:g}", **({"X-Author": author} if author else {})}


def _etag(server: str, name: str) -> str | None:
    """ETag of a vocabulary's newest version; None where there is none."""
    try:
        return str(Call(method="GET", url=_url(server, name)).send().headers["etag"])
    except ActserveError as error:
        if error.message.startswith("404"):
            return None
        raise


def _required(server: str, name: str) -> str:
    etag = _etag(server, name)
    if etag is None:
        raise ActserveError(f"there is no vocabulary {name!r} on {server}")
    return etag


def _base(server: str) -> str:
    return f"{server.rstrip('/')}/v1/vocabularies"


def _url(server: str, name: str) -> str:
    return f"{_base(server)}/{quote(name, safe='@')}"
