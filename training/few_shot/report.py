"""What few-shot tells: the summary over seeds, the table, and the commands for a server."""

import json
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.data.lists.rows import Entry
from training.few_shot.methods import METHODS

ZERO_SHOT = "zero_shot"


def summary_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each K, mean and standard deviation of top-1 over the seeds (None of one seed)."""
    found = []
    for shots in sorted({row["shots"] for row in rows}):
        own = [row for row in rows if row["shots"] == shots]
        values = {ZERO_SHOT: [row[ZERO_SHOT] for row in own]}
        values |= {name: [row["methods"][name]["top1"] for row in own] for name in METHODS}
        found.append({"shots": shots, **{name: _spread(each) for name, each in values.items()}})
    return found


def print_report(document: dict[str, Any], *, num_seeds: int) -> None:
    """The table for people, then the document in one line for programs."""
    for row in document["draws"]:
        if row["short_classes"]:
            short_classes = ", ".join(f"{name} {count}" for name, count in list(row["short_classes"].items())[:5])
            count = len(row["short_classes"])
            print(f"{row['shots']} shots, seed {row['seed']}: {count} classes have fewer ({short_classes})")
    dependent = f", {document['copies']} copies" if document["copies"] else ""
    judged = sorted({row["num_judged_independent"] for row in document["draws"]})
    print(
        f"{document['videos']} videos, {document['independent']} independent{dependent}; "
        f"judged by {'-'.join(str(count) for count in sorted({judged[0], judged[-1]}))} independent ones a draw"
    )
    seeds = f"{num_seeds} seed{'s' * (num_seeds > 1)}"
    print(f"top-1 of {document['classes']} classes, mean over {seeds} ± standard deviation; {document['features']}")
    columns = (ZERO_SHOT, *METHODS)
    print(f"{'shots':>6}" + "".join(f"{name.replace('_', '-'):>18}" for name in columns))
    for row in document["summary"]:
        print(f"{row['shots']:>6}" + "".join(f"{_words(row[name]):>18}" for name in columns))
    print(json.dumps(document), flush=True)


def server_commands(vocabulary: str, labels_file: Path, names: Sequence[str], shots: Sequence[Entry]) -> list[str]:
    """Commands after which a server fits the same prototypes: class names as a vocabulary, clips as their examples.

    Frames that were extracted cannot be sent, so only video files are named.
    """
    found = [["actserve", "vocab", "put", vocabulary, str(labels_file)]]
    for label, name in enumerate(names):
        clips = [str(entry.path.absolute()) for entry in shots if entry.label == label and entry.num_frames is None]
        if clips:
            found.append(["actserve", "vocab", "add-examples", "--wait", "300", "--", vocabulary, name, *clips])
    return [shlex.join(words) for words in found]


def _spread(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {
        "mean": round(statistics.fmean(values), 4),
        "deviation": None if deviation is None else round(deviation, 4),
        "top1": list(values),
    }


def _words(spread: dict[str, Any]) -> str:
    return f"{spread['mean']:.3f}" + ("" if spread["deviation"] is None else f" ± {spread['deviation']:.3f}")
