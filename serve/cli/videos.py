"""`actserve videos ...` and `actserve search`: stored videos of a running server, or (`import`) of its database.

actserve videos list --tag kitchen
actserve videos classify 6f1c... --labels "cooking,washing up"
actserve search "a person opens a door" --top-k 5
"""

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from serve.cli.calls import ApiRequest, PrintCurl, Server
from serve.cli.options import Labels, ModelName, Templates, VocabularyName
from serve.cli.output import command, output
from serve.cli.parameters import Yes, confirm
from serve.client.address import DEFAULT_SERVER

app = typer.Typer(no_args_is_help=True, help="Stored videos of a running server.")

VideoId = Annotated[str, typer.Argument(help="Id of a stored video, as printed by `list`.")]
Tag = Annotated[str | None, typer.Option(help="Only videos with this tag.")]
CreatedAfter = Annotated[
    str | None, typer.Option(help="Only videos stored at or after this time, e.g. 2026-11-26T00:00:00Z.")
]
CreatedBefore = Annotated[str | None, typer.Option(help="Only videos stored before this time.")]


@command(app, "list")
def list_all(
    tag: Tag = None,
    model: Annotated[str | None, typer.Option(help="Only videos whose features were computed by this model.")] = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    server: Server = DEFAULT_SERVER,
) -> None:
    """List stored videos, newest first: id, model, windows, seconds, time, expiry, tags, file name."""
    query = _without_none(
        tag=tag, model=model, created_after=created_after, created_before=created_before, page_size=1000
    )
    token: str | None = None
    while True:
        url = f"{_url(server)}?{urlencode({**query, **_without_none(page_token=token)})}"
        page = ApiRequest(method="GET", url=url).send_for_json("videos", "next_page_token")
        for row in page["videos"]:
            output().result(row, _format_row(row))
        token = page["next_page_token"]
        if token is None:
            return


@command(app)
def show(video_id: VideoId, print_curl: PrintCurl = False, server: Server = DEFAULT_SERVER) -> None:
    """Print the properties of a stored video as JSON."""
    call = ApiRequest(method="GET", url=_url(server, video_id))
    if print_curl:
        typer.echo(call.to_curl())
        return
    video = call.send_for_json("video_id")
    output().result(video, json.dumps(video, ensure_ascii=False, indent=1))


