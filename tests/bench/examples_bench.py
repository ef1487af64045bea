"""Measure the gain of example clips, for actions with made-up names and with their real names.

python -m tests.bench.examples_bench
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from serve.engines.selection import candidates
from tests.bench.promises import Promise, settle, share_error
from tests.running_server import running_server
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

ACTIONS = (
    "waving one arm", "clapping", "doing jumping jacks", "squatting", "bowing", "kicking", "falling down",
    "throwing a ball", "lifting a box", "doing lunges",
)  # fmt: skip
WORDS = (
    "flumping",
    "gribbing",
    "zorping",
    "wuzzling",
    "blenking",
    "tavoring",
    "quimbing",
    "snarfing",
    "dretching",
    "plooming",
)
SHOTS = (0, 1, 2, 4, 8, 16)
TESTS = 12  # clips of each action


def main() -> None:
    """Print the table and one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        clips = _render(Path(folder))
        with (
            running_server(Path(folder) / "cache") as server,
            httpx.Client(base_url=server.address, timeout=300) as http,
        ):
            rows = [_row(http, clips, words, with_examples) for words, with_examples in (
                (WORDS, 10), (ACTIONS, 10), (WORDS, 5), (ACTIONS, 5), (WORDS, 1), (ACTIONS, 1),
            )]  # fmt: skip
            exchanged = dict(zip(clips, [*list(clips.values())[1:], next(iter(clips.values()))], strict=True))
            wrong = _row(http, clips, WORDS, 10, examples=exchanged)
    print(f"top-1 of {TESTS} clips of each of {len(ACTIONS)} actions, by examples of each label that has any")
    print(f"{'labels':<44}" + "".join(f"{count:>8}" for count in SHOTS))
    for row in rows:
        print(f"{row['labels']:<44}" + "".join(f"{value:8.3f}" for value in row["top1"]))
        print(
            f"{'  weight':<44}" + "".join("       -" if value is None else f"{value:8.1f}" for value in row["weight"])
        )
    names_only = [{**row, "top1": [row["top1"][0]] * len(SHOTS)} for row in rows]
    print(
        json.dumps(
            {
                "bench": "examples",
                "tests": TESTS * len(ACTIONS),
                "engines": candidates("auto")[0],
                "shots": SHOTS,
                "rows": rows,
            }
        )
    )
    settle(
        judged(rows), {"examples of the next label": judged([wrong]), "examples that are ignored": judged(names_only)}
    )


def judged(rows: Sequence[Mapping[str, Any]]) -> list[Promise]:
    """Return the promises: accuracy rises from 0 to 16 examples, and no number of examples reduces it beyond chance."""
    count = TESTS * len(ACTIONS)
    found = []
    for row in rows:
        steps = [after - before for before, after in pairwise(row["top1"])]
        found.append(
            Promise(words=f"{row['labels']}: largest loss by a step", found=min(steps), least=-share_error(count))
        )
        if row["labels"].startswith("new words"):
            share = row["with_examples"] / len(ACTIONS)
            found.append(
                Promise(
                    words=f"{row['labels']}: gain by 16 examples, of the share of labels",
                    found=(row["top1"][-1] - row["top1"][0]) / share,
                    least=0.5,
                )
            )
        else:
            found.append(
                Promise(
                    words=f"{row['labels']}: top-1 with 16",
                    found=row["top1"][-1],
                    least=row["top1"][0] - share_error(count),
                )
            )
    return found


def _render(folder: Path) -> dict[str, list[Path]]:
    """Render clips of each action: test clips, then examples, all with different seeds, bodies and backgrounds."""
    found: dict[str, list[Path]] = {}
    colours = ("red", "blue", "green", "yellow")
    for place, action in enumerate(ACTIONS):
        for number in range(TESTS + max(SHOTS)):
            path = folder / f"{place}-{number}.mp4"
            combination = Combination(action, None, colours[number % 4])
            video = render_video(combination, "test", 1000 + 100 * place + number, size=120)
            write_video(path, video.frames, fps=video.fps)
            found.setdefault(action, []).append(path)
    return found


def _row(
    http: httpx.Client,
    clips: dict[str, list[Path]],
    words: tuple[str, ...],
    with_examples: int,
    *,
    examples: Mapping[str, list[Path]] | None = None,
) -> dict[str, Any]:
    """Return accuracy and weight for each number of examples, given to all labels or only to the first ones."""
    name = f"bench-{words[0].replace(' ', '-')}-{with_examples}{'-exchanged' if examples else ''}"
    http.put(
        f"/v1/vocabularies/{name}", json={"labels": list(words)}, headers={"If-None-Match": "*"}
    ).raise_for_status()
    ids = [label["label_id"] for label in http.get(f"/v1/vocabularies/{name}").json()["labels"]]
    top1, weights, have = [], [], 0
    for shots in SHOTS:
        for label_id, paths in list(zip(ids, (examples or clips).values(), strict=True))[
            : with_examples if shots else 0
        ]:
            files = [("video", (path.name, path.read_bytes())) for path in paths[TESTS + have : TESTS + shots]]
            url = f"/v1/vocabularies/{name}/labels/{label_id}/examples"
            http.post(url, files=files, headers={"If-Match": "*"}).raise_for_status()
        have = shots
        answers = [_answer(http, name, path) for paths in clips.values() for path in paths[:TESTS]]
        right = [answer["results"][0]["label"] for answer in answers]
        wanted = [word for word in words for _ in range(TESTS)]
        top1.append(sum(a == b for a, b in zip(right, wanted, strict=True)) / len(wanted))
        weights.append(None if answers[0]["examples"] is None else answers[0]["examples"]["weight"])
    kind = "new words" if words is WORDS else "names text knows"
    return {
        "labels": f"{kind}, examples for {with_examples} of 10 labels",
        "with_examples": with_examples,
        "top1": top1,
        "weight": weights,
    }


def _answer(http: httpx.Client, name: str, path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data={"vocabulary": name, "top_k": 1})
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


if __name__ == "__main__":
    main()
