"""Labels that one tokenizer merges, and another does not."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as TokenizerFile
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from serve.contract import TextContract
from serve.text.merged_labels import MergedLabelFinder, MergedLabels
from serve.text.normalization import normal_form
from serve.text.tokenizer import Tokenizer, load_tokenizer

ROOT = Path(__file__).resolve().parents[3]
LABELS = ["Running", "running", "100m", "100 m", "rÃ©sumé", "résumé", "跑步", "走路", "&nbsp;", "a dog"]


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    text = TextContract(tokenizer="clip", context_length=77, dynamic_length=True, pad_id=0)
    return load_tokenizer(ROOT / "model_repository" / "demo_text" / "1" / "tokenizer.json", text)


@pytest.fixture(scope="module")
def word_level() -> Tokenizer:
    """It keeps case and knows a few English words."""
    file = TokenizerFile(WordLevel({"[UNK]": 0, "Running": 1, "running": 2, "a": 3, "dog": 4}, unk_token="[UNK]"))
    file.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    text = TextContract(tokenizer="tokenizers", context_length=8, dynamic_length=True, pad_id=0)
    return Tokenizer(file, text)


def test_a_tokenizer_without_case_merges_labels_that_differ_in_it(clip: Tokenizer) -> None:
    found = MergedLabelFinder(clip).find(LABELS, "a video of {}")
    assert found == MergedLabels(groups=((0, 1), (2, 3), (4, 5)), empty=(8,))
    assert len(set(map(normal_form, LABELS))) == len(LABELS), "no write refuses them"


def test_a_tokenizer_that_does_not_know_a_script_merges_all_of_it(word_level: Tokenizer) -> None:
    assert MergedLabelFinder(word_level).find(["Running", "running", "跑步", "走路"], "{}").groups == ((2, 3),)


def test_what_is_found_does_not_depend_on_what_was_asked_before(clip: Tokenizer) -> None:
    finder = MergedLabelFinder(clip)
    for template in ("a video of {}", "{}"):
        for labels in (LABELS, LABELS[:3], [*LABELS[3:], "A dog"], LABELS):
            assert finder.find(labels, template) == MergedLabelFinder(clip).find(labels, template)


def test_labels_that_are_too_long_for_the_model_are_compared_too(clip: Tokenizer) -> None:
    long = "word " * 90
    assert MergedLabelFinder(clip).find([long, "x", long.upper()], "{}").groups == ((0, 2),)
