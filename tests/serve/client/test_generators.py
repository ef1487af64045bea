"""Other programs generate clients from the OpenAPI document; `openapi-python-client` does so without a warning."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.app import create_app
from serve.settings import ServeSettings
from tests.running_server import ROOT, RunningServer

CONFIGURATION = ROOT / "examples" / "openapi-python-client.yaml"
KNOWN_MEDIA_TYPES = {"application/json", "application/problem+json", "multipart/form-data", "application/octet-stream"}
INSTALL = "pip install --no-deps openapi-python-client==0.29.1 attrs ruamel.yaml"  # its bound on typer is below ours
DOCUMENT: dict[str, Any] = create_app(ServeSettings()).openapi()
ROUND_TRIP = """
import sys
from pathlib import Path
from out import Client
from out.api.classify import classify_v1_classify_post as classify
from out.api.vocabularies import (
    delete_vocabulary_v1_vocabularies_name_delete as delete,
    patch_vocabulary_v1_vocabularies_name_patch as patch,
    put_vocabulary_v1_vocabularies_name_put as put,
)
from out.models import ClassifyV1ClassifyPostFilesBody as Form
from out.models import PatchVocabularyV1VocabulariesNamePatchVocabularyPatch as Changes
from out.models import PutVocabularyV1VocabulariesNamePutJsonVocabularyInput as Vocabulary
from out.types import File

client = Client(base_url=sys.argv[1])
created = put.sync_detailed("generated", client=client, body=Vocabulary(labels=[sys.argv[3]]), if_none_match="*")
assert created.status_code == 200, created.content
etag = created.headers["etag"]
changed = patch.sync_detailed("generated", client=client, body=Changes(add=["clapping"]), if_match=etag)
assert (changed.status_code, changed.parsed.num_labels) == (200, 2), changed.content
stale = patch.sync_detailed("generated", client=client, body=Changes(add=["running"]), if_match=etag)
assert (stale.status_code, stale.parsed.type_) == (412, "/problems/stale-version"), stale.content
with Path(sys.argv[2]).open("rb") as stream:
    form = Form(video=File(payload=stream, file_name="clip.mp4"), vocabulary="generated", top_k=1)
    result = classify.sync_detailed(client=client, body=form)
print(result.parsed.results[0].label)
assert delete.sync_detailed("generated", client=client, if_match=changed.headers["etag"]).status_code == 204
"""


def contents() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (operation, media type, content) of every body and response of the document."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for holder in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media_type, content in holder.get("content", {}).items():
                    yield f"{method.upper()} {path}", media_type, content


def test_every_media_type_is_known_to_the_generator() -> None:
    known = KNOWN_MEDIA_TYPES | set(yaml.safe_load(CONFIGURATION.read_text())["content_type_overrides"])
    unknown = {(operation, media_type) for operation, media_type, _ in contents() if media_type not in known}
    assert not unknown - {("GET /v1/jobs/{job_id}/events", "text/event-stream")}  # read as text


def test_models_inside_of_bodies_are_references() -> None:
    """A generator makes one class per schema: two copies of a model in one body would have the same name."""
    for operation, _, content in contents():
        inside = json.dumps(content["schema"].get("properties", {}))
        assert not re.search(r'"properties": \{', inside), operation


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("openapi_python_client") is None, reason=f"not installed: {INSTALL}")
def test_a_generated_client_classifies_and_changes_a_vocabulary(
    demo_server: RunningServer, demo_clip: Path, tmp_path: Path
) -> None:
    command = [
        sys.executable, "-m", "openapi_python_client", "generate", "--url", f"{demo_server.address}/openapi.json",
        "--config", CONFIGURATION, "--meta", "none", "--output-path", tmp_path / "out", "--fail-on-warning",
    ]  # fmt: skip
    generated = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert generated.returncode == 0 and "WARNING" not in generated.stderr + generated.stdout, generated.stderr
    arguments = [demo_server.address, demo_clip, "a person in red walking to the left"]
    done = subprocess.run([sys.executable, "-c", ROUND_TRIP, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == arguments[2]
