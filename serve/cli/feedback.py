"""`actserve feedback ...`: send corrected clips to a running server and manage them.

actserve feedback send clip.mp4 "opening the door" --vocabulary sports --predicted "closing the door"
actserve feedback list
"""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from serve.cli.calls import ApiRequest, PrintCurl, Server
from serve.cli.output import command, output
from serve.cli.parameters import Yes, confirm
from serve.client.address import DEFAULT_SERVER

app = typer.Typer(no_args_is_help=True, help="Corrected clips that a running server stores for training.")


@command(app, "list")
def list_all(server: Server = DEFAULT_SERVER) -> None:
    """List the size of the feedback, then each clip, newest first: id, label, prediction, time, note."""
    token = None
    while True:
        query = "?page_size=1000" + (f"&page_token={token}" if token else "")
        page = ApiRequest(method="GET", url=f"{_url(server)}{query}").send_for_json("feedback", "next_page_token")
        if token is None and not output().as_json:
            size = f"{page['num_clips']} of {page['max_clips']} clips, {page['num_bytes']} of {page['max_bytes']} bytes"
            typer.echo(size)
        for row in page["feedback"]:
            columns = (row["id"], row["label"], row["predicted"] or "-", row["created_at"], row["note"] or "")
            output().result(row, "\t".join(columns).replace("\n", " "))
        token = page["next_page_token"]
        if token is None:
            return


@command(app)
def send(
    clip: Annotated[Path, typer.Argument(help="A video file.", exists=True, dir_okay=False)],
    label: Annotated[str, typer.Argument(help="The correct label.")],
    vocabulary: Annotated[str | None, typer.Option(help="Vocabulary of the corrected request.")] = None,
    predicted: Annotated[str | None, typer.Option(help="The label that the server returned.")] = None,
    request_id: Annotated[str | None, typer.Option(help="X-Request-Id of the corrected response.")] = None,
    note: Annotated[str | None, typer.Option(help="A remark about the clip.")] = None,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Send a clip with its correct label."""
    optional = {"vocabulary": vocabulary, "predicted": predicted, "request_id": request_id, "note": note}
    fields = {"label": label, **{name: value for name, value in optional.items() if value is not None}}
    call = ApiRequest(method="POST", url=_url(server), files=[("video", clip)], fields=fields)
    if print_curl:
        typer.echo(call.to_curl())
        return
    stored = call.send_for_json("id", "is_duplicate")
    remark = ", which is not a label of the vocabulary" if stored["is_new_label"] else ""
    state = "already stored" if stored["is_duplicate"] else "stored"
    output().change(stored, f"{stored['id']}: {state} as {stored['label']!r}{remark}")


@command(app)
def remove(
    ids: Annotated[list[str], typer.Argument(help="Ids printed by `list`.")],
    yes: Yes = False,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Delete clips with their rows; this cannot be undone."""
    if not print_curl:
        confirm(f"Delete {', '.join(ids)} on {server}?", is_confirmed=yes)
    for feedback_id in ids:
        call = ApiRequest(method="DELETE", url=f"{_url(server)}/{quote(feedback_id, safe='')}")
        if print_curl:
            typer.echo(call.to_curl())
            continue
        call.send()
        output().change({"id": feedback_id, "deleted": True}, f"{feedback_id} deleted")


def _url(server: str) -> str:
    return f"{server}/v1/feedback"
