"""The promotion gate: is a candidate at least as good as the version that answers, on clips with labels?

Both versions see the same clips, so their hits are compared in pairs, by Tango's score interval of the difference in
top-1, which holds for small numbers too. A candidate whose interval reaches below the margin is refused. So is a list
with fewer independent clips than the margin needs: copies and pieces of one video count once.
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
from serve.video.views import ViewRequest
from training.data.decoding.process import DecodeProcess
from training.data.lists.labels import entries_of, numbered
from training.data.lists.listing import read_listing, rows_of_part
from training.data.lists.rows import ListOptions
from training.evaluation.score_intervals import fewest_pairs, non_inferiority_power, paired_share_interval


class PromotionRefused(ExportError):
    """The candidate may be worse by more than the margin; nothing was activated."""


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """A video and the place of its label."""

    path: Path
    label: int
    group: str = ""  # the group its list declares


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What was compared and what came of it; one line of the record."""

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
    power: float  # chance that a candidate as good as the active version is promoted by such a list
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
    return [LabelledClip(path=entry.path, label=entry.label, group=entry.group) for entry in entries], names


def require_enough(clips: Sequence[LabelledClip], margin: float) -> Int64Array:
    """Groups of the clips [n]; a list that cannot decide is refused before anything is computed.

    Raises:
        PromotionRefused: there are too few independent clips for the margin.
        ExportError: the margin cannot be shown with any number of clips, or a file cannot be read.
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
) -> Decision:
    """Evaluate both versions on the clips and decide.

    Raises:
        PromotionRefused: there are too few independent clips for the margin.
        ActserveError: a clip cannot be decoded, or a prompt is too long; a gate decides on whole lists alone.
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
) -> Decision:
    """The decision from the hits [n] of both versions on clips of groups [n]."""
    difference, interval = paired_share_interval(candidate, active, groups)
    independent, needed = independence(groups).num_independent, fewest_pairs(margin)
    gained, lost = int((candidate & ~active).sum()), int((active & ~candidate).sum())
    discordant = (gained + lost + 1) / (len(candidate) + 2)  # models that agreed on every clip may differ on others
    return Decision(
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
