"""Compare token ids with those of CLIP's original tokenizer, and check the class lists of data sets."""

import csv
import json
import tempfile
from importlib import resources
from pathlib import Path

from serve.contract import TextContract
from serve.errors import InvalidVocabulary
from serve.text.prompts import ACTIONCLIP_TEMPLATES, fill
from serve.text.tokenizer import Tokenizer, pad_tokens
from training.data.lists.class_lists import read_class_names
from training.data.prompts import clip_tokenizer
from training.reference_check.report import ReferenceReport

TOO_LONG = [-1]  # stands for the tokens of a text that exceeds the context length


def check(folder: Path, report: ReferenceReport) -> None:
    """Compare all records in the subfolder `text/`."""
    tokenizer = clip_tokenizer(TextContract(tokenizer="clip", context_length=77, dynamic_length=True, pad_id=0))
    path = folder / "text" / "clip_token_ids.json"
    if report.mark_if_exists(path):
        document = json.loads(path.read_text(encoding="utf-8"))
        for row in document if isinstance(document, list) else document["rows"]:
            expected = TOO_LONG if row["ids"] is None else row["ids"]
            report.compare("text token ids", row["text"][:40], _encode(tokenizer, row["text"]), expected, tolerance=0)
    path = folder / "text" / "actionclip_prompt_tokens.json"
    if report.mark_if_exists(path):
        golden = json.loads(path.read_text(encoding="utf-8"))
        rows = [_encode(tokenizer, prompt) for prompt in fill(golden["classes"], ACTIONCLIP_TEMPLATES)]
        actual, expected = pad_tokens(rows, pad_id=0, length=77), pad_tokens(golden["rows"], pad_id=0, length=77)
        report.compare("text actionclip prompts", "rows", actual, expected, tolerance=0)
    path = folder / "text" / "label_sets.json"
    if report.mark_if_exists(path):
        for name, labels in json.loads(path.read_text(encoding="utf-8")).items():
            _check_labels(name, labels, tokenizer, report)


def _check_labels(name: str, labels: list[str], tokenizer: Tokenizer, report: ReferenceReport) -> None:
    """Check that a class list can be read from a CSV file, its prompts fit, and it equals the built-in list."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("id", "name"), *enumerate(labels)])
        report.compare("text label sets", f"{name}.csv", read_class_names(path) != labels, 0, tolerance=0)
    too_long = sum(_encode(tokenizer, prompt) == TOO_LONG for prompt in fill(labels, ACTIONCLIP_TEMPLATES))
    report.compare("text label sets", f"{name} prompts", too_long, 0, tolerance=0)
    built_in = resources.files("serve.vocabularies") / f"{name}.txt"
    if built_in.is_file():
        differs = built_in.read_text(encoding="utf-8").splitlines() != labels
        report.compare("text label sets", f"{name} built in", differs, 0, tolerance=0)


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    try:
        return tokenizer.encode_reference(text)
    except InvalidVocabulary:
        return TOO_LONG
