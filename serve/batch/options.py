"""Options of a batch: those of the kind, without the ones that only a server can fulfil or that a table cannot hold."""

from collections.abc import Mapping, Sequence
from typing import Any

from serve.api.options import validate_options
from serve.batch.manifest import Format
from serve.errors import InvalidOption
from serve.jobs.processing import OPTIONS
from serve.jobs.records import JobKind

STORE_OPTIONS = ("store", "tags", "expires_in_seconds")
TABLE_OPTIONS = {"view": "both", "format": "actserve", "encoding_format": "float"}  # the only values for tables


def check_options(
    kind: JobKind, document: Mapping[str, Any], *, formats: Sequence[Format], has_features: bool
) -> dict[str, Any]:
    """Return the options of a batch; a timeline whose windows are written to a table has the view `both`.

    Raises:
        InvalidOption: an option is invalid, or has no effect in a batch.
    """
    options = dict(document)
    for name in STORE_OPTIONS:
        if name in options:
            raise InvalidOption(
                f"`{name}` cannot be used in a batch; write features with --features and load them into a store "
                "with `actserve videos import`"
            )
    if has_features and kind == "embed":
        raise InvalidOption("--features applies to classify and timeline; embed writes embeddings")
    if has_features and "parquet" not in formats:
        raise InvalidOption("--features needs --format parquet or both: lines of JSON contain no features")
    if "parquet" in formats:
        for name, value in TABLE_OPTIONS.items():
            if options.get(name, value) != value:
                raise InvalidOption(f"`{name}` must be {value!r} for a table; use --format jsonl for other values")
        if kind == "timeline":
            options["view"] = "both"
    if options.get("relevance") and "jsonl" not in formats:
        raise InvalidOption("`relevance` needs --format jsonl or both: tables do not contain it")
    validate_options(OPTIONS[kind], options)
    return options
