"""The documents state what the code does: settings, options, routes."""

from pathlib import Path

from serve.app import create_app
from serve.environment import settings_variables
from serve.options import ClassifyOptions
from serve.settings import ServeSettings
from serve.variables import COMMAND_LINE

DOCS = Path(__file__).resolve().parents[1] / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_table() -> None:
    settings = page("settings")
    for variable, description in {**settings_variables(), **COMMAND_LINE}.items():
        assert f"| `{variable}` |" in settings
        assert description.replace("|", "\\|") in settings, variable


def test_every_option_is_in_the_table() -> None:
    api = page("http-api")
    for name in ClassifyOptions.model_fields:
        assert f"| `{name}` |" in api


def test_every_route_is_in_the_table() -> None:
    api = page("http-api")
    for path in create_app(ServeSettings()).openapi()["paths"]:
        assert path in api, path
