"""Add a label to a vocabulary while the server answers, and classify with it in the next request.

python examples/live_vocabulary.py moves "lying down" clip.mp4
"""

import argparse
from pathlib import Path
from typing import Any

import httpx

CONFLICT = 412  # another client changed the vocabulary first


def add_label(http: httpx.Client, vocabulary: str, label: str) -> int:
    """The version that contains the label; the vocabulary is created if there is none."""
    url = f"/v1/vocabularies/{vocabulary}"
    while True:
        current = http.get(url)
        if current.status_code == 404:
            response = http.put(url, json={"labels": [label]}, headers={"If-None-Match": "*"})
        elif label in [item["name"] for item in current.raise_for_status().json()["labels"]]:
            return int(current.json()["version"])
        else:
            response = http.patch(url, json={"add": [label]}, headers={"If-Match": current.headers["etag"]})
        if response.status_code != CONFLICT:
            return int(response.raise_for_status().json()["version"])


def classify(http: httpx.Client, video: Path, vocabulary: str) -> dict[str, Any]:
    """The answer of the server."""
    with video.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data={"vocabulary": vocabulary})
    answer: dict[str, Any] = response.raise_for_status().json()
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vocabulary")
    parser.add_argument("label")
    parser.add_argument("video", type=Path)
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    with httpx.Client(base_url=options.server, timeout=120) as http:
        version = add_label(http, options.vocabulary, options.label)
        print(f"version {version} has the label {options.label!r}")
        answer = classify(http, options.video, options.vocabulary)
    for result in answer["results"]:
        print(f"{result['score']:.3f}  {result['label']}  ({answer['vocabulary']})")


if __name__ == "__main__":
    main()
