"""Token ids equal the original CLIP tokenizer's, which `tests/golden/text` holds."""

import json
from pathlib import Path

import pytest

from serve.contract import TextContract
from serve.errors import InvalidVocabulary
from serve.text.prompts import ACTIONCLIP_TEMPLATES, check_templates, clean_labels, fill
from serve.text.tokenizer import Tokenizer, load_tokenizer, pad_tokens

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden" / "text"
TEXT = TextContract(tokenizer="clip", context_length=77, dynamic_length=True, pad_id=0)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(ROOT / "model_repository" / "demo_text" / "1" / "tokenizer.json", TEXT)


def rows() -> list[dict]:  # type: ignore[type-arg]
    document = json.loads((GOLDEN / "clip_token_ids.json").read_text())
    return document if isinstance(document, list) else document["rows"]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["text"][:30])
def test_the_reference_encoding_equals_the_original(tokenizer: Tokenizer, row: dict) -> None:  # type: ignore[type-arg]
    if row["ids"] is None:
        with pytest.raises(InvalidVocabulary, match="tokens"):
            tokenizer.encode_reference(row["text"])
    else:
        assert tokenizer.encode_reference(row["text"]) == row["ids"]


def test_serving_differs_only_where_a_label_holds_special_tokens(tokenizer: Tokenizer) -> None:
    different = [row["text"] for row in rows() if row["ids"] and tokenizer.encode([row["text"]])[0] != row["ids"]]
    assert different == ["<|startoftext|> inline <|endoftext|>"]


def test_actionclip_s_prompts_are_template_major(tokenizer: Tokenizer) -> None:
    golden = json.loads((GOLDEN / "actionclip_prompt_tokens.json").read_text())
    labels = golden["classes"]
    encoded = tokenizer.encode(fill(labels, ACTIONCLIP_TEMPLATES))
    assert encoded == golden["rows"]


def test_padding_to_the_longest_row_or_a_length() -> None:
    assert pad_tokens([[1, 2], [3]], pad_id=0).tolist() == [[1, 2], [3, 0]]
    assert pad_tokens([[1]], pad_id=9, length=3).tolist() == [[1, 9, 9]]


@pytest.mark.parametrize(
    "labels",
    [[], [""], ["a", " a"], ["a\nb"], ["ﬁsh", "fish"]],
    ids=["none", "empty", "white space", "control", "ligature"],
)
def test_labels_that_read_the_same_are_refused(labels: list[str]) -> None:
    with pytest.raises(InvalidVocabulary):
        clean_labels(labels)


@pytest.mark.parametrize("templates", [[], ["a video"], ["{} and {}"]], ids=["none", "no place", "two places"])
def test_templates_need_one_place(templates: list[str]) -> None:
    with pytest.raises(InvalidVocabulary):
        check_templates(templates)
