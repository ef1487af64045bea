"""Measure how much one example clip helps, for other clips of its label and for the other half of its video.

The second case measures memory rather than recognition and is reported separately.
"""

import json
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np

from serve.arrays import Float32Array, Int64Array
from serve.vocabularies.prototypes import fit_prototypes
from training.data.lists.rows import Entry
from training.few_shot.encoding import VideoEncoder

FRAME_RATE, BIT_RATE = 25, 4_000_000  # of the encoded halves of a video

Ranks = tuple[int, int]  # 0-based ranks of a clip's label: (with text alone, with one example)
Pair = tuple[int, int]  # (index of the example clip, index of the query clip)


def measure_in_process(
    encoder: VideoEncoder, paths: Sequence[Path], labels: Int64Array, names: Sequence[str]
) -> dict[str, list[Ranks]]:
    """Return ranks without and with an example, computed with the exported model as the server does."""
    bank = encoder.bank(names)

    def ranks(clips: Sequence[Path], clip_labels: Int64Array, pairs: Sequence[Pair]) -> list[Ranks]:
        entries = [Entry(path=path, label=0) for path in clips]
        rows = encoder.encode(entries, workers=1, max_bad_share=0.0).vectors
        return _fit_ranks(encoder, rows, clip_labels, pairs, bank)

    with tempfile.TemporaryDirectory() as folder:
        halves, half_labels, half_pairs = _cut_all_in_half(paths, labels, Path(folder))
        return {
            "other_clip": ranks(paths, labels, make_pairs(labels)),
            "same_video": ranks(halves, half_labels, half_pairs),
        }


def measure_on_server(
    client: httpx.Client, paths: Sequence[Path], labels: Int64Array, names: Sequence[str]
) -> dict[str, list[Ranks]]:
    """Return ranks without and with an example from a running server.

    Each example in turn is added to a temporary vocabulary of these labels.
    """
    vocabulary = f"starter-proof-{secrets.token_hex(4)}"
    client.put(
        f"/v1/vocabularies/{vocabulary}", json={"labels": list(names)}, headers={"If-None-Match": "*"}
    ).raise_for_status()
    try:
        with tempfile.TemporaryDirectory() as folder:
            halves, half_labels, half_pairs = _cut_all_in_half(paths, labels, Path(folder))
            return {
                "other_clip": _query_ranks(client, vocabulary, paths, labels, make_pairs(labels), names),
                "same_video": _query_ranks(client, vocabulary, halves, half_labels, half_pairs, names),
            }
    finally:
        client.delete(f"/v1/vocabularies/{vocabulary}", headers={"If-Match": "*"}).raise_for_status()


def make_pairs(labels: Int64Array) -> list[Pair]:
    """Return (example, query) for all pairs of different clips with the same label."""
    clips = range(len(labels))
    return [
        (example, clip) for clip in clips for example in clips if example != clip and labels[example] == labels[clip]
    ]


def classify_clip(client: httpx.Client, path: Path, **options: Any) -> Mapping[str, float]:
    """Classify a clip with a server; return the logit of each label in the response.

    Raises:
        httpx.HTTPStatusError: the server rejects the clip or the options.
    """
    with path.open("rb") as stream:
        response = client.post("/v1/classify", files={"video": stream}, data={"options": json.dumps(options)})
    response.raise_for_status()
    return {item["label"]: item["logit"] for item in response.json()["results"]}


def cut_in_half(path: Path, folder: Path) -> tuple[Path, Path]:
    """Encode the first and the second half of a video's frames as separate files."""
    with av.open(str(path), metadata_errors="replace") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    middle = max(1, len(frames) // 2)
    first, second = folder / f"{path.stem}_0.mp4", folder / f"{path.stem}_1.mp4"
    _write_video(frames[:middle], first)
    _write_video(frames[middle:] or frames[:middle], second)
    return first, second


def _cut_all_in_half(
    paths: Sequence[Path], labels: Int64Array, folder: Path
) -> tuple[list[Path], Int64Array, list[Pair]]:
    """Return (the halves of all videos, their labels, pairs with the first half as example for the second)."""
    halves = [half for path in paths for half in cut_in_half(path, folder)]
    return halves, np.repeat(labels, 2), [(2 * clip, 2 * clip + 1) for clip in range(len(paths))]


def _write_video(frames: Sequence[Any], path: Path) -> None:
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", BIT_RATE
        for frame in frames:
            video_frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
            container.mux(stream.encode(video_frame))
        container.mux(stream.encode(None))


def _query_ranks(
    client: httpx.Client,
    vocabulary: str,
    paths: Sequence[Path],
    labels: Int64Array,
    pairs: Sequence[Pair],
    names: Sequence[str],
) -> list[Ranks]:
    ranks = []
    for example, clip in pairs:
        label = names[labels[clip]]
        options = {"vocabulary": vocabulary, "top_k": len(names)}
        before = _rank(classify_clip(client, paths[clip], **options), label)
        with paths[example].open("rb") as stream:
            _request_examples(client, "POST", vocabulary, label, files={"video": stream})
        after = _rank(classify_clip(client, paths[clip], **options), label)
        _request_examples(client, "DELETE", vocabulary, label)
        ranks.append((before, after))
    return ranks


def _request_examples(client: httpx.Client, method: str, vocabulary: str, label: str, **body: Any) -> None:
    path = f"/v1/vocabularies/{vocabulary}/labels/{label}/examples"
    client.request(method, path, headers={"If-Match": "*"}, **body).raise_for_status()


def _rank(logits: Mapping[str, float], label: str) -> int:
    """Return the 0-based rank of a label; ties count against it."""
    return sum(logit >= logits[label] for logit in logits.values()) - 1


def _fit_ranks(
    encoder: VideoEncoder, rows: Float32Array, labels: Int64Array, pairs: Sequence[Pair], bank: Float32Array
) -> list[Ranks]:
    text_logits, features = encoder.text_logits(rows, bank)[:, 0], encoder.features(rows)  # [N, K], [N, E]
    ranks = []
    for example, clip in pairs:
        label = int(labels[clip])
        prototypes = fit_prototypes(
            features[[example]],
            np.array([label]),
            text_logits[[example]],
            num_labels=text_logits.shape[1],
            logit_scale=encoder.model.scoring.logit_scale,
        )
        text_only = text_logits[clip]  # [K]
        combined = text_only + prototypes.logits(features[[clip]])[0]
        ranks.append((int((text_only >= text_only[label]).sum()) - 1, int((combined >= combined[label]).sum()) - 1))
    return ranks
