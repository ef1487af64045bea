"""Who may import whom, proven in a fresh interpreter and by reading the sources."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("serve", "export", "training")
LIGHT = [
    "arrays",
    "calibration_statistics",
    "cli/calls",
    "cli/parameters",
    "client/__init__",
    "client/address",
    "client/asynchronous/client",
    "client/asynchronous/job",
    "client/asynchronous/pages",
    "client/asynchronous/stored_video",
    "client/asynchronous/transport",
    "client/asynchronous/vocabulary",
    "client/calls",
    "client/events",
    "client/problems",
    "client/responses",
    "client/retries",
    "client/schemas/common",
    "client/schemas/jobs",
    "client/schemas/options",
    "client/schemas/server",
    "client/schemas/videos",
    "client/schemas/vocabularies",
    "client/synchronous/client",
    "client/synchronous/job",
    "client/synchronous/pages",
    "client/synchronous/stored_video",
    "client/synchronous/transport",
    "client/synchronous/vocabulary",
    "client/types",
    "client/uploads",
    "exit_status",
    "contract",
    "errors",
    "extras",
    "features",
    "files",
    "independence",
    "jobs/states",
    "feedback/index",
    "lists/errors",
    "lists/labelled_table",
    "lists/parts",
    "lists/tables",
    "lists/text",
    "repository",
    "parity",
    "scoring",
    "served_model",
    "store/feature_cache",
    "strict_json",
    "unicode_text",
    "version_numbers",
    "video/sampling",
    "video/preprocess",
    "text/encoding",
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
    "video/bitstream/inspector",
    "video/bitstream/vpx",
    "video/library_errors",
    "video/channel",
    "video/child",
    "video/decode_child",
    "video/fork_server",
    "video/views_job",
    "video/containers",
    "video/decode",
    "video/decode_decord",
    "video/decode_pillow",
    "video/decode_pyav",
    "video/decoded_frames",
    "video/decoder",
    "video/ebml",
    "video/empty_samples",
    "video/exif",
    "video/parameter_sets",
    "video/identify",
    "video/isolation/landlock",
    "video/isolation/layers",
    "video/isolation/namespaces",
    "video/boxes",
    "video/jpeg",
    "video/tracks",
    "video/limits",
    "video/memory",
    "video/metadata",
    "video/packet_index",
    "video/pictures",
    "video/plan",
    "video/programs",
    "video/streams",
    "video/times",
    "video/truncation",
    "video/video_file",
    "video/view_request",
    "video/window_job",
    "video/windows",
]
LIGHT += DECODING
LIGHT_MODULES = {f"serve.{name.replace('/', '.')}" for name in LIGHT}
LIGHT_PACKAGES = {module.rpartition(".")[0] for module in LIGHT_MODULES}  # `from serve.text import prompts` names both
LIGHT_LIBRARIES = {"numpy"}
EXTRA_LIBRARIES = {
    "contract": {"pydantic"},
    "repository": {"pydantic", "regex"},
    "video/preprocess": {"cv2", "PIL"},
    "served_model": {"onnxruntime"},
    "text/tokenizer": {"tokenizers", "ftfy", "regex"},
    "text/normalization": {"regex"},
}
EXTRA_LIBRARIES |= {"cli/calls": {"typer", "httpx"}, "cli/parameters": {"typer"}, "exit_status": {"typer"}}
EXTRA_LIBRARIES |= {name: {"httpx"} for name in LIGHT if name.startswith("client/")}
EXTRA_LIBRARIES |= {name: {"av", "decord", "PIL", "pydantic"} for name in DECODING}


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


def is_light(name: str) -> bool:
    """Whether an imported name of serve is a light module, something in one, or a package that holds one."""
    return name in LIGHT_PACKAGES or any(name == light or name.startswith(f"{light}.") for light in LIGHT_MODULES)


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
            assert is_light(imported), imported
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
        if name.split(".")[0] == "serve" and not is_light(name)
    }
    assert not offenders


def modules() -> dict[str, Path]:
    """Dotted name -> file of every module of the three packages."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sources(package)
    }


def siblings(package: str, imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """Imports between the modules and packages that lie directly in a package ("" is the root of the repository)."""
    depth = package.count(".") + 1 if package else 0

    def child(name: str) -> str | None:
        parts = name.split(".")
        is_inside = parts[:depth] == (package.split(".") if package else []) and len(parts) > depth
        return ".".join(parts[: depth + 1]) if is_inside else None

    found: dict[str, set[str]] = {}
    for name, targets in imports.items():
        if (importer := child(name)) is not None:
            found.setdefault(importer, set()).update(
                other for target in targets if (other := child(target)) not in (None, importer)
            )
    return found


@pytest.mark.parametrize("top", PACKAGES)
def test_no_import_cycles(top: str) -> None:
    """Neither modules nor packages import each other in a circle; imports inside functions and for types count."""
    known = modules()
    imports = {name: imported_names(path) & known.keys() - {name} for name, path in known.items()}
    packages = {name for name, path in known.items() if path.name == "__init__.py"}
    for package in sorted(item for item in packages if item.split(".")[0] == top):
        graphlib.TopologicalSorter(siblings(package, imports)).prepare()  # raises CycleError, which names the cycle


def test_a_cycle_between_packages_is_found() -> None:
    imports = {"a.x.one": {"a.y.two"}, "a.y.two": set(), "a.y.three": {"a.x.four"}, "a.x.four": set()}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(siblings("a", imports)).prepare()


def test_packages_have_empty_init_files() -> None:
    written = [
        path for package in ("serve", "training", "export") for path in sources(package) if path.name == "__init__.py"
    ]
    assert written
    public = ROOT / "serve" / "client" / "__init__.py"  # names the public classes of the client, without importing them
    assert [path for path in written if path.read_text().strip()] == [public]
