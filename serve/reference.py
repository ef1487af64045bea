"""Generate the tables of the documentation from the code: settings, options, metrics, problems.

`python -m serve.reference docs` writes each table between its markers in the pages of a folder; `--check` writes
nothing and exits with 1 if a page is not up to date.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serve import errors
from serve.api.options import ClassifyOptions
from serve.api.problems import STATUS, describe
from serve.exit_status import MEANINGS
from serve.jobs.documents import JobInput
from serve.jobs.metrics import JobMetrics
from serve.metrics import Metrics
from serve.repository import BUNDLED_REPOSITORY, DEFAULT_FOLDER
from serve.retrieval.options import ExampleSearchOptions, RescorePageOptions
from serve.settings import ServeSettings
from serve.timeline.options import TimelineOptions
from serve.variables import COMMAND_VARIABLES

BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
ENVIRONMENT_PREFIX = "SERVE_"


def settings_table() -> str:
    """Return the table of the settings of the server."""
    rows = (
        (f"`{name}`", _format_code(_default(field)), _description(field)) for name, field in variables(ServeSettings)
    )
    return markdown_table(("variable", "default", "meaning"), rows)


def command_line_table() -> str:
    """Return the table of the environment variables of the commands."""
    return markdown_table(
        ("variable", "default", "meaning"), ((f"`{name}`", "", text) for name, text in COMMAND_VARIABLES.items())
    )


def options_table() -> str:
    """Return the table of the options of a classification."""
    return _options_table(ClassifyOptions)


def timeline_table() -> str:
    """Return the table of the options of a timeline."""
    return _options_table(TimelineOptions)


def jobs_table() -> str:
    """Return the table of the fields of a job request."""
    return _options_table(JobInput)


def stored_page_table() -> str:
    """Return the options of scoring all stored videos that a filter selects."""
    return _options_table(RescorePageOptions)


def search_table() -> str:
    """Return the options of a search by a part of a stored video."""
    return _options_table(ExampleSearchOptions)


def metrics_table() -> str:
    """Return the metrics of `/metrics`, without those of the process."""
    metrics = Metrics()
    JobMetrics(metrics.registry)
    suffixes = {"counter": "_total", "info": "_info"}
    rows = (
        (f"`{found.name}{suffixes.get(found.type, '')}`", found.type, found.documentation)
        for found in metrics.registry.collect()
        if found.name.startswith("actserve_")
    )
    return markdown_table(("metric", "type", "meaning"), rows)


def exit_codes_table() -> str:
    """Return the table of the exit codes of the commands."""
    return markdown_table(("code", "meaning"), ((str(code), text) for code, text in MEANINGS.items()))


def problems_table() -> str:
    """Return the table of the problems that a client may receive, sorted by status."""
    classes = sorted(_concrete_errors(errors.ActserveError), key=lambda item: (STATUS[item], _slug(item)))
    rows = ((str(STATUS[item]), f"`{_slug(item)}`", _summary(item)) for item in classes)
    return markdown_table(("status", "problem", "when"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "command_line": command_line_table,
    "options": options_table,
    "timeline": timeline_table,
    "jobs": jobs_table,
    "stored_page": stored_page_table,
    "search": search_table,
    "metrics": metrics_table,
    "problems": problems_table,
    "exit_codes": exit_codes_table,
}


def _options_table(model: type[BaseModel]) -> str:
    rows = (
        (f"`{name}`", _format_code(_default(field)), _description(field)) for name, field in model.model_fields.items()
    )
    return markdown_table(("option", "default", "meaning"), rows)


def variables(model: type[BaseModel], prefix: str = ENVIRONMENT_PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the environment variable and the field of every setting, including nested groups."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", field


def markdown_table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def regenerate_tables(text: str) -> str:
    """Return the page with every marked table regenerated.

    Raises:
        KeyError: a marker names an unknown table.
    """
    return BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]]()}{block[3]}", text)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the generated tables in the pages of a folder."""
    parser = argparse.ArgumentParser(description="Write the generated tables into the pages of the documentation.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is not up to date")
    options = parser.parse_args(arguments)
    stale = []
    for path in sorted(options.folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (current := regenerate_tables(text)) != text:
            stale.append(path)
            if not options.check:
                path.write_text(current, encoding="utf-8")
    for path in stale:
        print(f"{path} {'is not up to date' if options.check else 'was written'}")
    return 1 if options.check and stale else 0


def _concrete_errors(error_class: type[errors.ActserveError]) -> Iterator[type[errors.ActserveError]]:
    """Yield the errors that clients can receive: no base classes, and a status other than 500."""
    is_base = error_class in (errors.ActserveError, errors.RequestError, errors.VideoError, errors.ServiceError)
    if not is_base and STATUS[error_class] != 500:
        yield error_class
    for child in error_class.__subclasses__():
        yield from _concrete_errors(child)


def _slug(error_class: type[errors.ActserveError]) -> str:
    return describe(error_class)[0]


def _default(field: FieldInfo) -> Any:
    """Return the default, or its description if it depends on the machine."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Path):
        if value == Path(tempfile.gettempdir()):
            return "the system's folder of temporary files"
        if value in (DEFAULT_FOLDER, BUNDLED_REPOSITORY):
            return DEFAULT_FOLDER
        if value.is_relative_to(Path.home()):
            return f"~/{value.relative_to(Path.home())}"
    return json.dumps(value) if isinstance(value, Mapping) else value


def _format_code(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"`{text}`" if text else ""


def _description(field: FieldInfo) -> str:
    return str(field.description)


def _summary(error_class: type[errors.ActserveError]) -> str:
    """Return the first paragraph of the docstring in one line."""
    return " ".join((error_class.__doc__ or "").split("\n\n")[0].split())


if __name__ == "__main__":
    sys.exit(main())
