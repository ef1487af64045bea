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

from serve.cli.calls import ApiRequest, PrintCurl, Server
from serve.cli.output import command, output
from serve.cli.parameters import Yes, confirm
from serve.client.address import DEFAULT_SERVER
from serve.errors import ActserveError
from serve.extras import require_extra
from serve.lists.errors import AnnotationError
from serve.lists.labelled_table import read_labelled_table
from serve.lists.text import read_text

app = typer.Typer(no_args_is_help=True, help="Vocabularies of a running server.")

CALIBRATION_TIMEOUT_SECONDS = 3700
MEDIA_TYPES = {".json": "application/json", ".csv": "text/csv", ".txt": "text/plain"}  # by file suffix

Author = Annotated[str, typer.Option(help="Author of the change, shown in the history.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait until the server uses the change.")]
Name = Annotated[str, typer.Argument(help="Name of the vocabulary.")]


@command(app, "list")
def list_all(server: Server = DEFAULT_SERVER) -> None:
    """List name, version and number of labels of each vocabulary."""
    token = None
    while True:
        query = f"?page_token={token}" if token else ""
        page = ApiRequest(method="GET", url=f"{_collection_url(server)}{query}").send_for_json(
            "vocabularies", "next_page_token"
        )
        for item in page["vocabularies"]:
            output().result(
                item, f"{item['name']}@{item['version']}\t{item['num_labels']} labels\t{item['description']}"
            )
        token = page["next_page_token"]
        if token is None:
            return


@command(app)
def show(
    name: Name,
    server: Server = DEFAULT_SERVER,
    file_format: Annotated[
        Literal["txt", "csv", "json"], typer.Option("--format", help="txt (names), csv (phrases) or json (all).")
    ] = "txt",
) -> None:
    """Print a vocabulary, NAME or NAME@VERSION: its labels, one per line, or a file that `put` accepts."""
    if output().as_json:
        output().result(ApiRequest(method="GET", url=_url(server, name)).send_for_json("labels"), None)
        return
    url = f"{_url(server, name)}:export?format={quote(file_format)}"
    typer.echo(ApiRequest(method="GET", url=url).send().text, nl=False)


