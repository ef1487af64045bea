"""The demo model's proof, through a server, on encoded MP4 files of seeds, textures and bodies training never used.

python -m training demo-proof --server http://127.0.0.1:8080 --per-group 200
python -m training demo-proof --per-group 120 --activity "waving in" --activity "waving off"
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serve.cli.calls import ApiRequest
from training.config import ConfigError
from training.demo.captions import Combination, combinations, held_out, opposite, seen
from training.demo.videos import render_video, shuffled, write_video
from training.evaluation.score_intervals import accuracy_figures, accuracy_interval

SIZES = (160, 240, 320)  # shorter side of the files, pixels
PARTS = 8  # pieces of a shuffled video


class ServerLogits:
    """Asks a running server for the logit of every label of the demo vocabulary."""

    def __init__(self, address: str) -> None:
        self._url = f"{address}/v1/classify"
        self._labels = [item.label for item in combinations()]
        self._folder = tempfile.TemporaryDirectory()

    def logits(self, frames: Sequence[Any], *, fps: int) -> np.ndarray:
        """Logits [K] of a video, in the order of `combinations()`.

        Raises:
            ActserveError: the server does not answer, or with a problem.
        """
        path = Path(self._folder.name) / "clip.mp4"
        write_video(path, frames, fps=fps)
        options = {"candidate_labels": self._labels, "top_k": len(self._labels)}
        call = ApiRequest(
            method="POST", url=self._url, files=[("video", path)], fields={"options": json.dumps(options)}
        )
        found = {item["label"]: item["logit"] for item in call.send_for_json("results")["results"]}
        return np.array([found[label] for label in self._labels])

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


def prove(address: str, *, per_group: int, seed: int, activities: Sequence[str] = ()) -> dict[str, Any]:
    """Measure, print a table by activity and one JSON line; returns the figures.

    Raises:
        ConfigError: an activity is not in the demo vocabulary.
    """
    groups = groups_of(activities)
    server = ServerLogits(address)
    try:
        figures, by_activity = measure(server, groups, per_group=per_group, seed=seed)
    finally:
        server.close()
    print(f"{'activity':<32}{'videos':>8}{'top-1':>8}   95 % interval")
    for activity, hits in sorted(by_activity.items()):
        low, high = accuracy_interval(np.array(hits))
        print(f"{activity:<32}{len(hits):>8}{np.mean(hits):>8.2f}   {low:.2f} to {high:.2f}")
    print(json.dumps(figures), flush=True)
    return figures


def groups_of(activities: Sequence[str] = ()) -> dict[str, list[Combination]]:
    """Combinations of `seen` and `held_out`, of some activities or of all.

    Raises:
        ConfigError: an activity is not in the demo vocabulary.
    """
    known = {item.activity for item in combinations()}
    if unknown := sorted(set(activities) - known):
        raise ConfigError(f"--activity {unknown[0]}: not in the demo vocabulary, which has {', '.join(sorted(known))}")
    parts = {"seen": seen(), "held_out": sorted(held_out())}
    return {
        name: [item for item in part if not activities or item.activity in activities] for name, part in parts.items()
    }


def measure(
    server: ServerLogits, groups: Mapping[str, Sequence[Combination]], *, per_group: int, seed: int
) -> tuple[dict[str, Any], dict[str, list[bool]]]:
    """(figures, activity -> hits). Every figure is a share of videos.

    seen, held_out: top-1 over the whole vocabulary. action: among labels that differ only in the action, over both
    groups. order: between labels of the same pictures in opposite order, that is direction (left and right) and pair
    (sitting down and standing up), each also with the video's pieces shuffled. permuted: top-1 when the label texts
    are exchanged among each other.
    """
    order = {item: k for k, item in enumerate(combinations())}
    exchanged = np.random.default_rng(0).permutation(len(order))
    hits: dict[str, list[bool]] = defaultdict(list)
    by_activity: dict[str, list[bool]] = defaultdict(list)
    for part, group in groups.items():
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
    figures = accuracy_figures(hits)
    figures["videos"] = len(hits["seen"]) + len(hits["held_out"])
    in_order = hits["direction"] + hits["pair"]
    figures["order"] = round(float(np.mean(in_order)), 4) if in_order else None
    figures["direction_videos"] = len(hits["direction"])
    figures["pair_videos"] = len(hits["pair"])
    figures["chance"] = round(1 / len(order), 4)
    return figures, by_activity


def drawn(group: Sequence[Combination], count: int, *, seed: int) -> list[Combination]:
    """`count` combinations of a group, drawn without replacement; where there are more videos, every one again."""
    random = np.random.default_rng(seed)
    rounds = [random.permutation(len(group)) for _ in range(-(-count // len(group)))]
    return [group[index] for index in np.concatenate(rounds)[:count].tolist()]


def _other_actions(shown: Combination) -> list[Combination]:
    """Labels that differ from `shown` only in the action, itself included."""
    return [item for item in combinations() if (item.colour, item.direction) == (shown.colour, shown.direction)]
