"""The documents state what the code does: tables that are generated from it, and every route."""

from pathlib import Path

import pytest

from serve.app import create_app
from serve.problems import STATUS
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
    assert {str(status) for status in STATUS.values()} - {"400", "500"} == {
        line.split()[1] for line in problems.splitlines()[2:]
    }


def test_every_route_is_in_the_table() -> None:
    api = (DOCS / "http-api.md").read_text(encoding="utf-8")
    for path in create_app(ServeSettings()).openapi()["paths"]:
        assert path in api, path