@command(app)
def delete(
    ids: Annotated[list[str], typer.Argument(help="Ids of stored videos, as printed by `list`.")],
    yes: Yes = False,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Delete stored videos; this cannot be undone."""
    if not print_curl:
        confirm(f"Delete {', '.join(ids)} on {server}?", is_confirmed=yes)
    for video_id in ids:
        call = ApiRequest(method="DELETE", url=_url(server, video_id))
        if print_curl:
            typer.echo(call.to_curl())
            continue
        call.send()
        output().change({"video_id": video_id, "deleted": True}, f"{video_id} deleted")


@command(app)
def classify(
    video_id: VideoId,
    labels: Labels = None,
    vocabulary: VocabularyName = None,
    template: Templates = None,
    top_k: Annotated[int, typer.Option(min=1, help="Number of labels to print.")] = 5,
    model: ModelName = None,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Score a stored video with other labels, without decoding it again."""
    options = {**_label_options(labels, vocabulary, template, model), "top_k": top_k}
    call = _post(f"{_url(server, video_id)}:classify", options)
    if print_curl:
        typer.echo(call.to_curl())
        return
    response = call.send_for_json("results")
    if output().as_json:
        output().result(response, None)
        return
    for row in response["results"]:
        typer.echo(f"{row['score']:.3f}  {row['label']}")


@command(app)
def timeline(
    video_id: VideoId,
    labels: Labels = None,
    vocabulary: VocabularyName = None,
    template: Templates = None,
    threshold_on: Annotated[float | None, typer.Option(help="Score at which a segment opens.")] = None,
    threshold_off: Annotated[float | None, typer.Option(help="Score below which a segment closes.")] = None,
    model: ModelName = None,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Find when each label occurs in a stored video, without decoding it again."""
    thresholds = _without_none(threshold_on=threshold_on, threshold_off=threshold_off)
    call = _post(
        f"{_url(server, video_id)}:timeline", {**_label_options(labels, vocabulary, template, model), **thresholds}
    )
    if print_curl:
        typer.echo(call.to_curl())
        return
    response = call.send_for_json("segments")
    if output().as_json:
        output().result(response, None)
        return
    for row in response["segments"]:
        typer.echo(f"{row['start_seconds']:9.2f} {row['end_seconds']:9.2f}  {row['score']:.3f}  {row['label']}")


@command(app, "import")
def import_folder(
    folder: Annotated[Path, typer.Argument(help="Output folder of `actserve batch --features`.")],
    tag: Annotated[list[str] | None, typer.Option(help="Tag of the videos; can be given several times.")] = None,
    expires_in: Annotated[
        int | None, typer.Option(min=1, help="Seconds after which the videos are deleted; by default those of SERVE_*.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Name of the API key that owns the videos.")] = None,
) -> None:
    """Store the videos of a batch in the database of the SERVE_* variables, also while servers use it."""
    from serve.api.options import StoreOptions, validate_options
    from serve.batch.importing import import_videos
    from serve.cli.progress import show_progress
    from serve.environment import load_settings

    document = _without_none(store=True, tags=tag or None, expires_in_seconds=expires_in)
    options = validate_options(StoreOptions, document)
    settings = load_settings({})
    settings.require_extras()
    with show_progress("storing", output()) as advance:
        counts = import_videos(
            settings,
            folder,
            options,
            key_name=key,
            report=lambda counts: advance(counts.imported + counts.present, counts.total),
        )
    output().result(
        {"folder": str(folder), **counts.document()},
        f"{counts.imported} videos stored, {counts.present} of {counts.total} were stored before",
    )


def search(
    text: Annotated[str | None, typer.Argument(help="Text that describes the windows.")] = None,
    like: Annotated[
        str | None, typer.Option(help="Id of a stored video to use as an example instead of a text.")
    ] = None,
    start: Annotated[
        float | None, typer.Option(help="Start of the example within the stored video, in seconds.")
    ] = None,
    end: Annotated[float | None, typer.Option(help="End of the example within the stored video, in seconds.")] = None,
    clip: Annotated[
        Path | None,
        typer.Option(help="Video file to use as an example instead of a text.", exists=True, dir_okay=False),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Number of windows to print.")] = 10,
    tag: Tag = None,
    created_after: CreatedAfter = None,
    created_before: CreatedBefore = None,
    model: ModelName = None,
    print_curl: PrintCurl = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Find windows of stored videos by a text, by a part of a stored video, or by a clip."""
    if sum(item is not None for item in (text, like, clip)) != 1:
        raise typer.BadParameter("give exactly one of a text, --like VIDEO_ID and --clip FILE")
    part = _without_none(start_seconds=start, end_seconds=end)
    if part and like is None:
        raise typer.BadParameter("--start and --end require --like")
    url = f"{server}/v1/search"
    options = _without_none(
        tag=tag, created_after=created_after, created_before=created_before, model=model, top_k=top_k
    )
    if text is not None:
        call = ApiRequest(method="GET", url=f"{url}?{urlencode({'q': text, **options})}")
    elif clip is not None:
        fields = {name: str(value) for name, value in options.items()}
        call = ApiRequest(method="POST", url=url, files=[("video", clip)], fields=fields)
    else:
        call = _post(url, {"video_id": like, **part, **options})
    if print_curl:
        typer.echo(call.to_curl())
        return
    response = call.send_for_json("results")
    if output().as_json:
        output().result(response, None)
        return
    for row in response["results"]:
        times = f"{row['start_seconds']:9.2f} {row['end_seconds']:9.2f}"
        typer.echo(f"{row['cosine']:.3f}  {row['video_id']} {times}")


def _url(server: str, video_id: str | None = None) -> str:
    return f"{server}/v1/videos" + ("" if video_id is None else f"/{quote(video_id, safe='')}")


def _post(url: str, options: dict[str, Any]) -> ApiRequest:
    headers = {"Content-Type": "application/json"}
    return ApiRequest(method="POST", url=url, headers=headers, body=json.dumps(options, ensure_ascii=False).encode())


def _without_none(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _label_options(
    labels: str | None, vocabulary: str | None, template: list[str] | None, model: str | None
) -> dict[str, Any]:
    return _without_none(candidate_labels=labels, vocabulary=vocabulary, templates=template or None, model=model)


def _format_row(row: dict[str, Any]) -> str:
    source = row["source"]
    stale = " (stale)" if row["stale"] else ""
    columns = (
        row["video_id"],
        f"{row['model']}{stale}",
        f"{row['num_windows']} {row['kind']}",
        f"{source['duration_seconds']:.1f} s",
        row["created_at"],
        row["expires_at"] or "-",
        ",".join(row["tags"]) or "-",
        source["filename"] or "-",
    )
    return "\t".join(columns).replace("\n", " ")
