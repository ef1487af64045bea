"""The promotion gate: is a candidate at least as good as the version that answers, on clips with labels?

Both versions see the same clips, so their hits are compared in pairs: the interval of the difference in top-1 comes of
drawing clips with replacement (paired bootstrap). A candidate whose interval reaches below the margin is refused.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError, ExportInputError
from serve.contract import ModelContract
from serve.lists.errors import AnnotationError
from serve.scoring import reduce_logits
from serve.served_model import ServedModel
from serve.video.limits import DecodeSettings
from serve.video.views import ViewRequest
from training.data.decoding.process import DecodeProcess
from training.data.lists.labels import entries_of, numbered
from training.data.lists.listing import read_listing, rows_of_part
from training.data.lists.rows import ListOptions
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
    """Return the clips and the vocabulary of a table of labelled videos, by the grammar of all lists.

    Raises:
        ExportInputError: the table is not understood, a file is missing, or there are fewer than two clips or labels.
    """
    try:
        listing = read_listing(index, ListOptions(kind="csv"))
        rows = rows_of_part(listing, "", option="a list of its own")
        names = numbered(rows, listing).names
        entries = entries_of(rows, names)
    except AnnotationError as error:
        raise ExportInputError(str(error)) from error
    if absent := [entry.path for entry in entries if not entry.path.is_file()]:
        raise ExportInputError(f"{index}: there is no file {absent[0]} ({len(absent)} absent)")
    if len(entries) < 2 or len(names) < 2:
        raise ExportInputError(f"{index}: {len(entries)} clips of {len(names)} labels, at least 2 of each are needed")
    return [LabelledClip(path=entry.path, label=entry.label) for entry in entries], names


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
