"""The starter model's proof on real clips: hits with intervals, a permuted control, four languages, example clips.

python -m training starter-proof VIDEOS --server http://127.0.0.1:8080

VIDEOS holds clips and an index.csv with the columns file and label. Without a server the exported version is run in
process. The clips of a server are sent to it; the vocabulary that their examples are put into is deleted at the end.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from serve.arrays import Float32Array, Int64Array
from serve.lists.labelled_table import read_labelled_table
from serve.lists.text import read_text
from serve.served_model import ServedModel
from training.config import ConfigError
from training.data.lists.rows import Entry
from training.evaluation.score_intervals import accuracy_interval
from training.few_shot.encoding import VideoEncoder
from training.starter import example_gain
from training.starter.card import FIGURES
from training.starter.words import LANGUAGES, everyday, translations

PERMUTATIONS = 1000
TIMEOUT_SECONDS = 300.0  # of a request to a server
TOP = (1, 5)

Logits = Callable[[Sequence[str]], Float32Array]  # labels [K] -> logits [N, K] of all clips


@dataclass(frozen=True, kw_only=True)
class LabelledClips:
    """LabelledClips whose labels the evaluation has."""

    paths: tuple[Path, ...]
    labels: Int64Array  # [N], places in the evaluation's labels
    num_left_out: int = 0  # rows of the index with other labels


def read_clips(folder: Path) -> LabelledClips:
    """The clips of `index.csv` whose label is one of the evaluation's, in any order.

    Raises:
        AnnotationError: the index cannot be read.
        ConfigError: none of its clips has one of the labels.
    """
    places = {label: place for place, label in enumerate(translations()["en"])}
    rows = read_labelled_table(read_text(folder / "index.csv"), may_lack_label=True).rows
    used = [row for row in rows if row.label in places]
    if not used:
        raise ConfigError(
            f"{folder / 'index.csv'} names no clip with one of the {len(places)} labels of the evaluation"
        )
    return LabelledClips(
        paths=tuple(folder / row.path for row in used),
        labels=np.array([places[row.label] for row in used], np.int64),
        num_left_out=len(rows) - len(used),
    )


def prove(folder: Path, *, server: str | None, repository: Path, cache: Path) -> dict[str, Any]:
    """Measure, print a table and one JSON line; returns the figures.

    Raises:
        ConfigError: the folder has no index, or its index no clip whose label is one of the evaluation's.
    """
    clips = read_clips(folder)
    if server is not None:
        with httpx.Client(base_url=server, timeout=TIMEOUT_SECONDS) as client:
            figures = measure(clips, _served(client, clips))
            ranks = example_gain.ranks_of_server(client, clips.paths, clips.labels, translations()["en"])
    else:
        encoder = VideoEncoder(ServedModel.open(repository, "starter"), cache=cache)
        try:
            figures = measure(clips, _in_process(encoder, clips))
            ranks = example_gain.ranks_in_process(encoder, clips.paths, clips.labels, translations()["en"])
        finally:
            encoder.close()
    figures["examples"] = {name: _gain(found) for name, found in ranks.items()}
    _print(figures, len(clips.paths))
    print(json.dumps(figures), flush=True)
    return figures


def write_figures(figures: Mapping[str, Any]) -> Path:
    """Keep the figures where the model card takes them from; returns the file."""
    path = Path(str(FIGURES))
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return path


def measure(clips: LabelledClips, logits: Logits) -> dict[str, Any]:
    """Hits in every language, in the default vocabulary, and with permuted labels."""
    by_language = translations()
    scores = {language: logits(by_language[language]) for language in LANGUAGES}
    found = {language: _hits(ranks_of(scores[language], clips.labels)) for language in LANGUAGES}
    words = everyday()
    places = np.array([words.index(by_language["en"][label]) for label in clips.labels], np.int64)
    return {
        "clips": len(clips.labels),
        "left_out": clips.num_left_out,
        "labels": len(by_language["en"]),
        "languages": found,
        "permuted": permuted(scores["en"], clips.labels),
        "default_vocabulary": {"labels": len(words), **_hits(ranks_of(logits(words), places))},
    }


def ranks_of(logits: Float32Array, labels: Int64Array) -> Int64Array:
    """How many labels stand before a clip's own [N]; one of equal logits counts as before it."""
    own = logits[np.arange(len(labels)), labels]
    ranks: Int64Array = (logits >= own[:, None]).sum(axis=1) - 1
    return ranks


def permuted(logits: Float32Array, labels: Int64Array) -> dict[str, float]:
    """Shares of hits when the labels' texts are exchanged among each other, mean over many exchanges."""
    generator = np.random.default_rng(0)
    ranks = [ranks_of(logits, generator.permutation(logits.shape[1])[labels]) for _ in range(PERMUTATIONS)]
    return {f"top{top}": round(float((np.array(ranks) < top).mean()), 4) for top in TOP}


def _hits(ranks: Int64Array) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for top in TOP:
        hits = ranks < top
        low, high = accuracy_interval(hits)
        found[f"top{top}"] = round(float(hits.mean()), 4)
        found[f"top{top}_hits"] = int(hits.sum())
        found[f"top{top}_interval"] = [round(low, 3), round(high, 3)]
    return found


def _gain(ranks: Sequence[example_gain.Ranks]) -> dict[str, Any]:
    before, after = (np.array(column, np.int64) for column in zip(*ranks, strict=True))
    return {"pairs": len(ranks), "by_text": _hits(before), "with_example": _hits(after)}


def _in_process(encoder: VideoEncoder, clips: LabelledClips) -> Logits:
    entries = [Entry(path=path, label=0) for path in clips.paths]
    rows = encoder.encode(entries, workers=1, max_bad_share=0.0).vectors

    def logits(labels: Sequence[str]) -> Float32Array:
        return encoder.text_logits(rows, encoder.bank(labels))[:, 0]

    return logits


def _served(client: httpx.Client, clips: LabelledClips) -> Logits:
    def logits(labels: Sequence[str]) -> Float32Array:
        rows = []
        for path in clips.paths:
            found = example_gain.classify_clip(client, path, candidate_labels=list(labels), top_k=len(labels))
            rows.append([found[label] for label in labels])
        return np.array(rows, np.float32)

    return logits


def _print(figures: Mapping[str, Any], count: int) -> None:
    def line(name: str, hits: Mapping[str, Any]) -> str:
        shown = [f"{hits[f'top{top}']:.3f} ({hits[f'top{top}_hits']}) {hits[f'top{top}_interval']}" for top in TOP]
        return f"{name:<34}{shown[0]:<32}{shown[1]}"

    if figures["left_out"]:
        print(f"{figures['left_out']} clips have labels that the evaluation has not and were left out")
    print(f"{f'{count} clips':<34}{'top-1 (clips) 95 %':<32}top-5 (clips) 95 %")
    for language, hits in figures["languages"].items():
        print(line(f"{figures['labels']} labels, {language}", hits))
    default = figures["default_vocabulary"]
    print(line(f"default vocabulary, {default['labels']} labels", default))
    print(f"{'permuted labels':<34}{figures['permuted']['top1']:<32.3f}{figures['permuted']['top5']:.3f}")
    for name, found in figures.get("examples", {}).items():
        print(line(f"{name}, {found['pairs']} pairs, by text", found["by_text"]))
        print(line(f"{name}, one example", found["with_example"]))
