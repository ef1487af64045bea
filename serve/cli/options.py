"""Options of a kind of processing: separate options of a command merged with the JSON object of `--options`."""

from collections.abc import Mapping
from typing import Any

import typer


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
