"""Who may import whom, proven in a fresh interpreter and by reading the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIGHT = [
    "arrays",
    "cli/calls",
    "cli/options",
    "contract",
    "errors",
    "extras",
    "features",
    "files",
    "independence",
    "feedback/index",
    "models/repository",
    "parity",
    "scoring",
    "store/feature_cache",
    "strict_json",
    "unicode_text",
    "version_numbers",
    "video/sampling",
    "video/preprocess",
    "text/label_lists",
    "text/normalization",
    "text/tokenizer",
    "text/prompts",
    "variables",
    "version",
    "vocabularies/prototypes",
]
# Decoding as serving does it, for training: light enough too, but for the decoders' own libraries.
DECODING = [
    "video/bitstream/av1",
    "video/bitstream/codecs",
    "video/bitstream/h264",
    "video/bitstream/hevc",
    "video/bitstream/intra",
    "video/bitstream/mpeg",
    "video/bitstream/nal",
    "video/bitstream/picture",
    "video/bitstream/vpx",
    "video/channel",
    "video/child",
    "video/decode_child",
    "video/fork_server",
    "video/jobs",
    "video/containers",
    "video/decode",
    "video/decode_decord",
    "video/decode_pyav",
    "video/decoder",
    "video/feed",
    "video/limits",
    "video/metadata",
    "video/packet_index",
    "video/pictures",
    "video/plan",
    "video/streams",
    "video/times",
    "video/views",
]
LIGHT += DECODING
LIGHT_MODULES = {f"serve.{name.replace('/', '.')}" for name in LIGHT} | {"serve"}
LIGHT_LIBRARIES = {"numpy"}
EXTRA_LIBRARIES = {
    "contract": {"pydantic"},
    "video/preprocess": {"cv2", "PIL"},
    "text/tokenizer": {"tokenizers", "ftfy", "regex"},
    "text/normalization": {"regex"},
}
EXTRA_LIBRARIES |= {"cli/calls": {"typer", "httpx"}, "cli/options": {"typer"}}
EXTRA_LIBRARIES |= {name: {"av", "decord", "pydantic"} for name in DECODING}


def imported_names(path: Path) -> set[str]:
    """Every module a source file imports, at any depth of its code."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def test_serving_never_loads_torch() -> None:
    forbidden = {"torch", "training", "export"}
    probe = f"import sys, serve.app, serve.cli.main, serve.server; print(sorted({forbidden} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_importing_the_server_loads_no_runtime() -> None:
    heavy = {"onnxruntime", "openvino", "decord", "tritonclient"}
    probe = f"import sys, serve.app; print(sorted({heavy} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_import_only_light_things(name: str) -> None:
    allowed = LIGHT_LIBRARIES | EXTRA_LIBRARIES.get(name, set()) | set(sys.stdlib_module_names)
    for imported in imported_names(ROOT / "serve" / f"{name}.py"):
        if imported.split(".")[0] == "serve":
            assert any(imported == light or imported.startswith(f"{light}.") for light in LIGHT_MODULES), imported
        else:
            assert imported.split(".")[0] in allowed, imported


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [("serve", {"torch", "training", "export"}), ("training", {"export"})],
    ids=["serve", "training"],
)
def test_arrows_point_one_way(package: str, forbidden: set[str]) -> None:
    offenders = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(package)
        for name in imported_names(path)
        if name.split(".")[0] in forbidden
    }
    assert not offenders


@pytest.mark.parametrize("package", ["training", "export"])
def test_training_and_export_use_only_light_modules_of_serve(package: str) -> None:
    offenders = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(package)
        for name in imported_names(path)
        if name.split(".")[0] == "serve"
        and not any(name == light or name.startswith(f"{light}.") for light in LIGHT_MODULES)
    }
    assert not offenders


def test_packages_have_empty_init_files() -> None:
    written = [
        path for package in ("serve", "training", "export") for path in sources(package) if path.name == "__init__.py"
    ]
    assert written
    assert not [path for path in written if path.read_text().strip()]
