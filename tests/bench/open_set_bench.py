"""Check the error rate of "none of these": fit on one half of the clips, count on the other.

Known clips show one of ten actions; unknown ones show other actions, real scenes (if available) or noise. Runs once
through the server, then over many random halves of the same clips with the server's code.

python -m tests.bench.open_set_bench
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from serve.contract import ScoringContract
from serve.scoring import LogitScaling, Scores, reduce_logits
from serve.vocabularies import threshold_fit
from tests.bench.examples_bench import ACTIONS
from tests.bench.promises import Promise, settle, share_error
from tests.running_server import running_server
from tests.shared_data import VIDEOS
from training.demo.captions import Combination
from training.demo.videos import render_video, write_video

OTHERS = (
    "punching", "sitting down", "standing up", "raising both arms", "marching in place", "hopping in place", "drinking",
    "circling both arms", "swaying from side to side", "balancing on one leg", "dribbling a ball",
)  # fmt: skip
TRAVELLING = ("walking", "running", "crawling", "leaping")
OF_EACH, NOISES = 16, 40
RULES = ScoringContract(logit_scale=1.0, logit_bias=0.0, ensembling="mean_probability", view_rule="mean_probability")
Logits = np.ndarray
RATES, SPLITS = (0.05, 0.1, 0.2), 200


def main() -> None:
    """Print the table and one JSON line."""
    with tempfile.TemporaryDirectory() as folder:
        known, unknown = _known(Path(folder)), _unknown(Path(folder))
        with (
            running_server(Path(folder) / "cache") as server,
            httpx.Client(base_url=server.address, timeout=900) as http,
        ):
            http.put("/v1/vocabularies/bench", json={"labels": list(ACTIONS)}, headers={"If-None-Match": "*"})
            logits = np.stack([_logits(http, path) for path, _ in (*known, *unknown)])
            once = _through_server(http, known, unknown)
    labels = np.array([ACTIONS.index(action) for _, action in known] + [-1] * len(unknown))
    rows = [_halves(logits, labels, rate, per_label) for rate in RATES for per_label in (False, True)]
    print(f"{len(known)} known and {len(unknown)} unknown clips, half of each to fit, half to count")
    print(f"through the server, target 5 %: {once}")
    print(f"over {SPLITS} random halves:")
    print(" asked  thresholds  mean rate    mean interval  halves as predicted  known kept")
    for row in rows:
        print(
            f"{row['asked']:6.2f} {'by label' if row['per_label'] else 'one':>11} {row['mean_rate']:10.3f} "
            f"{row['mean_interval'][0]:8.3f} {row['mean_interval'][1]:7.3f} {row['as_predicted']:20.3f} "
            f"{row['known_accepted']:11.3f}"
        )
    print(json.dumps({"bench": "open_set", "through_server": once, "halves": rows}))
    noise = np.random.default_rng(3).normal(size=logits.shape).astype(np.float32)
    exposed = [_halves(noise, labels, rate, False) for rate in RATES]
    forgetful = [{**row, "as_predicted": row["as_predicted"] / 2} for row in rows]
    settle(
        judged(rows),
        {"logits of noise": judged(exposed), "thresholds without a valid prediction": judged(forgetful)},
    )


def judged(rows: Sequence[Mapping[str, Any]]) -> list[Promise]:
    """Return the promises.

    The mean rate is not a promise: for random halves it is correct for any logits, even noise. With noise, however,
    known clips are not kept.
    """
    return [
        promise
        for row in rows
        for promise in (
            Promise(
                words=f"{row['asked']:g} asked{', by label' if row['per_label'] else ''}: halves as predicted",
                found=row["as_predicted"],
                least=0.95 - share_error(SPLITS),
            ),
            Promise(
                words=f"{row['asked']:g} asked: known clips kept, less the share asked for",
                found=row["known_accepted"] - row["asked"],
                least=0.3,
            ),
        )
    ]


def _logits(http: httpx.Client, path: Path) -> Logits:
    """Return logits of all labels [K]."""
    options = {"vocabulary": "bench@1", "top_k": len(ACTIONS), "function_to_apply": "none"}
    with path.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data=options)
    response.raise_for_status()
    found = {item["label"]: item["logit"] for item in response.json()["results"]}
    return np.array([found[action] for action in ACTIONS], np.float32)


def _halves(logits: Logits, labels: np.ndarray, rate: float, per_label: bool) -> dict[str, Any]:
    """Fit on random halves, count on the others."""
    random, rates, intervals, kept, as_predicted = np.random.default_rng(1), [], [], [], 0
    for _ in range(SPLITS):
        order = random.permutation(len(labels))
        half = np.concatenate((order[labels[order] >= 0][::2], order[labels[order] < 0][::2]))
        rest = np.setdiff1d(order, half)

        def score(clip: int, scale: LogitScaling, half: np.ndarray = half) -> Scores:
            return reduce_logits(logits[half[clip]][None, None], RULES, function="softmax", scale=scale)

        known = labels[half].tolist()
        found = threshold_fit.fit(
            score, known, function="softmax", false_accept_rate=rate, per_label=per_label
        )  # the criterion that the server chooses
        assert found.threshold is not None
        least = np.array([found.label_thresholds.get(k, found.threshold) for k in range(len(ACTIONS))], np.float32)
        values = [reduce_logits(row[None, None], RULES, function="softmax", scale=found.scale) for row in logits[rest]]
        judged_by = [item.scores if found.criterion == "score" else item.logits for item in values]
        accepted = (np.stack(judged_by) >= least).any(axis=1)  # type: ignore[arg-type]
        new = accepted[labels[rest] < 0]
        low, high = _predicted(found.false_accepts, found.num_unknown_used, len(new))
        as_predicted += low <= int(new.sum()) <= high
        rates.append(float(new.mean()))
        intervals.append(found.false_accept_interval)
        kept.append(float(accepted[labels[rest] >= 0].mean()))
    return {
        "asked": rate, "per_label": per_label, "mean_rate": float(np.mean(rates)),
        "mean_interval": np.mean(intervals, axis=0).tolist(), "as_predicted": as_predicted / SPLITS,
        "known_accepted": float(np.mean(kept)),
    }  # fmt: skip


def _predicted(accepted: int, used: int, new: int) -> tuple[int, int]:
    """Return the central 95 % of accepted counts of `new` unknown clips, for a rate of the fit's beta."""
    random = np.random.default_rng(2)
    rates = random.beta(max(accepted, 1), used + 1 - max(accepted, 1), 20_000)
    low, high = np.quantile(random.binomial(new, rates), (0.025, 0.975))
    return int(low), int(high)


