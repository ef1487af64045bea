"""The report of the command `few-shot`: the summary over seeds, the table, and the commands for a server."""

import json
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.data.lists.rows import Entry
from training.few_shot.methods import METHODS

ZERO_SHOT = "zero_shot"


def summarise(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean and the standard deviation of top-1 over the seeds, for each K; None for a single seed."""
    summary = []
    for shots in sorted({result["shots"] for result in results}):
        of_shots = [result for result in results if result["shots"] == shots]
        values = {ZERO_SHOT: [result[ZERO_SHOT] for result in of_shots]}
        values |= {name: [result["methods"][name]["top1"] for result in of_shots] for name in METHODS}
        summary.append({"shots": shots, **{name: _mean_and_deviation(top1) for name, top1 in values.items()}})
    return summary


def print_report(document: dict[str, Any], *, num_seeds: int) -> None:
    """Print the table for people, and then the document as one JSON line for programs."""
    for result in document["draws"]:
        if result["short_classes"]:
            counts = ", ".join(f"{name} {count}" for name, count in list(result["short_classes"].items())[:5])
            num_classes = len(result["short_classes"])
            print(f"{result['shots']} shots, seed {result['seed']}: {num_classes} classes have fewer shots ({counts})")
    copies = f", {document['copies']} copies" if document["copies"] else ""
    num_test = sorted({result["num_judged_independent"] for result in document["draws"]})
    print(
        f"{document['videos']} videos, {document['independent']} independent{copies}; each sample is tested on "
        f"{'-'.join(str(count) for count in sorted({num_test[0], num_test[-1]}))} independent videos"
    )
    seeds = f"{num_seeds} seed{'s' * (num_seeds > 1)}"
    print(f"top-1 of {document['classes']} classes, mean over {seeds} ± standard deviation; {document['features']}")
    columns = (ZERO_SHOT, *METHODS)
    print(f"{'shots':>6}" + "".join(f"{name.replace('_', '-'):>18}" for name in columns))
    for row in document["summary"]:
        print(f"{row['shots']:>6}" + "".join(f"{_format(row[name]):>18}" for name in columns))
    print(json.dumps(document), flush=True)


def server_commands(vocabulary: str, labels_file: Path, names: Sequence[str], shots: Sequence[Entry]) -> list[str]:
    """Return shell commands that make a server fit the same prototypes.

    The commands create a vocabulary of the class names and add the shots as examples. Only video files are added,
    because the server does not accept frame folders.
    """
    commands = [["actserve", "vocab", "put", vocabulary, str(labels_file)]]
    for label, name in enumerate(names):
        clips = [str(entry.path.absolute()) for entry in shots if entry.label == label and entry.num_frames is None]
        if clips:
            commands.append(["actserve", "vocab", "add-examples", "--wait", "300", "--", vocabulary, name, *clips])
    return [shlex.join(command) for command in commands]


def _mean_and_deviation(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {
        "mean": round(statistics.fmean(values), 4),
        "deviation": None if deviation is None else round(deviation, 4),
        "top1": list(values),
    }


def _format(value: dict[str, Any]) -> str:
    return f"{value['mean']:.3f}" + ("" if value["deviation"] is None else f" ± {value['deviation']:.3f}")
