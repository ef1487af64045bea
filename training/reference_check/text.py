"""Token ids against the original tokenizer's."""

import json
from pathlib import Path

from serve.contract import TextContract
from serve.errors import InvalidVocabulary
from serve.text.prompts import ACTIONCLIP_TEMPLATES, fill
from serve.text.tokenizer import Tokenizer, pad_rows
from training.demo.phrases import clip_tokenizer
from training.reference_check.report import Report

CHECKED = ("text/clip_token_ids.json", "text/actionclip_prompt_tokens.json")
TOO_LONG = [-1]  # stands for the error of a text that does not fit


def check(folder: Path, report: Report) -> None:
    """Compare every row of the folder's `text/`."""
    tokenizer = clip_tokenizer(TextContract(tokenizer="clip", context_length=77, dynamic_length=True, pad_id=0))
    path = folder / CHECKED[0]
    if path.is_file():
        document = json.loads(path.read_text(encoding="utf-8"))
        for row in document if isinstance(document, list) else document["rows"]:
            expected = TOO_LONG if row["ids"] is None else row["ids"]
            report.compare("text token ids", row["text"][:40], _ids(tokenizer, row["text"]), expected, tolerance=0)
    path = folder / CHECKED[1]
    if path.is_file():
        golden = json.loads(path.read_text(encoding="utf-8"))
        rows = [_ids(tokenizer, prompt) for prompt in fill(golden["classes"], ACTIONCLIP_TEMPLATES)]
        found, expected = pad_rows(rows, pad_id=0, length=77), pad_rows(golden["rows"], pad_id=0, length=77)
        report.compare("text actionclip prompts", "rows", found, expected, tolerance=0)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return tokenizer.encode_reference(text)
    except InvalidVocabulary:
        return TOO_LONG
