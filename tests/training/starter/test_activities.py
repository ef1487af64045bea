"""The table of activities, and the card made of recorded figures."""

import json

import pytest
import torch

from training.starter import tower_weights
from training.starter.card import FIGURES, format_card, make_card
from training.starter.source_data import ClassText, SourceError, read_imagenet_classes
from training.starter.tower_weights import activity_weights
from training.starter.words import activity_objects, evaluation_labels, everyday_labels


def test_activities_name_objects_that_the_image_network_knows() -> None:
    shares = activity_weights(read_imagenet_classes())
    assert shares.shape == (1000, len(activity_objects()))
    assert torch.all(shares.sum(dim=0) > 0)  # every activity has an object
    sums = shares.sum(dim=1)
    assert torch.allclose(sums[sums > 0], torch.ones(()))  # a few sums of fractions, to rounding in float32


def test_no_activity_is_a_label_of_the_evaluation() -> None:
    assert not {name.casefold() for name, _ in activity_objects()} & {
        label.casefold() for label in evaluation_labels()["en"]
    }


def test_an_unknown_object_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tower_weights, "activity_objects", lambda: (("cooking", ("wok", "samovar")),))
    with pytest.raises(SourceError, match="'samovar', which is not a class"):
        activity_weights([ClassText(lemmas=("wok", "frying pan"), definition="")])


def test_evaluated_labels_are_in_the_default_vocabulary() -> None:
    assert set(evaluation_labels()["en"]) <= set(everyday_labels())
    assert len(set(everyday_labels())) == len(everyday_labels())
    assert {len(labels) for labels in evaluation_labels().values()} == {52}


def test_the_notice_has_two_sentences_with_the_recorded_figures() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    notice = " ".join(make_card().split("\n\n")[0].split())
    assert notice.count(". ") == 1
    english = figures["languages"]["en"]
    assert f"right for {english['top1_hits']} of {figures['clips']} real clips" in notice
    assert f"first five for {english['top5_hits']}" in notice
    assert make_card() == format_card(figures)
