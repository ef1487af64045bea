"""Options of the processing of videos that several commands have, and `--options` with others as a JSON object."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

Kind = Literal["classify", "timeline", "embed"]
KindOption = Annotated[Kind, typer.Option(help="How each video is processed.")]
Labels = Annotated[str | None, typer.Option(help="Labels separated by commas, or a JSON list.")]
VocabularyName = Annotated[str | None, typer.Option(help="A vocabulary, NAME or NAME@VERSION.")]
Templates = Annotated[list[str] | None, typer.Option(help="A template with one {}; can be given several times.")]
ModelName = Annotated[str | None, typer.Option(help="Model, NAME or NAME@VERSION.")]
MoreOptions = Annotated[
    str | None, typer.Option(help="More options for this kind as a JSON object, as in the HTTP API.")
]


def merge_options(text: str | None, options: Mapping[str, str | None]) -> dict[str, Any]:
    """Merge the JSON object of `--options` with the separate options of the command; those that are None are absent.

    Raises:
        InvalidOption: the text is not a JSON object.
        typer.BadParameter: an option is in both.
    """
    from serve.api.options import parse_json_object

    merged = {} if text is None else parse_json_object(text)
    for name, value in options.items():
        if value is not None and name in merged:
            raise typer.BadParameter(f"`{name}` is in --options and is also a separate option; give it once")
        if value is not None:
            merged[name] = value
    return merged
