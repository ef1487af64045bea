"""Which tests `make test-fast` runs: those that load neither torch nor a browser nor Triton, found by their imports."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OWN = ("serve", "training", "export", "tests")
HEAVY = {"torch", "torchvision", "open_clip", "timm", "transformers", "onnx", "playwright", "tritonclient"}
HEAVY_FIXTURES = {"repository", "postgres", "demo_server", "http"}  # built with torch, or processes of their own
HEAVY_WORDS = (
    "running_server(",
    "subprocess.",
    "needs_shared",
    "tests.fuzz",
)  # processes and whole corpora, seconds each


def is_heavy(path: Path) -> bool:
    """Whether collecting or running a test file, or a folder's conftest, takes more than the inner loop has."""
    file = path / "conftest.py" if path.is_dir() else path
    if file.suffix != ".py" or not file.is_file():
        return False
    text = file.read_text(encoding="utf-8")
    return bool(_loaded(file) & HEAVY) or (file.name != "conftest.py" and any(word in text for word in HEAVY_WORDS))


def deselect_heavy(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests whose fixtures are light."""
    return [item for item in items if not HEAVY_FIXTURES & set(getattr(item, "fixturenames", ()))]


@cache
def _loaded(file: Path) -> frozenset[str]:
    """Top-level names that importing a file loads, directly or through modules of this project."""
    found: set[str] = set()
    waiting, seen = [file], {file}
    while waiting:
        for module in _imports(waiting.pop()):
            top = module.partition(".")[0]
            found.add(top)
            own = _file_of(module) if top in OWN else None
            if own is not None and own not in seen:
                seen.add(own)
                waiting.append(own)
    return frozenset(found)


def _imports(file: Path) -> list[str]:
    """Modules that the statements of a file import when it is loaded, not those inside its functions."""
    modules: list[str] = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            modules += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
    return modules


def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
