"""Classify every video in a folder and write the best labels as CSV.

python examples/classify_folder.py videos --labels "waving,walking" > answers.csv
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from serve.client import Client, ProblemError


def classify_folder(client: Client, folder: Path, labels: list[str]) -> Iterator[tuple[str, str, float | None]]:
    """Yield (file, best label, score); a file that is not a video has the reason in place of a label."""
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        try:
            (best,) = client.classify(path, candidate_labels=labels, top_k=1)["results"]
        except ProblemError as error:
            if error.status not in (415, 422):
                raise
            yield str(path), error.detail, None
        else:
            yield str(path), best["label"], best["score"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", required=True, help="separated by commas")
    parser.add_argument("--server", help="URL of the server; by default ACTSERVE_SERVER or http://127.0.0.1:8080")
    arguments = parser.parse_args()
    labels = [label.strip() for label in arguments.labels.split(",")]
    writer = csv.writer(sys.stdout)
    writer.writerow(("file", "label", "score"))
    with Client(arguments.server) as client:
        writer.writerows(classify_folder(client, arguments.folder, labels))


if __name__ == "__main__":
    main()
