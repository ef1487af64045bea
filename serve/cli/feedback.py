"""`actserve feedback ...`: manage the corrected clips of a running server.

actserve feedback send clip.mp4 "opening the door" --vocabulary sports --predicted "closing the door"
actserve feedback list
"""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from serve.cli.calls import DEFAULT_SERVER, ApiRequest, PrintCurl, Server
from serve.cli.parameters import Yes, confirm

app = typer.Typer(no_args_is_help=True, help="Corrected clips that a running server keeps for training.")


@app.command("list")
def list_all(server: Server = DEFAULT_SERVER) -> None:
    """List the amount that is kept and each row, newest first: id, label, prediction, time, note."""
    token = None
    while True:
        query = "?page_size=1000" + (f"&page_token={token}" if token else "")
        page = ApiRequest(method="GET", url=f"{_url(server)}{query}").answer("feedback", "next_page_token")
        if token is None:
            used = f"{page['num_clips']} of {page['max_clips']} clips, {page['num_bytes']} of {page['max_bytes']} bytes"
            typer.echo(used)
        for row in page["feedback"]:
            facts = (row["id"], row["label"], row["predicted"] or "-", row["created_at"], row["note"] or "")
            typer.echo("\t".join(facts).replace("\n", " "))
        token = page["next_page_token"]
        if token is None:
            return


@app.command()
def send(
    clip: Annotated[Path, typer.Argument(help="A video file.", exists=True, dir_okay=False)],
    label: Annotated[str, typer.Argument(help="The right label.")],
    vocabulary: Annotated[str | None, typer.Option(help="Vocabulary of the request.")] = None,
    predicted: Annotated[str | None, typer.Option(help="The label that the server returned.")] = None,
    request_id: Annotated[str | None, typer.Option(help="X-Request-Id of that answer.")] = None,
    note: Annotated[str | None, typer.Option(help="A remark about the clip.")] = None,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Send a clip with its right label."""
    given = {"vocabulary": vocabulary, "predicted": predicted, "request_id": request_id, "note": note}
    fields = {"label": label, **{name: value for name, value in given.items() if value is not None}}
    call = ApiRequest(method="POST", url=_url(server), files=[("video", clip)], fields=fields)
    if print_curl:
        typer.echo(call.curl())
        return
    kept = call.answer("id", "is_duplicate")
    novelty = ", a label the vocabulary does not have" if kept["is_new_label"] else ""
    typer.echo(f"{kept['id']}: {'already kept' if kept['is_duplicate'] else 'kept'} as {kept['label']!r}{novelty}")


@app.command()
def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids, as `list` prints them.")],
    yes: Yes = False,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Erase clips with their rows; this cannot be undone."""
    if not print_curl:
        confirm(f"Erase {', '.join(ids)} on {server}?", is_given=yes)
    for feedback_id in ids:
        call = ApiRequest(method="DELETE", url=f"{_url(server)}/{quote(feedback_id, safe='')}")
        if print_curl:
            typer.echo(call.curl())
            continue
        call.send()
        typer.echo(f"{feedback_id} erased")


def _url(server: str) -> str:
    return f"{server}/v1/feedback"
