"""The documents state what the code does: settings, options, routes."""

from pathlib import Path

from pydantic import BaseModel

from serve.app import create_app
from serve.options import ClassifyOptions
from serve.settings import ServeSettings

DOCS = Path(__file__).resolve().parents[1] / "docs"


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def settings_of(model: type[BaseModel], prefix: str) -> dict[str, str]:
    """Variable -> description of every setting, nested groups included."""
    found = {}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found.update(settings_of(field.annotation, f"{prefix}{name.upper()}__"))
        else:
            assert field.description, name
            found[f"{prefix}{name.upper()}"] = field.description
    return found


def test_every_setting_is_in_the_table() -> None:
    settings = page("settings")
    for variable, description in settings_of(ServeSettings, "SERVE_").items():
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
