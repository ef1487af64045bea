"""The promotion gate: is a candidate at least as good as the version that answers, on clips with labels?

Both versions see the same clips, so their hits are compared in pairs: the interval of the difference in top-1 comes of
drawing clips with replacement (paired bootstrap). A candidate whose interval reaches below the margin is refused.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from serve.contract import ModelContract
from serve.scoring import reduce_logits
from serve.served_model import ServedModel
from serve.video.limits import DecodeSettings
from serve.video.views import ViewRequest
from training.data.decoding.process import DecodeProcess
from training.evaluation.bootstrap import paired_bootstrap


class PromotionRefused(ExportError):
    """The candidate may be worse by more than the margin; nothing was activated."""


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """A video and the place of its label."""

    path: Path
    label: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was compared and what came of it; one line of the record."""

    candidate: str
    active: str
    num_clips: int
    num_labels: int
    candidate_top1: float
    active_top1: float
    difference: float
    interval: tuple[float, float]  # 95 %, of the difference
    margin: float
    is_promoted: bool
    decided_at: str


def read_clips(index: Path) -> tuple[list[LabelledClip], tuple[str, ...]]:
    """Clips and the vocabulary of a CSV with columns `file` (or `path`) and `label`; files are relative to it.

    Raises:
        ExportError: no such columns, an empty label, fewer than two clips or labels.
    """
    with index.open(newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        columns = rows.fieldnames or ()
        where = next((name for name in ("file", "path") if name in columns), None)
        if where is None or "label" not in columns:
            raise ExportError(f"{index}: columns file and label are needed, found {', '.join(columns)}")
        pairs = [(index.parent / row[where], (row["label"] or "").strip()) for row in rows]
    labels = tuple(dict.fromkeys(label for _, label in pairs))
    if "" in labels:
        raise ExportError(f"{index}: every clip needs a label")
    if len(pairs) < 2 or len(labels) < 2:
        raise ExportError(f"{index}: {len(pairs)} clips of {len(labels)} labels, at least 2 of each are needed")
    return [LabelledClip(path=path, label=labels.index(label)) for path, label in pairs], labels


def compare(
    repository: Path,
    candidate: ModelContract,
    active: ModelContract,
    *,
    clips: Sequence[LabelledClip],
    labels: Sequence[str],
    margin: float,
) -> Decision:
    """Evaluate both versions on the clips and decide.

    Raises:
        ActserveError: a clip cannot be decoded, or a prompt is too long; a gate decides on whole lists alone.
    """
    hits = [evaluate(repository, contract, clips, labels) for contract in (candidate, active)]
    difference, interval = paired_bootstrap(*hits)
    return Decision(
        candidate=_reference(candidate),
        active=_reference(active),
        num_clips=len(clips),
        num_labels=len(labels),
        candidate_top1=float(hits[0].mean()),
        active_top1=float(hits[1].mean()),
        difference=difference,
        interval=interval,
        margin=margin,
        is_promoted=interval[0] >= -margin,
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def record(decision: Decision, path: Path) -> None:
    """Add a decision to a file, one JSON line each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(decision)) + "\n")


def evaluate(
    repository: Path, contract: ModelContract, clips: Sequence[LabelledClip], labels: Sequence[str]
) -> NDArray[np.bool_]:
    """Whether each clip's best label is its own [n], as a server would answer with one view."""
    model = ServedModel(repository, contract)
    bank = model.bank(labels)
    request = ViewRequest(sampling=contract.sampling, preprocess=contract.preprocess, num_clips=1, num_crops=1)
    decoder, hits = DecodeProcess(DecodeSettings()), []
    try:
        for clip in clips:
            views, _ = decoder.views(clip.path, request)
            scores = reduce_logits(
                model.logits(model.video(views), bank), contract.scoring, function=contract.scoring.activation
            )
            assert scores.scores is not None, "an activation is softmax or sigmoid"
            hits.append(int(scores.scores.argmax()) == clip.label)
    finally:
        decoder.close()
    return np.array(hits)


def _reference(contract: ModelContract) -> str:
    return f"{contract.name}@{contract.version}"
