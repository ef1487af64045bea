"""`actserve vocab ...`: manage the vocabularies of a running server.

actserve vocab put sports labels.csv
actserve vocab add sports "playing padel" --synonym "paddle tennis"
actserve vocab history sports
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import typer

from serve.cli.calls import DEFAULT_SERVER, ApiRequest, PrintCurl, Server
from serve.cli.parameters import Yes, confirm
from serve.errors import ActserveError
from serve.extras import require_extra
from serve.lists.errors import AnnotationError
from serve.lists.labelled_table import read_labelled_table
from serve.lists.text import read_text

app = typer.Typer(no_args_is_help=True, help="Vocabularies of a running server.")

CALIBRATION_TIMEOUT_SECONDS = 3700
TYPES_BY_SUFFIX = {".json": "application/json", ".csv": "text/csv", ".txt": "text/plain"}

Author = Annotated[str, typer.Option(help="Who makes the change; shown in the history.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until the server uses the change.")]
Name = Annotated[str, typer.Argument(help="Name of the vocabulary.")]


@app.command("list")
def list_all(server: Server = DEFAULT_SERVER) -> None:
    """List name, version and number of labels of each vocabulary."""
    token = None
    while True:
        query = f"?page_token={token}" if token else ""
        page = ApiRequest(method="GET", url=f"{_base(server)}{query}").answer("vocabularies", "next_page_token")
        for item in page["vocabularies"]:
            typer.echo(f"{item['name']}@{item['version']}\t{item['num_labels']} labels\t{item['description']}")
        token = page["next_page_token"]
        if token is None:
            return


@app.command()
def show(
    name: Name,
    server: Server = DEFAULT_SERVER,
    file_format: Annotated[
        Literal["txt", "csv", "json"], typer.Option("--format", help="txt (names), csv (phrases) or json (all).")
    ] = "txt",
) -> None:
    """Print a vocabulary, NAME or NAME@VERSION: its labels, one per line, or a file that `put` accepts."""
    url = f"{_url(server, name)}:export?format={quote(file_format)}"
    typer.echo(ApiRequest(method="GET", url=url).send().text, nl=False)


@app.command()
def put(
    name: Name,
    file: Annotated[
        Path, typer.Argument(help="Labels: .txt (one per line), .csv or .json.", exists=True, dir_okay=False)
    ],
    split_names: Annotated[bool, typer.Option(help="Split CamelCase and snake_case names into words.")] = False,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Create or replace a vocabulary from a file."""
    media_type = TYPES_BY_SUFFIX.get(file.suffix.lower())
    if media_type is None:
        raise typer.BadParameter(
            f"{file}: the suffix of a file of labels has to be one of {', '.join(TYPES_BY_SUFFIX)}"
        )
    current = _etag(server, name)
    condition = {"If-None-Match": "*"} if current is None else {"If-Match": current}
    query = "?split_names=true" if split_names else ""
    headers = {"Content-Type": media_type, **condition, **_common(author, wait)}
    call = ApiRequest(method="PUT", url=f"{_url(server, name)}{query}", headers=headers, body=file)
    _change(call, print_curl=print_curl)


