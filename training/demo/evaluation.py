"""Evaluate the demo model through a server, on MP4 files with seeds, textures and bodies that training did not use.

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
from training.demo.videos import render_video, shuffle_pieces, write_video
from training.evaluation.score_intervals import accuracy_figures, accuracy_interval

SHORT_SIDES = (160, 240, 320)  # pixels, shorter side of the videos
NUM_PIECES = 8  # pieces into which a video is cut to shuffle it


class ServerLogits:
    """Requests the logits of all labels of the demo vocabulary from a running server."""

    def __init__(self, address: str) -> None:
        self._url = f"{address}/v1/classify"
        self._labels = [item.label for item in combinations()]
        self._folder = tempfile.TemporaryDirectory()

    def logits(self, frames: Sequence[Any], *, fps: int) -> np.ndarray:
        """Return the logits [K] of a video, in the order of `combinations()`.

        Raises:
            ActserveError: the server cannot be reached or responds with a problem.
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
        """Delete the temporary folder."""
        self._folder.cleanup()


def evaluate(address: str, *, per_group: int, seed: int, activities: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate the model; print a table by activity and one JSON line, and return the figures.

    Raises:
        ConfigError: an activity is not in the demo vocabulary.
    """
    groups = select_groups(activities)
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


def select_groups(activities: Sequence[str] = ()) -> dict[str, list[Combination]]:
    """Return the combinations of the groups `seen` and `held_out`, only of the given activities if there are any.

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
    """Return (figures, hits by activity); every figure is a fraction of videos.

    `seen` and `held_out` are top-1 over the whole vocabulary. `action` is top-1 among labels that differ only in the
    action, over both groups. `order` compares a label with the label of the reversed video; it combines `direction`
    (left and right) and `pair` (e.g. sitting down and standing up), which are also measured with shuffled pieces.
    `permuted` is top-1 with the labels randomly permuted.
    """
    index_of = {item: k for k, item in enumerate(combinations())}
    permutation = np.random.default_rng(0).permutation(len(index_of))
    hits: dict[str, list[bool]] = defaultdict(list)
    by_activity: dict[str, list[bool]] = defaultdict(list)
    for part, group in groups.items():
        for n, shown in enumerate(draw_combinations(group, per_group, seed=seed)):
            number = seed + n + (0 if part == "seen" else 500_000)
            video = render_video(shown, "test", number, size=SHORT_SIDES[n % len(SHORT_SIDES)])
            logits = server.logits(video.frames, fps=video.fps)
            is_correct = int(logits.argmax()) == index_of[shown]
            hits[part].append(is_correct)
            by_activity[shown.activity].append(is_correct)
            hits["permuted"].append(int(permutation[logits.argmax()]) == index_of[shown])
            candidates = [index_of[item] for item in _same_colour_and_direction(shown)]
            hits["action"].append(max(candidates, key=lambda k: float(logits[k])) == index_of[shown])
            if partner := opposite(shown):
                pieces = shuffle_pieces(video.frames, num_pieces=NUM_PIECES, seed=number)
                shuffled_logits = server.logits(pieces, fps=video.fps)
                kind = "direction" if shown.direction else "pair"
                for name, scores in ((kind, logits), (f"{kind}_shuffled", shuffled_logits)):
                    hits[name].append(bool(scores[index_of[shown]] > scores[index_of[partner]]))
    figures = accuracy_figures(hits)
    figures["videos"] = len(hits["seen"]) + len(hits["held_out"])
    in_order = hits["direction"] + hits["pair"]
    figures["order"] = round(float(np.mean(in_order)), 4) if in_order else None
    figures["direction_videos"] = len(hits["direction"])
    figures["pair_videos"] = len(hits["pair"])
    figures["chance"] = round(1 / len(index_of), 4)
    return figures, by_activity


def draw_combinations(group: Sequence[Combination], count: int, *, seed: int) -> list[Combination]:
    """Draw `count` combinations of a group without replacement; if `count` is larger, repeat the group."""
    random = np.random.default_rng(seed)
    rounds = [random.permutation(len(group)) for _ in range(-(-count // len(group)))]
    return [group[index] for index in np.concatenate(rounds)[:count].tolist()]


def _same_colour_and_direction(shown: Combination) -> list[Combination]:
    """Return the combinations that differ from `shown` at most in the action, including `shown`."""
    return [item for item in combinations() if (item.colour, item.direction) == (shown.colour, shown.direction)]
