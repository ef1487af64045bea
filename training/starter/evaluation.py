"""Evaluate the starter model on real clips: accuracy in four languages, a control with permuted labels, example clips.

python -m training starter-proof VIDEOS --server http://127.0.0.1:8080

VIDEOS contains clips and an index.csv with the columns file and label. Without `--server` the exported model is run in
this process. With it, the clips are sent to the server, and the vocabulary made for the examples is deleted at the end.
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
from training.starter import one_example
from training.starter.card import FIGURES
from training.starter.words import LANGUAGES, evaluation_labels, everyday_labels

NUM_PERMUTATIONS = 1000
TIMEOUT_SECONDS = 300.0  # per request
TOP_KS = (1, 5)

ComputeLogits = Callable[[Sequence[str]], Float32Array]  # labels [K] -> logits [N, K] of all clips


@dataclass(frozen=True, kw_only=True)
class LabelledClips:
    """Clips whose labels are among the labels of the evaluation."""

    paths: tuple[Path, ...]
    labels: Int64Array  # [N], indices into the labels of the evaluation
    num_skipped: int = 0  # rows of the index with other labels


def read_clips(folder: Path) -> LabelledClips:
    """Read the clips of `index.csv` whose label is one of the labels of the evaluation.

    Raises:
        AnnotationError: the index cannot be read.
        ConfigError: no clip has one of these labels.
    """
    label_indices = {label: index for index, label in enumerate(evaluation_labels()["en"])}
    rows = read_labelled_table(read_text(folder / "index.csv"), allow_empty_label=True).rows
    used = [row for row in rows if row.label in label_indices]
    if not used:
        raise ConfigError(
            f"{folder / 'index.csv'} has no clip with one of the {len(label_indices)} labels of the evaluation"
        )
    return LabelledClips(
        paths=tuple(folder / row.path for row in used),
        labels=np.array([label_indices[row.label] for row in used], np.int64),
        num_skipped=len(rows) - len(used),
    )


def evaluate(folder: Path, *, server: str | None, repository: Path, cache: Path) -> dict[str, Any]:
    """Evaluate the model; print a table and one JSON line, and return the metrics.

    Raises:
        AnnotationError: the index cannot be read.
        ConfigError: no clip of the index has one of the labels of the evaluation.
    """
    clips = read_clips(folder)
    if server is not None:
        with httpx.Client(base_url=server, timeout=TIMEOUT_SECONDS) as client:
            metrics = measure(clips, _server_logits(client, clips))
            ranks = one_example.measure_on_server(client, clips.paths, clips.labels, evaluation_labels()["en"])
    else:
        encoder = VideoEncoder(ServedModel.open(repository, "starter"), cache=cache)
        try:
            metrics = measure(clips, _local_logits(encoder, clips))
            ranks = one_example.measure_in_process(encoder, clips.paths, clips.labels, evaluation_labels()["en"])
        finally:
            encoder.close()
    metrics["examples"] = {name: _summarize_ranks(case_ranks) for name, case_ranks in ranks.items()}
    _print_table(metrics, len(clips.paths))
    print(json.dumps(metrics), flush=True)
    return metrics


def record_figures(metrics: Mapping[str, Any]) -> Path:
    """Write the figures to the file that the model card is made from; return the file."""
    path = Path(str(FIGURES))
    path.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return path


def measure(clips: LabelledClips, compute_logits: ComputeLogits) -> dict[str, Any]:
    """Measure accuracy in every language, with the default vocabulary, and with permuted labels."""
    by_language = evaluation_labels()
    logits = {language: compute_logits(by_language[language]) for language in LANGUAGES}
    vocabulary = everyday_labels()
    vocabulary_indices = np.array([vocabulary.index(by_language["en"][label]) for label in clips.labels], np.int64)
    return {
        "clips": len(clips.labels),
        "left_out": clips.num_skipped,
        "labels": len(by_language["en"]),
        "languages": {language: _count_hits(label_ranks(logits[language], clips.labels)) for language in LANGUAGES},
        "permuted": measure_permuted(logits["en"], clips.labels),
        "default_vocabulary": {
            "labels": len(vocabulary),
            **_count_hits(label_ranks(compute_logits(vocabulary), vocabulary_indices)),
        },
    }


def label_ranks(logits: Float32Array, labels: Int64Array) -> Int64Array:
    """Return the 0-based rank of each clip's label [N]; ties count against it."""
    label_logits = logits[np.arange(len(labels)), labels]
    ranks: Int64Array = (logits >= label_logits[:, None]).sum(axis=1) - 1
    return ranks