@app.command()
def add(
    name: Name,
    labels: Annotated[list[str], typer.Argument(help="Labels to add.")],
    synonym: Annotated[
        list[str] | None, typer.Option(help="Another phrase for the label; only with one label.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="A similar phrase that is not the label; only with one label.")
    ] = None,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Add labels."""
    if (synonym or negative) and len(labels) != 1:
        raise typer.BadParameter("--synonym and --negative belong to one label: add the labels one by one")
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
    """List versions, newest first: time, labels, author, note."""
    call = ApiRequest(method="GET", url=f"{_url(server, name)}/versions?page_size=1000")
    for item in call.answer("versions")["versions"]:
        facts = "\t".join((item["created_at"], f"{item['num_labels']} labels", item["author"], item["note"]))
        typer.echo(f"{name}@{item['version']}\t{facts}")


@app.command()
def diff(
    name: Name,
    old: Annotated[int, typer.Argument(help="A version.")],
    new: Annotated[int, typer.Argument(help="Another version.")],
    server: Server = DEFAULT_SERVER,
) -> None:
    """Print the differences between two versions."""
    found = ApiRequest(method="GET", url=f"{_url(server, name)}:diff?from={old}&to={new}").answer("added", "removed")
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
def delete(name: Name, yes: Yes = False, print_curl: PrintCurl = False, server: Server = DEFAULT_SERVER) -> None:
    """Delete a vocabulary with its history and example clips; this cannot be undone."""
    call = ApiRequest(method="DELETE", url=_url(server, name), headers={"If-Match": _required(server, name)})
    if print_curl:
        typer.echo(call.curl())
        return
    confirm(f"Delete {name} on {server}, with all its versions and example clips?", is_given=yes)
    call.send()
    typer.echo(f"{name} deleted")


@app.command("examples")
def list_examples(
    name: Name,
    label: Annotated[str | None, typer.Argument(help="A label, by name or label_id; by default all.")] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """List example clips, one per line: label, example_id, file name."""
    found = ApiRequest(method="GET", url=_url(server, name)).answer("labels")["labels"]
    for item in found if label is None else [_label(server, name, label)]:
        for example in item["examples"]:
            typer.echo(f"{item['name']}\t{example['example_id']}\t{example['filename']}")


@app.command()
def add_examples(
    name: Name,
    label: Annotated[str, typer.Argument(help="A label, by name or label_id.")],
    clips: Annotated[list[Path], typer.Argument(help="Video files that show it.", exists=True, dir_okay=False)],
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Add example clips to a label."""
    headers = {"If-Match": _required(server, name), **_common(author, wait)}
    url = f"{_url(server, name)}/labels/{_label(server, name, label)['label_id']}/examples"
    call = ApiRequest(method="POST", url=url, headers=headers, files=[("video", clip) for clip in clips])
    _change(call, print_curl=print_curl)


@app.command()
def remove_examples(
    name: Name,
    label: Annotated[str, typer.Argument(help="A label, by name or label_id.")],
    example: Annotated[str | None, typer.Argument(help="An example_id; by default all examples of the label.")] = None,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Remove example clips of a label."""
    url = f"{_url(server, name)}/labels/{_label(server, name, label)['label_id']}/examples"
    headers = {"If-Match": _required(server, name), **_common(author, wait)}
    _change(
        ApiRequest(method="DELETE", url=url if example is None else f"{url}/{quote(example)}", headers=headers),
        print_curl=print_curl,
    )


@app.command()
def calibrate(
    name: Name,
    index: Annotated[
        Path,
        typer.Argument(
            help="CSV with columns file,label and, where there are, group; an empty label: none of the labels.",
            exists=True,
            dir_okay=False,
        ),
    ],
    false_accept_rate: Annotated[float, typer.Option(help="Share of unknown clips that may be accepted.")] = 0.05,
    function: Annotated[
        Literal["softmax", "sigmoid"] | None, typer.Option(help="softmax or sigmoid; by default that of the model.")
    ] = None,
    clips: Annotated[int, typer.Option(help="Clips sampled from each video, as in later classifications.")] = 1,
    crops: Annotated[int, typer.Option(help="1 or 3 crops, as in later classifications.")] = 1,
    criterion: Annotated[
        Literal["score", "logit"] | None, typer.Option(help="score or logit; by default the one that separates better.")
    ] = None,
    per_label: Annotated[
        bool, typer.Option(help="Separate thresholds for labels that many unknown clips resemble.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Print what would be fitted and change nothing.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Folder to write reliability.png and open_set.png to.")] = None,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Fit "none of these" from clips: temperature and thresholds for a chosen false-accept rate."""
    if plot is not None:  # before the server makes a version
        require_extra("plots", needed_by="--plot")
    files, labels, groups = _read_index(index)
    options = {
        "labels": labels, "false_accept_rate": false_accept_rate, "num_clips": clips, "num_crops": crops,
        "per_label": per_label, "dry_run": dry_run,
        **({"function_to_apply": function} if function else {}), **({"criterion": criterion} if criterion else {}),
        **({"groups": groups} if any(groups) else {}),
    }  # fmt: skip
    call = ApiRequest(
        method="POST",
        url=f"{_url(server, name)}:calibrate",
        headers={"If-Match": _required(server, name), **_common(author, wait)},
        files=[("clip", file) for file in files],
        fields={"options": json.dumps(options, ensure_ascii=False)},
        timeout_seconds=CALIBRATION_TIMEOUT_SECONDS,
    )
    if print_curl:
        typer.echo(call.curl())
        return
    answer = call.answer("acceptance", "calibration")
    typer.echo(_description(answer))
    if plot is not None:
        from serve.cli.plots import draw_calibration  # the extra `plots`

        for path in draw_calibration(answer, plot):
            typer.echo(f"written: {path}")


def _read_index(index: Path) -> tuple[list[Path], list[str | None], list[str | None]]:
    """Read the files, which are relative to the index, their labels and their groups.

    Raises:
        typer.BadParameter: the index is not such a table, or a file does not exist.
    """
    try:
        table = read_labelled_table(read_text(index), allow_empty_label=True)
    except AnnotationError as error:
        raise typer.BadParameter(str(error)) from error
    if any(row.part for row in table.rows):
        raise typer.BadParameter(f"{index}: the column {table.part_column} names parts, a calibration has none")
    if not table.rows:
        raise typer.BadParameter(f"{index} names no clip")
    absent = [row.path for row in table.rows if not (index.parent / row.path).is_file()]
    if absent:
        raise typer.BadParameter(f"{index}: there is no file {str(index.parent / absent[0])!r} ({len(absent)} absent)")
    return (
        [index.parent / row.path for row in table.rows],
        [row.label or None for row in table.rows],
        [row.group or None for row in table.rows],
    )


def _description(answer: Mapping[str, Any]) -> str:
    """Return a description of a calibration."""
    acceptance, found = answer["acceptance"], answer["calibration"]
    fit, (low, high) = acceptance["fitted"], acceptance["fitted"]["false_accept_interval"]
    lines = [
        f"{answer['name']}@{answer['version']}" + (" (dry run: nothing was changed)" if answer.get("dry_run") else ""),
        f"  clips                {fit['num_known']} known, {fit['num_unknown']} unknown",
        f"  independent          {fit['num_known_independent']} known, {fit['num_unknown_independent']} unknown; "
        f"{fit['num_copies']} copies were left out",
        f"  temperature, bias    {acceptance['temperature']:.4g}, {acceptance['bias']:.4g}",
        f"  threshold            {_number(acceptance['threshold'])} of the {acceptance['criterion']}"
        + (f", {len(answer['label_thresholds'])} labels have their own" if answer["label_thresholds"] else ""),
        f"  false accepts        {found['false_accepts']} of {found['num_unknown_used']}; requested "
        f"{fit['false_accept_rate']:.3g}, 95 % interval of the true rate {low:.3f} to {high:.3f}",
        f"  known accepted       {_number(fit['true_accept_rate'])}, top-1 {_number(fit['accuracy'])}",
        f"  AUROC, FPR at 95 %   {_number(fit['auroc'])}, {_number(fit['fpr_at_95_tpr'])}",
        f"  calibration error    {_number(fit['calibration_error_before'])} before, "
        f"{_number(fit['calibration_error_after'])} after",
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _label(server: str, name: str, key: str) -> dict[str, Any]:
    """Return a label of the current version of a vocabulary, by name or label_id."""
    for label in ApiRequest(method="GET", url=_url(server, name)).answer("labels")["labels"]:
        if key in (label["label_id"], label["name"]):
            found: dict[str, Any] = label
            return found
    raise ActserveError(f"vocabulary {name!r} has no label {key!r}")


def _patch(server: str, name: str, document: Mapping[str, Any], *, author: str, wait: float, print_curl: bool) -> None:
    call = _json_call("PATCH", _url(server, name), document, _required(server, name))
    _change(_with(call, _common(author, wait)), print_curl=print_curl)


def _json_call(method: str, url: str, document: Mapping[str, Any], etag: str) -> ApiRequest:
    body = json.dumps(document, ensure_ascii=False).encode()
    return ApiRequest(method=method, url=url, headers={"Content-Type": "application/json", "If-Match": etag}, body=body)


def _with(call: ApiRequest, headers: Mapping[str, str]) -> ApiRequest:
    return ApiRequest(method=call.method, url=call.url, headers={**call.headers, **headers}, body=call.body)


def _change(call: ApiRequest, *, print_curl: bool) -> None:
    """Send a change and print its result."""
    if print_curl:
        typer.echo(call.curl())
        return
    found = call.answer("name", "version", "is_current")
    state = "in use" if found["is_current"] else "stored; the server is still encoding it"
    typer.echo(f"{found['name']}@{found['version']}: {found['num_labels']} labels, {state}")


def _common(author: str, wait: float) -> dict[str, str]:
    return {"Prefer": f"wait={wait:g}", **({"X-Author": author} if author else {})}


def _etag(server: str, name: str) -> str | None:
    """Return the ETag of the newest version of a vocabulary; None if it does not exist."""
    try:
        return str(ApiRequest(method="GET", url=_url(server, name)).send().headers["etag"])
    except ActserveError as error:
        if error.facts.get("status") == 404:
            return None
        raise


def _required(server: str, name: str) -> str:
    etag = _etag(server, name)
    if etag is None:
        raise ActserveError(f"there is no vocabulary {name!r} on {server}")
    return etag


def _base(server: str) -> str:
    return f"{server}/v1/vocabularies"


def _url(server: str, name: str) -> str:
    return f"{_base(server)}/{quote(name, safe='@')}"
