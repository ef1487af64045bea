"""The starter model's proof on real clips: hits with intervals, a permuted control, four languages, example clips.

python -m training starter-proof VIDEOS --server http://127.0.0.1:8080

VIDEOS holds clips and an index.csv with the columns file and label. Without a server the exported version is run in
process, and example clips are measured too.
"""

import csv
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from serve.arrays import Float32Array, Int64Array
from serve.served_model import ServedModel
from serve.vocabularies.prototypes import fit_prototypes
from training.data.lists.rows import Entry
from training.evaluation.bootstrap import mean_interval
from training.few_shot.encoding import VideoEncoder
from training.starter.words import LANGUAGES, everyday, translations

PERMUTATIONS = 1000
TOP = (1, 5)

Logits = Callable[[Sequence[str]], Float32Array]  # labels [K] -> logits [N, K] of all clips


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips whose labels the evaluation has."""

    paths: tuple[Path, ...]
    labels: Int64Array  # [N], places in the evaluation's labels


def read_clips(folder: Path) -> Clips:
    """The clips of `index.csv` whose label is one of the evaluation's, in any order."""
    places = {label: place for place, label in enumerate(translations()["en"])}
    with (folder / "index.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["label"] in places]
    return Clips(
        paths=tuple(folder / row["file"] for row in rows),
        labels=np.array([places[row["label"]] for row in rows], np.int64),
    )


def prove(folder: Path, *, server: str | None, repository: Path, cache: Path) -> dict[str, Any]:
    """Measure, print a table and one JSON line; returns the figures."""
    clips = read_clips(folder)
    if server is not None:
        figures = measure(clips, _served(server, clips))
    else:
        encoder = VideoEncoder(ServedModel.open(repository, "starter"), cache=cache)
        try:
            figures = measure(clips, _in_process(encoder, clips))
            figures["examples"] = measure_examples(encoder, clips)
        finally:
            encoder.close()
    _print(figures, len(clips.paths))
    print(json.dumps(figures), flush=True)
    return figures


def measure(clips: Clips, logits: Logits) -> dict[str, Any]:
    """Hits in every language, in the default vocabulary, and with permuted labels."""
    by_language = translations()
    found = {language: _hits(ranks_of(logits(by_language[language]), clips.labels)) for language in LANGUAGES}
    english = logits(by_language["en"])
    words = everyday()
    places = np.array([words.index(by_language["en"][label]) for label in clips.labels], np.int64)
    return {
        "clips": len(clips.labels),
        "labels": len(by_language["en"]),
        "languages": found,
        "permuted": permuted(english, clips.labels),
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


def measure_examples(encoder: VideoEncoder, clips: Clips) -> dict[str, Any]:
    """What one example clip brings: with another clip of its label, and with another piece of the same video."""
    labels = translations()["en"]
    bank = encoder.bank(labels)
    pairs = [
        (example, clip)
        for clip, label in enumerate(clips.labels)
        for example, other in enumerate(clips.labels)
        if example != clip and other == label
    ]
    rows = encoder.encode([Entry(path=path, label=0) for path in clips.paths], workers=1, max_bad_share=0.0).rows
    with tempfile.TemporaryDirectory() as folder:
        halves = [cut_in_half(path, Path(folder)) for path in clips.paths]
        entries = [Entry(path=path, label=0) for pair in halves for path in pair]
        pieces = encoder.encode(entries, workers=1, max_bad_share=0.0).rows
    own = [(2 * clip, 2 * clip + 1) for clip in range(len(clips.labels))]
    twice = np.repeat(clips.labels, 2)
    return {
        "other_clip": _gain(encoder, rows, clips.labels, pairs, bank),
        "same_video": _gain(encoder, pieces, twice, own, bank),
    }


def cut_in_half(path: Path, folder: Path) -> tuple[Path, Path]:
    """The first and the second half of a video's frames, each encoded as a file of its own."""
    with av.open(str(path), metadata_errors="replace") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    middle = max(1, len(frames) // 2)
    parts = (frames[:middle], frames[middle:] or frames[:middle])
    return tuple(_write(part, folder / f"{path.stem}{place}.mp4") for place, part in enumerate(parts))  # type: ignore[return-value]


def _write(frames: Sequence[Any], path: Path) -> Path:
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 4_000_000
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def _gain(
    encoder: VideoEncoder,
    rows: Float32Array,
    labels: Int64Array,
    pairs: Sequence[tuple[int, int]],
    bank: Float32Array,
) -> dict[str, Any]:
    """Hits of clips by text alone, and with one example of their label, as the server mixes them."""
    text_logits, features = encoder.text_logits(rows, bank)[:, 0], encoder.features(rows)  # [N, K], [N, E]
    scale = encoder.towers.scoring.logit_scale
    before, after = [], []
    for example, clip in pairs:
        label = labels[clip]
        prototypes = fit_prototypes(
            features[[example]],
            np.array([label]),
            text_logits[[example]],
            num_labels=text_logits.shape[1],
            logit_scale=scale,
        )
        alone = text_logits[[clip]]
        before.append(ranks_of(alone, labels[[clip]])[0])
        after.append(ranks_of(alone + prototypes.logits(features[[clip]]), labels[[clip]])[0])
    return {"pairs": len(pairs), "by_text": _hits(np.array(before)), "with_example": _hits(np.array(after))}


def _hits(ranks: Int64Array) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for top in TOP:
        hits = ranks < top
        low, high = mean_interval(hits)
        found[f"top{top}"] = round(float(hits.mean()), 4)
        found[f"top{top}_hits"] = int(hits.sum())
        found[f"top{top}_interval"] = [round(low, 3), round(high, 3)]
    return found


def _in_process(encoder: VideoEncoder, clips: Clips) -> Logits:
    entries = [Entry(path=path, label=0) for path in clips.paths]
    rows = encoder.encode(entries, workers=1, max_bad_share=0.0).rows

    def logits(labels: Sequence[str]) -> Float32Array:
        return encoder.text_logits(rows, encoder.bank(labels))[:, 0]

    return logits


def _served(address: str, clips: Clips) -> Logits:
    def logits(labels: Sequence[str]) -> Float32Array:
        options = {"candidate_labels": list(labels), "top_k": len(labels)}
        rows = []
        with httpx.Client(base_url=address, timeout=120) as client:
            for path in clips.paths:
                with path.open("rb") as stream:
                    answer = client.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})
                answer.raise_for_status()
                found: Mapping[str, float] = {item["label"]: item["logit"] for item in answer.json()["results"]}
                rows.append([found[label] for label in labels])
        return np.array(rows, np.float32)

    return logits


def _print(figures: Mapping[str, Any], count: int) -> None:
    def line(name: str, hits: Mapping[str, Any]) -> str:
        shown = [f"{hits[f'top{top}']:.3f} ({hits[f'top{top}_hits']}) {hits[f'top{top}_interval']}" for top in TOP]
        return f"{name:<34}{shown[0]:<32}{shown[1]}"

    print(f"{f'{count} clips':<34}{'top-1 (clips) 95 %':<32}top-5 (clips) 95 %")
    for language, hits in figures["languages"].items():
        print(line(f"{figures['labels']} labels, {language}", hits))
    default = figures["default_vocabulary"]
    print(line(f"default vocabulary, {default['labels']} labels", default))
    print(f"{'permuted labels':<34}{figures['permuted']['top1']:<32.3f}{figures['permuted']['top5']:.3f}")
    for name, found in figures.get("examples", {}).items():
        print(line(f"{name}, {found['pairs']} pairs, by text", found["by_text"]))
        print(line(f"{name}, one example", found["with_example"]))