def measure_permuted(logits: Float32Array, labels: Int64Array) -> dict[str, float]:
    """Return the mean top-k accuracy over `NUM_PERMUTATIONS` random permutations of the labels."""
    generator = np.random.default_rng(0)
    ranks = [label_ranks(logits, generator.permutation(logits.shape[1])[labels]) for _ in range(NUM_PERMUTATIONS)]
    return {f"top{k}": round(float((np.array(ranks) < k).mean()), 4) for k in TOP_KS}


def _count_hits(ranks: Int64Array) -> dict[str, Any]:
    """Return top-k accuracies with the number of hits and 95 % intervals."""
    metrics: dict[str, Any] = {}
    for k in TOP_KS:
        hits = ranks < k
        low, high = accuracy_interval(hits)
        metrics[f"top{k}"] = round(float(hits.mean()), 4)
        metrics[f"top{k}_hits"] = int(hits.sum())
        metrics[f"top{k}_interval"] = [round(low, 3), round(high, 3)]
    return metrics


def _summarize_ranks(ranks: Sequence[one_example.Ranks]) -> dict[str, Any]:
    before, after = (np.array(column, np.int64) for column in zip(*ranks, strict=True))
    return {"pairs": len(ranks), "by_text": _count_hits(before), "with_example": _count_hits(after)}


def _local_logits(encoder: VideoEncoder, clips: LabelledClips) -> ComputeLogits:
    entries = [Entry(path=path, label=0) for path in clips.paths]
    rows = encoder.encode(entries, workers=1, max_bad_share=0.0).vectors

    def logits(labels: Sequence[str]) -> Float32Array:
        return encoder.text_logits(rows, encoder.bank(labels))[:, 0]

    return logits


def _server_logits(client: httpx.Client, clips: LabelledClips) -> ComputeLogits:
    def logits(labels: Sequence[str]) -> Float32Array:
        rows = []
        for path in clips.paths:
            by_label = one_example.classify_clip(client, path, candidate_labels=list(labels), top_k=len(labels))
            rows.append([by_label[label] for label in labels])
        return np.array(rows, np.float32)

    return logits


def _print_table(metrics: Mapping[str, Any], count: int) -> None:
    def line(name: str, hits: Mapping[str, Any]) -> str:
        shown = [f"{hits[f'top{k}']:.3f} ({hits[f'top{k}_hits']}) {hits[f'top{k}_interval']}" for k in TOP_KS]
        return f"{name:<34}{shown[0]:<32}{shown[1]}"

    if metrics["left_out"]:
        print(f"{metrics['left_out']} clips were skipped: their labels are not among the labels of the evaluation")
    print(f"{f'{count} clips':<34}{'top-1 (clips) 95 %':<32}top-5 (clips) 95 %")
    for language, hits in metrics["languages"].items():
        print(line(f"{metrics['labels']} labels, {language}", hits))
    default = metrics["default_vocabulary"]
    print(line(f"default vocabulary, {default['labels']} labels", default))
    print(f"{'permuted labels':<34}{metrics['permuted']['top1']:<32.3f}{metrics['permuted']['top5']:.3f}")
    for name, gain in metrics.get("examples", {}).items():
        print(line(f"{name}, {gain['pairs']} pairs, text only", gain["by_text"]))
        print(line(f"{name}, one example", gain["with_example"]))
