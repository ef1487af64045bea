"""Examples of request bodies in the OpenAPI document, which `/docs` fills in."""

from typing import Any

FORM, JSON, CSV, TEXT = "multipart/form-data", "application/json", "text/csv", "text/plain"
BINARY = "application/octet-stream"
LABELS = ["opening a door", "closing a door"]
_SCORED = {"candidate_labels": LABELS, "top_k": 2}
_INFERENCE = {
    JSON: {
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": LABELS}],
        "outputs": [{"name": "embedding"}],
    },
    BINARY: "the JSON part, then the binary data of its inputs",
}
_EXAMPLES: dict[tuple[str, str], dict[str, Any]] = {  # (method, path) -> media type -> example
    ("post", "/v1/classify"): {FORM: {"options": '{"candidate_labels": ["opening a door", "closing a door"]}'}},
    ("post", "/v1/timeline"): {FORM: {"options": '{"vocabulary": "demo", "threshold_on": 0.5}'}},
    ("post", "/v1/embeddings"): {JSON: {"input": LABELS}, FORM: {"options": '{"normalize": true}'}},
    ("post", "/v1/jobs"): {
        JSON: {"kind": "classify", "options": {"vocabulary": "demo"}, "folder": {"path": "", "pattern": "*.mp4"}},
        FORM: {"kind": "classify", "options": '{"vocabulary": "demo"}'},
    },
    ("post", "/v1/videos/{video_id}:classify"): {JSON: _SCORED},
    ("post", "/v1/videos/{video_id}:timeline"): {JSON: {"candidate_labels": LABELS, "threshold_on": 0.5}},
    ("post", "/v1/videos:classify"): {JSON: {**_SCORED, "page_size": 100}},
    ("post", "/v1/search"): {
        JSON: {"video_id": "0123456789abcdef0123456789abcdef", "start_seconds": 0.0, "end_seconds": 2.0},
        FORM: {"options": '{"top_k": 5}'},
    },
    ("put", "/v1/vocabularies/{name}"): {
        JSON: {"labels": [LABELS[0], {"name": LABELS[1], "synonyms": ["shutting a door"]}], "description": "doors"},
        CSV: "name\nopening a door\nclosing a door\n",
        TEXT: "opening a door\nclosing a door\n",
    },
    ("patch", "/v1/vocabularies/{name}"): {JSON: {"add": ["knocking on a door"], "remove": [LABELS[1]]}},
    ("post", "/v1/vocabularies/{name}:rollback"): {JSON: {"version": 1}},
    ("post", "/v1/vocabularies/{name}:calibrate"): {FORM: {"options": '{"labels": ["opening a door", null]}'}},
    ("post", "/v1/models/{name}:activate"): {JSON: {"version": 1}},
    ("post", "/v1/models/{name}:rollback"): {JSON: {}},
    ("post", "/v2/models/{name}/infer"): _INFERENCE,
    ("post", "/v2/models/{name}/versions/{version}/infer"): _INFERENCE,
    ("post", "/v1/feedback"): {FORM: {"label": LABELS[0], "vocabulary": "demo"}},
}


def add_body_examples(path: str, method: str, operation: dict[str, Any]) -> None:
    """Add the examples of an operation to its request body; the files of a form are chosen by the user."""
    content = operation.get("requestBody", {}).get("content", {})
    for media_type, example in _EXAMPLES.get((method, path), {}).items():
        content[media_type]["example"] = example