@command(app)
def put(
    name: Name,
    file: Annotated[
        Path, typer.Argument(help="File of labels: .txt (one per line), .csv or .json.", exists=True, dir_okay=False)
    ],
    split_names: Annotated[bool, typer.Option(help="Split CamelCase and snake_case names into words.")] = False,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Create or replace a vocabulary from a file."""
    media_type = MEDIA_TYPES.get(file.suffix.lower())
    if media_type is None:
        raise typer.BadParameter(
            f"the suffix of a label file must be one of {', '.join(MEDIA_TYPES)}, got {str(file)!r}"
        )
    current = _etag(server, name)
    condition = {"If-None-Match": "*"} if current is None else {"If-Match": current}
    query = "?split_names=true" if split_names else ""
    headers = {"Content-Type": media_type, **condition, **_change_headers(author, wait)}
    call = ApiRequest(method="PUT", url=f"{_url(server, name)}{query}", headers=headers, body=file)
    _send_change(call, print_curl=print_curl)


@command(app)
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
        raise typer.BadParameter("--synonym and --negative apply to one label; add the labels one at a time")
    added = [{"name": label, "synonyms": synonym or [], "negatives": negative or []} for label in labels]
    _patch(server, name, {"add": added}, author=author, wait=wait, print_curl=print_curl)


@command(app)
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


@command(app)
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


@command(app)
def history(name: Name, server: Server = DEFAULT_SERVER) -> None:
    """List the versions, newest first: time, number of labels, author, note."""
    call = ApiRequest(method="GET", url=f"{_url(server, name)}/versions?page_size=1000")
    for item in call.send_for_json("versions")["versions"]:
        columns = "\t".join((item["created_at"], f"{item['num_labels']} labels", item["author"], item["note"]))
        output().result(item, f"{name}@{item['version']}\t{columns}")


@command(app)
def diff(
    name: Name,
    old: Annotated[int, typer.Argument(help="A version.")],
    new: Annotated[int, typer.Argument(help="Another version.")],
    server: Server = DEFAULT_SERVER,
) -> None:
    """Print the differences between two versions."""
    difference = ApiRequest(method="GET", url=f"{_url(server, name)}:diff?from={old}&to={new}").send_for_json(
        "added", "removed"
    )
    lines = [f"- {label}" for label in difference["removed"]] + [f"+ {label}" for label in difference["added"]]
    lines += [f"~ {before} -> {after}" for before, after in difference["renamed"]]
    lines += [f"~ {label}: different phrases, threshold or examples" for label in difference["changed"]]
    lines += [f"~ {item}" for item in difference["fields"]]
    lines += ["~ order of labels"] if difference["moved"] else []
    output().result(difference, "\n".join(lines) or "no differences")


@command(app)
def rollback(
    name: Name,
    version: Annotated[int, typer.Argument(help="The version to return to.")],
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Create a new version that equals an old one."""
    call = _make_json_request(
        "POST", f"{_url(server, name)}:rollback", {"version": version}, _required_etag(server, name)
    )
    _send_change(_add_headers(call, _change_headers(author, wait)), print_curl=print_curl)


@command(app)
def delete(name: Name, yes: Yes = False, print_curl: PrintCurl = False, server: Server = DEFAULT_SERVER) -> None:
    """Delete a vocabulary with its history and example clips; this cannot be undone."""
    call = ApiRequest(method="DELETE", url=_url(server, name), headers={"If-Match": _required_etag(server, name)})
    if print_curl:
        typer.echo(call.to_curl())
        return
    confirm(f"Delete {name} on {server}, with all its versions and example clips?", is_confirmed=yes)
    call.send()
    output().change({"name": name, "deleted": True}, f"{name} deleted")


@command(app, "examples")
def list_examples(
    name: Name,
    label: Annotated[str | None, typer.Argument(help="A label, by name or label_id; by default all.")] = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """List example clips, one per line: label, example_id, file name."""
    labels = ApiRequest(method="GET", url=_url(server, name)).send_for_json("labels")["labels"]
    for item in labels if label is None else [_find_label(server, name, label)]:
        for example in item["examples"]:
            document = {"label": item["name"], "label_id": item["label_id"], **example}
            output().result(document, f"{item['name']}\t{example['example_id']}\t{example['filename']}")


@command(app)
def add_examples(
    name: Name,
    label: Annotated[str, typer.Argument(help="A label, by name or label_id.")],
    clips: Annotated[list[Path], typer.Argument(help="Video files that show the label.", exists=True, dir_okay=False)],
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Add example clips to a label."""
    headers = {"If-Match": _required_etag(server, name), **_change_headers(author, wait)}
    url = f"{_url(server, name)}/labels/{_find_label(server, name, label)['label_id']}/examples"
    call = ApiRequest(method="POST", url=url, headers=headers, files=[("video", clip) for clip in clips])
    _send_change(call, print_curl=print_curl)


@command(app)
def remove_examples(
    name: Name,
    label: Annotated[str, typer.Argument(help="A label, by name or label_id.")],
    example: Annotated[str | None, typer.Argument(help="An example_id; by default all examples of the label.")] = None,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Remove example clips from a label."""
    url = f"{_url(server, name)}/labels/{_find_label(server, name, label)['label_id']}/examples"
    headers = {"If-Match": _required_etag(server, name), **_change_headers(author, wait)}
    _send_change(
        ApiRequest(method="DELETE", url=url if example is None else f"{url}/{quote(example)}", headers=headers),
        print_curl=print_curl,
    )


@command(app)
def calibrate(
    name: Name,
    clip_list: Annotated[
        Path,
        typer.Argument(
            metavar="INDEX",
            help="CSV with columns file,label and optionally group; an empty label means none of the labels.",
            exists=True,
            dir_okay=False,
        ),
    ],
    false_accept_rate: Annotated[float, typer.Option(help="Fraction of unknown clips that may be accepted.")] = 0.05,
    function: Annotated[
        Literal["softmax", "sigmoid"] | None,
        typer.Option(help="softmax or sigmoid; by default the activation of the model."),
    ] = None,
    clips: Annotated[int, typer.Option(help="Number of clips sampled from each video in later classifications.")] = 1,
    crops: Annotated[int, typer.Option(help="Number of crops (1 or 3) in later classifications.")] = 1,
    criterion: Annotated[
        Literal["score", "logit"] | None,
        typer.Option(
            help="Value that is compared with thresholds: score or logit; by default the one that separates better."
        ),
    ] = None,
    per_label: Annotated[
        bool, typer.Option(help="Fit separate thresholds for labels that many unknown clips resemble.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the result without storing it.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Folder to write reliability.png and open_set.png to.")] = None,
    author: Author = "",
    wait: Wait = 10,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Fit "none of these" from clips: temperature and thresholds for a chosen false-accept rate."""
    if plot is not None:  # fails before the server creates a version
        require_extra("plots", needed_by="--plot")
    files, labels, groups = _read_clip_list(clip_list)
    options = {
        "labels": labels, "false_accept_rate": false_accept_rate, "num_clips": clips, "num_crops": crops,
        "per_label": per_label, "dry_run": dry_run,
        **({"function_to_apply": function} if function else {}), **({"criterion": criterion} if criterion else {}),
        **({"groups": groups} if any(groups) else {}),
    }  # fmt: skip
    call = ApiRequest(
        method="POST",
        url=f"{_url(server, name)}:calibrate",
        headers={"If-Match": _required_etag(server, name), **_change_headers(author, wait)},
        files=[("clip", file) for file in files],
        fields={"options": json.dumps(options, ensure_ascii=False)},
        timeout_seconds=CALIBRATION_TIMEOUT_SECONDS,
    )
    if print_curl:
        typer.echo(call.to_curl())
        return
    response = call.send_for_json("acceptance", "calibration")
    output().result(response, _describe_calibration(response))
    if plot is not None:
        from serve.cli.plots import draw_calibration  # needs the extra `plots`

        for path in draw_calibration(response, plot):
            output().note(f"written: {path}")


def _read_clip_list(clip_list: Path) -> tuple[list[Path], list[str | None], list[str | None]]:
    """Read the files, labels and groups of a CSV table; paths are relative to the folder of the table.

    Raises:
        typer.BadParameter: the table is invalid, or a file does not exist.
    """
    try:
        table = read_labelled_table(read_text(clip_list), allow_empty_label=True)
    except AnnotationError as error:
        raise typer.BadParameter(str(error)) from error
    if any(row.part for row in table.rows):
        raise typer.BadParameter(
            f"{clip_list}: remove the column {table.part_column}; a calibration does not use parts"
        )
    if not table.rows:
        raise typer.BadParameter(f"{clip_list} lists no clips")
    missing = [row.path for row in table.rows if not (clip_list.parent / row.path).is_file()]
    if missing:
        raise typer.BadParameter(
            f"{clip_list}: {len(missing)} files do not exist; the first is {str(clip_list.parent / missing[0])!r}"
        )
    return (
        [clip_list.parent / row.path for row in table.rows],
        [row.label or None for row in table.rows],
        [row.group or None for row in table.rows],
    )


def _describe_calibration(response: Mapping[str, Any]) -> str:
    """Return the lines that are printed for a calibration."""
    acceptance, calibration = response["acceptance"], response["calibration"]
    fit, (low, high) = acceptance["fitted"], acceptance["fitted"]["false_accept_interval"]
    lines = [
        f"{response['name']}@{response['version']}"
        + (" (dry run: nothing was changed)" if response.get("dry_run") else ""),
        f"  clips                {fit['num_known']} known, {fit['num_unknown']} unknown",
        f"  independent          {fit['num_known_independent']} known, {fit['num_unknown_independent']} unknown; "
        f"{fit['num_copies']} copies were ignored",
        f"  temperature, bias    {acceptance['temperature']:.4g}, {acceptance['bias']:.4g}",
        f"  threshold            {_format_number(acceptance['threshold'])} of the {acceptance['criterion']}"
        + (
            f", {len(response['label_thresholds'])} labels have separate thresholds"
            if response["label_thresholds"]
            else ""
        ),
        f"  false accepts        {calibration['false_accepts']} of {calibration['num_unknown_used']}; requested rate "
        f"{fit['false_accept_rate']:.3g}, 95 % interval of the true rate {low:.3f} to {high:.3f}",
        f"  known accepted       {_format_number(fit['true_accept_rate'])}, top-1 {_format_number(fit['accuracy'])}",
        f"  AUROC, FPR at 95 %   {_format_number(fit['auroc'])}, {_format_number(fit['fpr_at_95_tpr'])}",
        f"  calibration error    {_format_number(fit['calibration_error_before'])} before, "
        f"{_format_number(fit['calibration_error_after'])} after",
    ]
    return "\n".join(lines)


def _format_number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _find_label(server: str, name: str, key: str) -> dict[str, Any]:
    """Return a label of the current version of a vocabulary, by name or label_id."""
    for label in ApiRequest(method="GET", url=_url(server, name)).send_for_json("labels")["labels"]:
        if key in (label["label_id"], label["name"]):
            match: dict[str, Any] = label
            return match
    raise ActserveError(f"vocabulary {name!r} has no label {key!r}")


def _patch(server: str, name: str, document: Mapping[str, Any], *, author: str, wait: float, print_curl: bool) -> None:
    call = _make_json_request("PATCH", _url(server, name), document, _required_etag(server, name))
    _send_change(_add_headers(call, _change_headers(author, wait)), print_curl=print_curl)


def _make_json_request(method: str, url: str, document: Mapping[str, Any], etag: str) -> ApiRequest:
    body = json.dumps(document, ensure_ascii=False).encode()
    return ApiRequest(method=method, url=url, headers={"Content-Type": "application/json", "If-Match": etag}, body=body)


def _add_headers(call: ApiRequest, headers: Mapping[str, str]) -> ApiRequest:
    return ApiRequest(method=call.method, url=call.url, headers={**call.headers, **headers}, body=call.body)


def _send_change(call: ApiRequest, *, print_curl: bool) -> None:
    """Send a change and print its result."""
    if print_curl:
        typer.echo(call.to_curl())
        return
    response = call.send_for_json("name", "version", "is_current")
    status = "in use" if response["is_current"] else "stored; the server is still encoding it"
    output().change(response, f"{response['name']}@{response['version']}: {response['num_labels']} labels, {status}")


def _change_headers(author: str, wait: float) -> dict[str, str]:
    """Return the headers that all changes have in common."""
    return {"Prefer": f"wait={wait:g}", **({"X-Author": author} if author else {})}


def _etag(server: str, name: str) -> str | None:
    """Return the ETag of the newest version of a vocabulary; None if it does not exist."""
    try:
        return str(ApiRequest(method="GET", url=_url(server, name)).send().headers["etag"])
    except ActserveError as error:
        if error.details.get("status") == 404:
            return None
        raise


def _required_etag(server: str, name: str) -> str:
    """Return the ETag of the newest version of a vocabulary; raise `ActserveError` if it does not exist."""
    etag = _etag(server, name)
    if etag is None:
        raise ActserveError(f"there is no vocabulary {name!r} on {server}")
    return etag


def _collection_url(server: str) -> str:
    return f"{server}/v1/vocabularies"


def _url(server: str, name: str) -> str:
    return f"{_collection_url(server)}/{quote(name, safe='@')}"
