"""Tables of the documentation that are generated from the code: settings, options, metrics, problems.

`python -m serve.reference docs` writes each between its markers in the pages of a folder; `--check` writes nothing and
exits with 1 if a page differs.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serve import errors
from serve.api.options import ClassifyOptions
from serve.api.problems import STATUS, describe
from serve.jobs.documents import JobInput
from serve.jobs.metrics import JobMetrics
from serve.metrics import Metrics
from serve.repository import BUNDLED, FOLDER
from serve.retrieval.options import ExampleSearchOptions, RescorePageOptions
from serve.settings import ServeSettings
from serve.timeline.options import TimelineOptions
from serve.variables import COMMAND_LINE

BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
ENVIRONMENT_PREFIX = "SERVE_"


def settings_table() -> str:
    """Return the environment variables of the server."""
    rows = ((f"`{name}`", _code(_default(field)), _text(field)) for name, field in variables(ServeSettings))
    return table(("variable", "default", "meaning"), rows)


def command_line_table() -> str:
    """Return the environment variables of the command lines."""
    return table(("variable", "default", "meaning"), ((f"`{name}`", "", text) for name, text in COMMAND_LINE.items()))


def options_table() -> str:
    """Return the options of a classification."""
    return _table_of_options(ClassifyOptions)


def timeline_table() -> str:
    """Return the options of a timeline."""
    return _table_of_options(TimelineOptions)


def jobs_table() -> str:
    """Return what a request for a job says."""
    return _table_of_options(JobInput)


def stored_page_table() -> str:
    """Return the options of scoring all stored videos that a filter selects."""
    return _table_of_options(RescorePageOptions)


def search_table() -> str:
    """Return the options of a search by a part of a stored video."""
    return _table_of_options(ExampleSearchOptions)


def metrics_table() -> str:
    """Return the metrics of `/metrics`, without those of the process."""
    metrics = Metrics()
    JobMetrics(metrics.registry)
    rows = (
        (f"`{found.name}{'_total' if found.type == 'counter' else ''}`", found.type, found.documentation)
        for found in metrics.registry.collect()
    )
    return table(("metric", "type", "meaning"), rows)


def problems_table() -> str:
    """Return the problems that a client may receive, by status."""
    kinds = sorted(_leaves(errors.ActserveError), key=lambda kind: (STATUS[kind], _slug(kind)))
    rows = ((str(STATUS[kind]), f"`{_slug(kind)}`", _first_sentence(kind)) for kind in kinds)
    return table(("status", "problem", "when"), rows)


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
}


def _table_of_options(kind: type[BaseModel]) -> str:
    rows = ((f"`{name}`", _code(_default(field)), _text(field)) for name, field in kind.model_fields.items())
    return table(("option", "default", "meaning"), rows)


def variables(model: type[BaseModel], prefix: str = ENVIRONMENT_PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    """Yield (environment variable, field) of every setting, including nested groups."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", field


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def with_tables(text: str) -> str:
    """Return a page with every marked table generated again.

    Raises:
        KeyError: a marker names an unknown table.
    """
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}", text)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the tables of the pages in a folder."""
    parser = argparse.ArgumentParser(description="Write the generated tables into the pages of the documentation.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page differs")
    options = parser.parse_args(arguments)
    stale = []
    for path in sorted(options.folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (current := with_tables(text)) != text:
            stale.append(path)
            if not options.check:
                path.write_text(current, encoding="utf-8")
    for path in stale:
        print(f"{path} {'differs from the code' if options.check else 'was written'}")
    return 1 if options.check and stale else 0


def _leaves(kind: type[errors.ActserveError]) -> Iterator[type[errors.ActserveError]]:
    """Yield the errors that clients receive: those with a status other than 500 that are not groups of others."""
    children = kind.__subclasses__()
    is_group = kind in (errors.ActserveError, errors.RequestError, errors.VideoError, errors.ServiceError)
    if not is_group and STATUS[kind] != 500:
        yield kind
    for child in children:
        yield from _leaves(child)


def _slug(kind: type[errors.ActserveError]) -> str:
    return describe(kind)[0]


def _default(field: FieldInfo) -> Any:
    """Return the default, or a description of it if it depends on the machine."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Path):
        if value == Path(tempfile.gettempdir()):
            return "the system's folder of temporary files"
        if value in (FOLDER, BUNDLED):
            return FOLDER
        if value.is_relative_to(Path.home()):
            return f"~/{value.relative_to(Path.home())}"
    return value


def _code(value: Any) -> str:
    text = "" if value is None else str(value)
    return f"`{text}`" if text else ""


def _text(field: FieldInfo) -> str:
    return str(field.description)


def _first_sentence(kind: type[errors.ActserveError]) -> str:
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


if __name__ == "__main__":
    sys.exit(main())
