"""The promotion gate: test on labelled clips whether a candidate is at least as good as the active version.

Both versions classify the same clips, so their hits are paired: Tango's score interval of the difference in top-1 is
valid for small samples too. A candidate whose interval reaches below the margin is refused. A list with fewer
independent clips than the margin needs is refused as well; copies and parts of one video count once.
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
from serve.independence import independence, independent_groups
from serve.lists.errors import AnnotationError
from serve.scoring import reduce_logits
from serve.served_model import ServedModel
from serve.video.limits import DecodeSettings
from serve.video.view_request import ViewRequest
from training.data.decoding.process import DecodeProcess
from training.data.lists.labels import entries_of, index_labels
from training.data.lists.listing import read_listing, rows_of_part
from training.data.lists.rows import ListOptions
from training.evaluation.score_intervals import fewest_pairs, non_inferiority_power, paired_share_interval


class PromotionRefused(ExportError):
    """The candidate may be worse by more than the margin; nothing was activated."""


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """A video and the index of its label."""

    path: Path
    label: int
    group: str = ""  # the group its list declares


@dataclass(frozen=True, kw_only=True)
class PromotionDecision:
    """The compared figures and the decision; one line of the record."""

    candidate: str
    active: str
    num_clips: int
    num_independent: int  # groups of clips that do not depend on each other
    num_needed: int  # independent clips that the margin needs
    num_labels: int
    num_gained: int  # clips that the candidate alone got right
    num_lost: int  # clips that the active version alone got right
    candidate_top1: float
    active_top1: float
    difference: float
    interval: tuple[float, float]  # 95 %, of the difference
    margin: float
    power: float  # probability that this list promotes a candidate that is as good as the active version
    is_promoted: bool
    decided_at: str


def read_clips(index: Path) -> tuple[list[LabelledClip], tuple[str, ...]]:
    """Return the clips and the vocabulary of a table of labelled videos.

    Raises:
        ExportInputError: the table is not understood, a file is missing, or there are fewer than two clips or labels.
    """
    try:
        listing = read_listing(index, ListOptions(kind="csv"))
        rows = rows_of_part(listing, "", option="a list of its own")
        names = index_labels(rows, listing).names
        entries = entries_of(rows, names)
    except AnnotationError as error:
        raise ExportInputError(str(error)) from error
    if absent := [entry.path for entry in entries if not entry.path.is_file()]:
        raise ExportInputError(f"{index}: the file {absent[0]} does not exist ({len(absent)} missing)")
    if len(entries) < 2 or len(names) < 2:
        raise ExportInputError(f"{index}: {len(entries)} clips of {len(names)} labels, at least 2 of each are needed")
    return [LabelledClip(path=entry.path, label=entry.label, group=entry.group) for entry in entries], names


def require_enough(clips: Sequence[LabelledClip], margin: float) -> Int64Array:
    """Return the groups of the clips [n]; refuse a list that is too small before anything is computed.

    Raises:
        PromotionRefused: there are too few independent clips for the margin.
        ExportError: no number of clips can show the margin, or a file cannot be read.
    """
    if not 0 < margin <= 1:
        raise ExportError(f"margin: above 0 to 1 is needed, found {margin:g}: no list shows a difference of 0")
    groups = _groups(clips)
    found, needed = independence(groups).num_independent, fewest_pairs(margin)
    if found < needed:
        raise PromotionRefused(
            f"{len(clips)} clips, {found} of them independent: a margin of {margin:g} needs at least {needed}: with "
            "fewer, even two versions that agree on every clip might differ by more; add clips or widen --margin"
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
    """Evaluate both versions on the clips and decide.

    Raises:
        PromotionRefused: there are too few independent clips for the margin.
        ActserveError: a clip cannot be decoded, or a prompt is too long; the gate never decides on part of a list.
    """
    groups = require_enough(clips, margin)
    hits, hits_before = (evaluate(repository, contract, clips, labels) for contract in (candidate, active))
    names = _reference(candidate), _reference(active)
    return decide(hits, hits_before, groups, margin=margin, names=names, labels=labels)


def decide(
    candidate: NDArray[np.bool_],
    active: NDArray[np.bool_],
    groups: Int64Array,
    *,
    margin: float,
    names: tuple[str, str],
    labels: Sequence[str],
) -> PromotionDecision:
    """Return the decision from the hits [n] of both versions and the groups [n] of the clips."""
    difference, interval = paired_share_interval(candidate, active, groups)
    independent, needed = independence(groups).num_independent, fewest_pairs(margin)
    gained, lost = int((candidate & ~active).sum()), int((active & ~candidate).sum())
    discordant = (gained + lost + 1) / (
        len(candidate) + 2
    )  # add-one estimate: models that agree on these clips may differ on others
    return PromotionDecision(
        candidate=names[0],
        active=names[1],
        num_clips=len(candidate),
        num_independent=independent,
        num_needed=needed,
        num_labels=len(labels),
        num_gained=gained,
        num_lost=lost,
        candidate_top1=float(candidate.mean()),
        active_top1=float(active.mean()),
        difference=difference,
        interval=interval,
        margin=margin,
        power=non_inferiority_power(independent, discordant, margin),
        is_promoted=independent >= needed and interval[0] >= -margin,
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _groups(clips: Sequence[LabelledClip]) -> Int64Array:
    """Which clips depend on each other, by content, by name and by the groups of their list.

    Raises:
        ExportError: a file cannot be read.
    """
    try:
        digests = [file_sha256(clip.path) for clip in clips]
    except OSError as error:
        raise ExportError(f"{error.filename} cannot be read: {error.strerror}") from error
    return independent_groups(
        names=[clip.path.name for clip in clips], digests=digests, declared=[clip.group for clip in clips]
    )


def record(decision: PromotionDecision, path: Path) -> None:
    """Append the decision to a file of JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(decision)) + "\n")


def evaluate(
    repository: Path, contract: ModelContract, clips: Sequence[LabelledClip], labels: Sequence[str]
) -> NDArray[np.bool_]:
    """Return whether each clip's best label is correct [n], as a server answers with one view."""
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
