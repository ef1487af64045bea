"""Every published share stands with its number of clips and the interval that follows from them."""

import re

import numpy as np
import pytest

from serve.repository import find_contract
from tests.running_server import ROOT
from training.demo.card import demo_card
from training.evaluation.score_intervals import accuracy_figures, wilson_interval

PAGES = (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "training" / "EXPERIMENTS.md")
# 0.950 of 200 (0.91 to 0.97), 0.99 of 102 travelling videos (0.95 to 1.00), 0.63 of 30 videos, 0.46 to 0.78
SHARE = re.compile(
    r"(?<![\d.])(?P<share>[01]\.\d+) of (?P<count>\d+)(?: [a-z]+){0,2},? \(?(?P<low>[01]\.\d+) to (?P<high>[01]\.\d+)"
)
COUNT = re.compile(
    r"(?<![\d.])(?P<hits>\d+) of (?P<count>\d+)(?: clips)? \((?P<low>[01]\.\d+) to (?P<high>[01]\.\d+)\)"
)
HITS = re.compile(
    r"(?<![\d.])\(?(?P<hits>\d+)\)? \[(?P<low>[01]\.\d+), (?P<high>[01]\.\d+)\]"
)  # of 42 clips or 6 pairs


def decimals(text: str) -> int:
    return len(text.partition(".")[2])


def agrees(share: float, count: int, low: str, high: str, *, half_digit: float = 0.0) -> bool:
    """Whether an interval is Wilson's of some number of hits that rounds to the share."""
    for hits in range(count + 1):
        if abs(hits / count - share) > half_digit + 1e-9:
            continue
        found = wilson_interval(hits / count, count)
        if (round(found.low, decimals(low)), round(found.high, decimals(high))) == (float(low), float(high)):
            return True
    return False


CARDS = {name: find_contract(ROOT / "model_repository", name).card for name in ("demo", "starter")}
TEXTS = {**{page.name: page.read_text(encoding="utf-8") for page in PAGES}, **CARDS}


@pytest.mark.parametrize("name", TEXTS)
def test_intervals_follow_from_the_shares_and_counts(name: str) -> None:
    text = TEXTS[name]
    for found in SHARE.finditer(text):
        half_digit = 0.5 / 10 ** decimals(found["share"])
        share, count = float(found["share"]), int(found["count"])
        assert agrees(share, count, found["low"], found["high"], half_digit=half_digit), found[0]
    for found in COUNT.finditer(text):
        share, count = int(found["hits"]) / int(found["count"]), int(found["count"])
        assert agrees(share, count, found["low"], found["high"]), found[0]


def test_intervals_of_the_starter_tables_are_those_of_their_clips() -> None:
    text = (ROOT / "training" / "EXPERIMENTS.md").read_text(encoding="utf-8")
    section = text[text.index("## The bundled starter model") : text.index("## Which models see the order")]
    lines = [line for line in section.splitlines() if HITS.search(line)]
    assert len(lines) > 20
    for line in lines:
        count = 6 if line.startswith("| another clip of the label") else 42
        for found in HITS.finditer(line):
            assert agrees(int(found["hits"]) / count, count, found["low"], found["high"]), line


def test_the_demo_card_is_that_of_its_last_evaluation_and_has_intervals() -> None:
    contract = find_contract(ROOT / "model_repository", "demo")
    last = contract.provenance["history"][-1]
    counts = {"seen": 96, "held_out": 96, "order": 52, "order_shuffled": 52}  # as measured at each evaluation
    hits = {name: np.arange(count) < round(last[name] * count) for name, count in counts.items()}
    figures = accuracy_figures(hits)
    assert {name: figures[name] for name in counts} == {name: last[name] for name in counts}
    seconds, clips = contract.provenance["train_seconds"], contract.provenance["clips"]
    assert contract.card == demo_card([figures], seconds=seconds, clips=clips, is_last_round=True)
    assert len(SHARE.findall(contract.card)) == 4


def test_a_wrong_interval_is_found() -> None:
    assert agrees(0.95, 200, "0.91", "0.97", half_digit=0.0005)
    assert not agrees(0.95, 200, "0.93", "0.97", half_digit=0.0005)
    assert not agrees(0.95, 40, "0.91", "0.97", half_digit=0.0005)
