"""Add a label to a vocabulary while the server runs, and classify with it in the next request.

python examples/live_vocabulary.py moves "lying down" clip.mp4
"""

import argparse
from pathlib import Path

from serve.client import Client, ProblemError


def add_label(client: Client, name: str, label: str) -> int:
    """Return the version that contains the label; the vocabulary is created if it does not exist.

    If another program changes the vocabulary at the same time, `add` is repeated on the newest version, so that no
    change is lost.
    """
    vocabulary = client.vocabulary(name)
    try:
        current = vocabulary.get()
    except ProblemError as error:
        if error.status != 404:
            raise
        return vocabulary.create([label])["version"]
    if label in [item["name"] for item in current["labels"]]:
        return current["version"]
    return vocabulary.add(label)["version"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("vocabulary")
    parser.add_argument("label")
    parser.add_argument("video", type=Path)
    parser.add_argument("--server", help="URL of the server; by default ACTSERVE_SERVER or http://127.0.0.1:8080")
    arguments = parser.parse_args()
    with Client(arguments.server) as client:
        print(f"version {add_label(client, arguments.vocabulary, arguments.label)} of {arguments.vocabulary}")
        result = client.classify(arguments.video, vocabulary=arguments.vocabulary)
        best = result["results"][0]
        print(f"{best['score']:.3f}  {best['label']}  ({result['vocabulary']})")


if __name__ == "__main__":
    main()
