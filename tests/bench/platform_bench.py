"""Platforms and Python versions for which the pinned dependencies of each extra have wheels.

python -m tests.bench.platform_bench            # all platforms; prints a table and one JSON line
python -m tests.bench.platform_bench --write    # also writes the table into docs/installation.md

Nothing is installed: uv resolves `pyproject.toml` under `constraints.txt` from wheels only. Unlike `pip download
--platform`, which evaluates markers such as `sys_platform` for the machine on which it runs, uv evaluates them for the
platform asked for. The command needs a package index.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from serve.reference import markdown_table
from tests.bench.promises import Promise, settle

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "installation.md"
START, END = "<!-- measured: platforms -->\n", "<!-- end -->"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = {  # name in the table -> platform of uv
    "Linux x86-64, glibc 2.28": "x86_64-manylinux_2_28",
    "Linux arm64, glibc 2.28": "aarch64-manylinux_2_28",
    "Linux arm64, glibc 2.35": "aarch64-manylinux_2_35",
    "macOS arm64, macOS 14": "aarch64-apple-darwin",
}
MACOS_TARGET = "14.0"
INTERNAL = ("dev", "docs")  # extras of contributors
CORE = "(none)"
SUPPORTED = {(name, CORE) for name in PLATFORMS if name != "Linux arm64, glibc 2.28"}  # OpenVINO needs glibc 2.35 there
RESOLVE_SECONDS, PARALLEL = 900, 4  # it waits for the index, not for the processor
FAULT = re.compile(
    r"Because (\S+) has no (?:wheels|\S+-compatible)|(\S+==\S+) has no wheels|there is no version of (\S+)"
)


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Whether the dependencies of an extra resolve from wheels."""

    platform: str
    python: str
    extra: str
    num_packages: int
    fault: str | None  # the package without a wheel, or the last line of the resolver


def read_extras() -> list[str]:
    """Return the extras for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [name for name in project["optional-dependencies"] if name not in INTERNAL]


def resolve(platform: str, python: str, extra: str) -> Resolution:
    """Resolve the dependencies of an extra for a platform and a version of Python."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "resolved.txt"
        command = [
            sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--only-binary", ":all:", "--quiet",
            "--constraint", "constraints.txt", "--python-platform", PLATFORMS[platform], "--python-version", python,
            "--python", sys.executable,
            "--no-annotate", "--no-header", "--output-file", str(out), *([] if extra == CORE else ["--extra", extra]),
        ]  # fmt: skip
        variables = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS_TARGET}
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=RESOLVE_SECONDS, check=False
        )
        packages = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
    is_resolved = done.returncode == 0
    return Resolution(
        platform=platform,
        python=python,
        extra=extra,
        num_packages=len(packages) if is_resolved else 0,
        fault=None if is_resolved else describe_fault(done.stderr),
    )


def describe_fault(text: str) -> str:
    """Return the package that a resolver's message names.

    >>> describe_fault("cause: Because openvino==2026.4.1 has no wheels with a matching platform tag and ...")
    'openvino==2026.4.1 has no wheel'
    """
    words = " ".join(text.split())
    found = FAULT.search(words)
    if found is None:
        return words[-300:]
    return f"{next(name for name in found.groups() if name)} has no wheel"


def table(resolutions: Sequence[Resolution]) -> str:
    """Return the Markdown table: a row for each platform and extra, a column for each version of Python."""
    cells = {(item.platform, item.extra, item.python): item for item in resolutions}
    rows = []
    for platform in PLATFORMS:
        for extra in dict.fromkeys(item.extra for item in resolutions):
            found = [cells[platform, extra, python] for python in PYTHONS]
            rows.append((platform, extra, *(_cell(item) for item in found)))
    return markdown_table(("platform", "extra", *PYTHONS), rows)


def _cell(item: Resolution) -> str:
    return f"{item.num_packages} packages" if item.fault is None else item.fault


def write_table(text: str) -> None:
    """Replace the table in the page on installation."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{START}{text}{END}{after}", encoding="utf-8")


def measure(extras: Iterable[str]) -> list[Resolution]:
    """Resolve all extras for all platforms and versions of Python."""
    wanted = [(platform, python, extra) for platform in PLATFORMS for extra in extras for python in PYTHONS]
    with ThreadPoolExecutor(PARALLEL) as threads:
        resolutions = []
        for item in threads.map(lambda arguments: resolve(*arguments), wanted):
            print(f"{item.platform}, Python {item.python}, {item.extra}: {_cell(item)}", file=sys.stderr, flush=True)
            resolutions.append(item)
    return resolutions


def judged(resolutions: Sequence[Resolution]) -> list[Promise]:
    """Return the promises: what is supported resolves."""
    supported = [item for item in resolutions if (item.platform, item.extra) in SUPPORTED]
    return [
        Promise(words="supported combinations", found=len(supported), least=len(SUPPORTED) * len(PYTHONS)),
        Promise(
            words="supported combinations that do not resolve",
            found=sum(item.fault is not None for item in supported), most=0,
        ),
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/installation.md")
    chosen = parser.parse_args(arguments)
    resolutions = measure([CORE, *read_extras()])
    text = table(resolutions)
    print(text)
    if chosen.write:
        write_table(text)
    print(json.dumps([asdict(item) for item in resolutions]))
    settle(
        judged(resolutions),
        {"a wheel that is missing": judged([replace(item, fault="no wheel") for item in resolutions])},
    )


if __name__ == "__main__":
    main()
