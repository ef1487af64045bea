"""Classify every video in a folder and write the best labels as CSV.

python examples/classify_folder.py videos --labels "waving,walking" > answers.csv
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx


def answers(folder: Path, labels: str, *, server: str) -> Iterator[tuple[str, str, float | None]]:
    """(file, best label, score); a file that is no video has the reason in place of a label."""
    with httpx.Client(base_url=server, timeout=120) as http:
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            with path.open("rb") as stream:
                fields = {"candidate_labels": labels, "top_k": "1"}
                response = http.post("/v1/classify", files={"video": stream}, data=fields)
            if response.status_code in (415, 422):
                yield str(path), response.json()["detail"], None
                continue
            response.raise_for_status()
            (best,) = response.json()["results"]
            yield str(path), best["label"], best["score"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", required=True, help="separated by commas")
    parser.add_argument("--server", default="http://127.0.0.1:8080")
    options = parser.parse_args()
    writer = csv.writer(sys.stdout)
    writer.writerow(("file", "label", "score"))
    writer.writerows(answers(options.folder, options.labels, server=options.server))


if __name__ == "__main__":
    main()
