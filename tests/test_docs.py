"""The documents state what the code does: tables that are generated from it, and every route."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serve.api.problems import STATUS
from serve.app import create_app
from serve.reference import TABLES, main, variables
from serve.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def test_the_tables_are_what_the_code_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DOCS), "--check"]) == 0, f"{capsys.readouterr().out}; run `python -m serve.reference docs`"
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    assert all(f"<!-- generated: {name} -->" in pages for name in TABLES)


def test_a_stale_table_is_found_and_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- generated: options -->\n| old |\n<!-- end -->\nafter\n")
    assert main([str(tmp_path), "--check"]) == 1
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "| `top_k` | `5` |" in text and "| old |" not in text
    page.write_text("<!-- generated: nosuch -->\n<!-- end -->")
    with pytest.raises(KeyError):
        main([str(tmp_path)])


def test_tables_leave_nothing_out() -> None:
    settings, problems = TABLES["settings"](), TABLES["problems"]()
    assert all(f"| `{name}` |" in settings and field.description for name, field in variables(ServeSettings))
    assert {str(status) for status in STATUS.values()} - {"500"} == {
        line.split()[1] for line in problems.splitlines()[2:]
    }


def test_every_route_is_in_the_table() -> None:
    api = (DOCS / "http-api.md").read_text(encoding="utf-8")
    for path in create_app(ServeSettings()).openapi()["paths"]:
        assert path in api, path


def test_every_reference_of_the_openapi_document_leads_somewhere() -> None:
    document = create_app(ServeSettings()).openapi()

    def references(value: Any) -> Iterator[str]:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if key == "$ref":
                yield item
            elif isinstance(item, (dict, list)):
                yield from references(item)

    found = set(references(document))
    assert found
    for reference in found:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_no_option_of_a_form_is_offered_in_the_query_as_well() -> None:
    for path, operations in create_app(ServeSettings()).openapi()["paths"].items():
        for operation in operations.values():
            form = operation.get("requestBody", {}).get("content", {}).get("multipart/form-data", {})
            fields = form.get("schema", {}).get("properties", {})
            assert not fields.keys() & {item["name"] for item in operation.get("parameters", ())}, path
