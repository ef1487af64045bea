"""The promotion gate: test on labelled clips that a candidate is not worse than the active version by a margin.

Both versions classify the same clips, so their hits are paired, and Tango's score interval of the difference in top-1
accuracy is valid for small samples too. A candidate is refused if the lower end of the interval is below -margin (a
non-inferiority test). A list with fewer independent clips than the margin requires is refused as well; copies and clips
from the same video count once.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError, ExportInputError
from serve.arrays import Int64Array
from serve.contract import ModelContract
from serve.files import file_sha256
from serve.independence import assign_groups, count_groups
from serve.lists.errors import AnnotationError
from serve.scoring import reduce_logits
from serve.served_model import ServedModel
from serve.video.limits import DecodeSettings
from serve.video.view_request import ViewRequest
from training.data.decoding.process import DecodeProcess
from training.data.lists.labels import entries_of, index_labels
from training.data.lists.listing import read_listing, rows_of_split
from training.data.lists.rows import ListOptions
from training.evaluation.score_intervals import (
    accuracy_difference_interval,
    min_independent_pairs,
    non_inferiority_power,
)


class PromotionRefused(ExportError):
    """The candidate may be worse by more than the margin; nothing was activated."""


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """A video and the index of its label."""

    path: Path
    label: int
    group: str = ""  # declared in the list; clips of one group are dependent


@dataclass(frozen=True, kw_only=True)
class PromotionDecision:
    """The decision with the metrics it is based on; one line of the record."""

    candidate: str
    active: str
    num_clips: int
    num_independent: int  # counting each group of dependent clips once
    num_needed: int  # minimum of `num_independent` that the margin requires
    num_labels: int
    num_gained: int  # clips that only the candidate classified correctly
    num_lost: int  # clips that only the active version classified correctly
    candidate_top1: float
    active_top1: float
    difference: float
    interval: tuple[float, float]  # 95 % interval of the difference
    margin: float
    power: float  # probability that this list promotes an equally good candidate
    is_promoted: bool
    decided_at: str


def read_clips(table: Path) -> tuple[list[LabelledClip], tuple[str, ...]]:
    """Read a table of labelled videos; return its clips and its class names.

    Raises:
        ExportInputError: the table cannot be parsed, a file is missing, or there are fewer than two clips or labels.
    """
    try:
        listing = read_listing(table, ListOptions(kind="csv"))
        rows = rows_of_split(listing, "", option="a list of its own")
        names = index_labels(rows, listing).names
        entries = entries_of(rows, names)
    except AnnotationError as error:
        raise ExportInputError(str(error)) from error
    if missing := [entry.path for entry in entries if not entry.path.is_file()]:
        raise ExportInputError(f"{table}: the file {missing[0]} does not exist ({len(missing)} missing)")
    if len(entries) < 2 or len(names) < 2:
        raise ExportInputError(
            f"{table}: at least 2 clips and 2 labels are required, got {len(entries)} clips with {len(names)} labels"
        )
    return [LabelledClip(path=entry.path, label=entry.label, group=entry.group) for entry in entries], names


def require_independent_groups(clips: Sequence[LabelledClip], margin: float) -> Int64Array:
    """Check that there are enough independent clips for the margin; return the group index of each clip [n].

    Raises:
        PromotionRefused: there are too few independent clips.
        ExportError: the margin is not in (0, 1], or a file cannot be read.
    """
    if not 0 < margin <= 1:
        raise ExportError(f"margin: must be greater than 0 and at most 1, got {margin:g}")
    groups = _group_indices(clips)
    num_independent, num_needed = count_groups(groups).num_independent, min_independent_pairs(margin)
    if num_independent < num_needed:
        raise PromotionRefused(
            f"{num_independent} of {len(clips)} clips are independent, but a margin of {margin:g} requires at least "
            f"{num_needed}; add clips or increase --margin"
        )
    return groups


def compare(
    repository: Path,
    candidate: ModelContract,
    active: ModelContract,
    *,
    clips: Sequence[LabelledClip],
    labels: Sequence[str],
    margin: float,
) -> PromotionDecision:
    """Evaluate both versions on the clips and decide whether the candidate is promoted.

    Raises:
        PromotionRefused: there are too few independent clips for the margin.
        ActserveError: a clip cannot be decoded, or a prompt is too long; all clips are required.
    """
    groups = require_independent_groups(clips, margin)
    candidate_hits, active_hits = (evaluate(repository, contract, clips, labels) for contract in (candidate, active))
    names = _reference(candidate), _reference(active)
    return decide(candidate_hits, active_hits, groups, margin=margin, names=names, labels=labels)


def decide(
    candidate_hits: NDArray[np.bool_],
    active_hits: NDArray[np.bool_],
    groups: Int64Array,
    *,
    margin: float,
    names: tuple[str, str],
    labels: Sequence[str],
) -> PromotionDecision:
    """Decide from the hits [n] of both versions and the group indices [n] of the clips."""
    difference, interval = accuracy_difference_interval(candidate_hits, active_hits, groups)
    num_independent, num_needed = count_groups(groups).num_independent, min_independent_pairs(margin)
    gained = int((candidate_hits & ~active_hits).sum())
    lost = int((active_hits & ~candidate_hits).sum())
    # add-one estimate, because models that agree on these clips may differ on others
    discordant = (gained + lost + 1) / (len(candidate_hits) + 2)
    return PromotionDecision(
        candidate=names[0],
        active=names[1],
        num_clips=len(candidate_hits),
        num_independent=num_independent,
        num_needed=num_needed,
        num_labels=len(labels),
        num_gained=gained,
        num_lost=lost,
        candidate_top1=float(candidate_hits.mean()),
        active_top1=float(active_hits.mean()),
        difference=difference,
        interval=interval,
        margin=margin,
        power=non_inferiority_power(num_independent, discordant, margin),
        is_promoted=num_independent >= num_needed and interval[0] >= -margin,
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _group_indices(clips: Sequence[LabelledClip]) -> Int64Array:
    """Return a group index per clip [n]; clips with equal content, source name or declared group share an index.

    Raises:
        ExportError: a file cannot be read.
    """
    try:
        digests = [file_sha256(clip.path) for clip in clips]
    except OSError as error:
        raise ExportError(f"cannot read {error.filename}: {error.strerror}") from error
    return assign_groups(
        names=[clip.path.name for clip in clips], digests=digests, declared=[clip.group for clip in clips]
    )


def record(decision: PromotionDecision, path: Path) -> None:
    """Append the decision as one line to a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(decision)) + "\n")


def evaluate(
    repository: Path, contract: ModelContract, clips: Sequence[LabelledClip], labels: Sequence[str]
) -> NDArray[np.bool_]:
    """Return whether the most probable label of each clip is correct [n]; scores are those of serving with one view."""
    model = ServedModel(repository, contract)
    bank = model.encode_bank(labels)
    request = ViewRequest(sampling=contract.sampling, preprocess=contract.preprocess, num_clips=1, num_crops=1)
    decoder, hits = DecodeProcess(DecodeSettings()), []
    try:
        for clip in clips:
            views, _ = decoder.views(clip.path, request)
            scores = reduce_logits(
                model.logits(model.encode_video(views), bank), contract.scoring, function=contract.scoring.activation
            )
            assert scores.scores is not None, "the activation is softmax or sigmoid, so there are scores"
            hits.append(int(scores.scores.argmax()) == clip.label)
    finally:
        decoder.close()
    return np.array(hits)


def _reference(contract: ModelContract) -> str:
    return f"{contract.name}@{contract.version}"
