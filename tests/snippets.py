"""The fenced blocks of the documents as programs: found in a page, run in order, answers compared.

`sh` and `python` blocks are run, `yaml` blocks are read as the training configuration they are part of, and a `json`
block is the answer of the block before it. A comment after a block says what the test has to know:

    <!-- snippet: skip REASON -->   not run here, and why
    <!-- snippet: slow -->          takes long; run by `make test-slow`
    <!-- snippet: server -->        starts a server and goes on until it is stopped
"""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = "http://127.0.0.1:8080"  # of the documents; the tests put their own in its place
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$(?:\n<!-- snippet: (.*?) -->)?", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    directive: str  # skip, slow, server, or empty
    reason: str  # why it is skipped

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets_of(path: Path, name: str) -> list[Snippet]:
    """The blocks of a page that name a language, in order."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, content, comment = match.groups()
        directive, _, reason = (comment or "").partition(" ")
        if language:
            line = text.count("\n", 0, match.start()) + 1
            found.append(Snippet(name, line, language, content, directive.rstrip(","), reason))
    return found


def run_snippet(snippet: Snippet, *, folder: Path, environment: dict[str, str], server: str) -> str:
    """What a block prints.

    Raises:
        AssertionError: it failed.
    """
    text = snippet.text.replace(SERVER, server)
    command = ["bash", "-euo", "pipefail", "-c", text] if snippet.language == "sh" else ["python", "-c", text]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"{snippet} ended with {done.returncode}:\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def assert_same_shape(found: Any, documented: Any, place: str = "") -> None:
    """The answer has the documented members, of the same kinds and with the same words; numbers may differ."""
    kinds = (int, float)
    if isinstance(documented, dict):
        assert isinstance(found, dict) and list(found) == list(documented), f"{place}: {found} is not {documented}"
        for name, value in documented.items():
            assert_same_shape(found[name], value, f"{place}.{name}")
    elif isinstance(documented, list):
        assert isinstance(found, list) and len(found) == len(documented), f"{place}: {found} is not {documented}"
        for index, value in enumerate(documented):
            assert_same_shape(found[index], value, f"{place}[{index}]")
    elif isinstance(documented, kinds) and not isinstance(documented, bool):
        assert isinstance(found, kinds) and not isinstance(found, bool), f"{place}: {found} is not like {documented}"
    elif isinstance(documented, str) and documented.endswith("…"):
        assert isinstance(found, str) and found.startswith(documented[:-1]), f"{place}: {found!r} is not {documented!r}"
    elif place != ".model.engine":  # the fastest this machine has
        assert found == documented, f"{place}: {found!r} is not {documented!r}"


def assert_answer(printed: str, snippet: Snippet) -> None:
    """What was printed is the documented answer."""
    assert_same_shape(json.loads(printed), json.loads(snippet.text))
