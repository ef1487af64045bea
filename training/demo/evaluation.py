"""Evaluate the demo model through a server, on MP4 files of seeds, textures and bodies unused in training.

python -m training demo-proof --server http://127.0.0.1:8080 --per-group 200
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serve.cli.calls import ApiRequest
from training.demo.captions import Combination, combinations, held_out, opposite, seen
from training.demo.videos import render_video, shuffled, write_video
from training.evaluation.score_intervals import share_interval

SIZES = (160, 240, 320)  # pixels: shorter side of the files
PARTS = 8  # pieces of a shuffled video


class ServerLogits:
    """Requests the logits of all labels of the demo vocabulary from a running server."""

    def __init__(self, address: str) -> None:
        self._url = f"{address}/v1/classify"
        self._labels = [item.label for item in combinations()]
        self._folder = tempfile.TemporaryDirectory()

    def logits(self, frames: Sequence[Any], *, fps: int) -> np.ndarray:
        """Return logits [K] of a video, in the order of `combinations()`.

        Raises:
            ActserveError: there is no answer, or the answer is a problem.
        """
        path = Path(self._folder.name) / "clip.mp4"
        write_video(path, frames, fps=fps)
        options = {"candidate_labels": self._labels, "top_k": len(self._labels)}
        call = ApiRequest(
            method="POST", url=self._url, files=[("video", path)], fields={"options": json.dumps(options)}
        )
        found = {item["label"]: item["logit"] for item in call.answer("results")["results"]}
        return np.array([found[label] for label in self._labels])

    def close(self) -> None:
        """Remove the temporary folder."""
        self._folder.cleanup()


def prove(address: str, *, per_group: int, seed: int) -> dict[str, Any]:
    """Evaluate, print a table by activity and a JSON line; return the figures."""
    server = ServerLogits(address)
    try:
        figures, by_activity = measure(server, per_group=per_group, seed=seed)
    finally:
        server.close()
    print(f"{'activity':<32}{'videos':>8}{'top-1':>8}   95 % interval")
    for activity, hits in sorted(by_activity.items()):
        low, high = share_interval(np.array(hits))
        print(f"{activity:<32}{len(hits):>8}{np.mean(hits):>8.2f}   {low:.2f} to {high:.2f}")
    print(json.dumps(figures), flush=True)
    return figures


def measure(server: ServerLogits, *, per_group: int, seed: int) -> tuple[dict[str, Any], dict[str, list[bool]]]:
    """Return (figures, activity -> hits); each figure is a share of videos.

    seen, held_out: top-1 over the whole vocabulary. action: among labels that differ only in the action, over both
    groups. order: between labels with the same pictures in opposite order, by direction (left and right) and by pair
    (sitting down and standing up), each also with the pieces of the video shuffled. permuted: top-1 with permuted label
    texts.
    """
    order = {item: k for k, item in enumerate(combinations())}
    exchanged = np.random.default_rng(0).permutation(len(order))
    hits: dict[str, list[bool]] = defaultdict(list)
    by_activity: dict[str, list[bool]] = defaultdict(list)
    for part, group in (("seen", seen()), ("held_out", tuple(sorted(held_out())))):
        for n, shown in enumerate(drawn(group, per_group, seed=seed)):
            number = seed + n + (0 if part == "seen" else 500_000)
            video = render_video(shown, "test", number, size=SIZES[n % len(SIZES)])
            logits = server.logits(video.frames, fps=video.fps)
            is_right = int(logits.argmax()) == order[shown]
            hits[part].append(is_right)
            by_activity[shown.activity].append(is_right)
            hits["permuted"].append(int(exchanged[logits.argmax()]) == order[shown])
            rivals = [order[item] for item in _other_actions(shown)]
            hits["action"].append(max(rivals, key=lambda k: float(logits[k])) == order[shown])
            if partner := opposite(shown):
                mixed = server.logits(shuffled(video.frames, parts=PARTS, seed=number), fps=video.fps)
                kind = "direction" if shown.direction else "pair"
                for name, scores in ((kind, logits), (f"{kind}_shuffled", mixed)):
                    hits[name].append(bool(scores[order[shown]] > scores[order[partner]]))
    figures: dict[str, Any] = {name: round(float(np.mean(values)), 4) for name, values in hits.items()}
    figures["intervals"] = {
        name: [round(edge, 4) for edge in share_interval(np.array(values))] for name, values in hits.items()
    }
    figures["counts"] = {name: len(values) for name, values in hits.items()}
    figures["videos"] = len(hits["seen"]) + len(hits["held_out"])
    figures["order"] = round(float(np.mean(hits["direction"] + hits["pair"])), 4)
    figures["direction_videos"] = len(hits["direction"])
    figures["pair_videos"] = len(hits["pair"])
    figures["chance"] = round(1 / len(order), 4)
    return figures, by_activity


def drawn(group: Sequence[Combination], count: int, *, seed: int) -> list[Combination]:
    """Sample `count` combinations of a group without replacement, repeatedly if the group is smaller."""
    random = np.random.default_rng(seed)
    rounds = [random.permutation(len(group)) for _ in range(-(-count // len(group)))]
    return [group[index] for index in np.concatenate(rounds)[:count].tolist()]


def _other_actions(shown: Combination) -> list[Combination]:
    """Return labels that differ from `shown` at most in the action."""
    return [item for item in combinations() if (item.colour, item.direction) == (shown.colour, shown.direction)]