def _rendered(folder: Path, action: str, number: int) -> Path:
    path = folder / f"{action} {number}.mp4"
    direction = ("left", "right")[number % 2] if action in TRAVELLING else None
    colour = ("red", "blue", "green", "yellow")[number % 4]
    video = render_video(Combination(action, direction, colour), "test", 5000 + number, size=120)
    write_video(path, video.frames, fps=video.fps)
    return path


def _known(folder: Path) -> list[tuple[Path, str]]:
    return [(_rendered(folder, action, number), action) for number in range(OF_EACH) for action in ACTIONS]


def _unknown(folder: Path) -> list[tuple[Path, str]]:
    """Return (file, kind) with kinds spread evenly, so that both halves have the same kinds."""
    found = [
        (_rendered(folder, action, number), "action") for number in range(OF_EACH) for action in OTHERS + TRAVELLING
    ]
    found += [(_noise(folder, number), "noise") for number in range(NOISES)]
    if VIDEOS.is_dir():
        found += [(path, "real") for path in sorted(VIDEOS.iterdir()) if path.suffix != ".csv"]
    order = np.random.default_rng(0).permutation(len(found))
    return [found[place] for place in order]


def _noise(folder: Path, number: int) -> Path:
    """Render grain, drifting stripes, one colour, or randomly changing blocks."""
    random, path = np.random.default_rng(number), folder / f"noise {number}.mp4"
    rows, columns = np.mgrid[0:120, 0:160]
    colour = random.integers(0, 256, 3)

    def frame(time: int) -> np.ndarray:
        match number % 4:
            case 0:
                return random.integers(0, 256, (120, 160, 3))
            case 1:
                wave = np.sin((columns * random.random() + rows) / 9 + time / 2)
                return (127 + 120 * wave)[..., None] * colour / 255
            case 2:
                return np.broadcast_to(colour, (120, 160, 3))
        return random.integers(0, 256, (12, 16, 3)).repeat(10, 0).repeat(10, 1)

    write_video(path, [np.ascontiguousarray(frame(time).astype(np.uint8)) for time in range(24)], fps=12)
    return path


def _through_server(
    http: httpx.Client, known: list[tuple[Path, str]], unknown: list[tuple[Path, str]]
) -> dict[str, Any]:
    """Fit on every second clip, classify the others."""
    to_fit = [*known[::2], *((path, None) for path, _ in unknown[::2])]
    answer = http.post(
        "/v1/vocabularies/bench:calibrate",
        files=[("clip", (path.name, path.read_bytes())) for path, _ in to_fit],
        data={"labels": json.dumps([label for _, label in to_fit])},
        headers={"If-Match": "*"},
    )
    answer.raise_for_status()
    fit = answer.json()["acceptance"]["fitted"]
    accepted = [(kind, _is_accepted(http, path)) for path, kind in unknown[1::2]]
    kinds = sorted({kind for kind, _ in accepted})
    return {
        "measured": round(float(np.mean([is_accepted for _, is_accepted in accepted])), 3),
        "interval": [round(value, 3) for value in fit["false_accept_interval"]],
        "predicted_count": _predicted(answer.json()["calibration"]["false_accepts"], len(unknown[::2]), len(accepted)),
        "by_kind": {
            kind: [sum(a for k, a in accepted if k == kind), sum(k == kind for k, _ in accepted)] for kind in kinds
        },
        "known_accepted": round(float(np.mean([_is_accepted(http, path) for path, _ in known[1::2]])), 3),
        "criterion": answer.json()["acceptance"]["criterion"],
        "auroc": round(fit["auroc"], 4),
        "fpr_at_95_tpr": round(fit["fpr_at_95_tpr"], 4),
        "calibration_error": [round(fit[f"calibration_error_{when}"], 4) for when in ("before", "after")],
    }


def _counted(accepted: list[bool]) -> str:
    return f"{sum(accepted)} of {len(accepted)}"


def _is_accepted(http: httpx.Client, path: Path) -> bool:
    with path.open("rb") as stream:
        response = http.post("/v1/classify", files={"video": stream}, data={"vocabulary": "bench", "top_k": 1})
    response.raise_for_status()
    return not response.json()["none_of_these"]["rejected"]


if __name__ == "__main__":
    main()
