"""Read and write vocabularies as JSON, CSV, or plain text in the format of label lists (`serve.text.label_lists`).

CSV files have the columns `name,synonyms,negatives`; phrases in a cell are separated by `|`, and other columns are
rejected. The delimiter is a semicolon, tab or full-width comma if the header line contains one, otherwise a comma. Data
sets write class names in various ways (`ApplyEyeMakeup`, `brush_hair`); on request `split_name` splits them into words.
"""

import csv
import io
import json
import re

from serve.errors import InvalidVocabulary, UnsupportedMedia
from serve.json_models import read_model
from serve.lists.errors import AnnotationError
from serve.lists.spreadsheets import escape_formula, unescape_formula
from serve.lists.tables import read_table
from serve.lists.text import TextFile, decode_text
from serve.text import label_lists
from serve.unicode_text import describe_text_fault
from serve.vocabularies.changes import LabelInput, VocabularyInput
from serve.vocabularies.vocabulary import Vocabulary

MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "txt": "text/plain"}
COLUMNS = frozenset({"name", "synonyms", "negatives"})
WORD_EDGES = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")


def parse(body: bytes, media_type: str, *, split_names: bool = False) -> VocabularyInput:
    """Read a vocabulary from a request body.

    Raises:
        UnsupportedMedia: the media type is not one of `MEDIA_TYPES`.
        InvalidVocabulary: the body is not text, or is not valid in this format; the message states the position.
    """
    format_name = next((key for key, value in MEDIA_TYPES.items() if value == media_type), None)
    if format_name is None:
        raise UnsupportedMedia(
            f"the media type is {media_type!r}; a vocabulary has to be {', '.join(MEDIA_TYPES.values())}"
        )
    try:
        text = decode_text(body, "the text").text
    except AnnotationError as error:
        raise InvalidVocabulary(str(error)) from error
    fault = describe_text_fault(text)
    if fault is not None:
        raise InvalidVocabulary(f"the text contains {fault}")
    document = {"json": _parse_json, "csv": _parse_csv, "txt": _parse_text}[format_name](text)
    return _split_names(document) if split_names else document


def write(vocabulary: Vocabulary, format_name: str) -> str:
    """Return a vocabulary as text; CSV contains only the phrases of labels, plain text only their names."""
    if format_name == "json":
        return json.dumps(vocabulary.content(), ensure_ascii=False, indent=1) + "\n"
    if format_name == "csv":
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("name", "synonyms", "negatives"))
        writer.writerows(
            [escape_formula(cell) for cell in (label.name, "|".join(label.synonyms), "|".join(label.negatives))]
            for label in vocabulary.labels
        )
        return stream.getvalue()
    return label_lists.write_document(vocabulary.label_names)


def split_name(name: str) -> str:
    """Split a class name into words: `ApplyEyeMakeup` -> `apply eye makeup`, `brush_hair` -> `brush hair`.

    Names with spaces are returned unchanged (`playing TV`), and words in capitals stay in capitals.
    """
    if " " in name.strip():
        return name.strip()
    words = [word for word in WORD_EDGES.split(name) if word]
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)


def _parse_json(text: str) -> VocabularyInput:
    return read_model(VocabularyInput, text, error_type=InvalidVocabulary)


def _parse_csv(text: str) -> VocabularyInput:
    labels: list[str | LabelInput] = []
    try:
        table = read_table(TextFile(name="the CSV", text=text, encoding="UTF-8"), COLUMNS, allow_short_rows=True)
    except AnnotationError as error:
        raise InvalidVocabulary(str(error)) from error
    if "name" not in table.columns:
        columns = ", ".join(filter(None, table.columns)) or "none"
        raise InvalidVocabulary(f"the CSV needs a column `name`, its columns are: {columns}")
    unknown = [f"`{column[:80]}`" for column in table.columns if column and column not in COLUMNS]
    if unknown:
        raise InvalidVocabulary(
            f"the CSV, line 1: unknown columns {', '.join(unknown[:10])}; a vocabulary has the columns name, synonyms "
            "and negatives, remove the others"
        )
    if any(row.cells.get("") for row in table.rows):
        raise InvalidVocabulary("the CSV, line 1: a column that contains text has no name")
    for row in table.rows:
        if not row.cells["name"]:
            raise InvalidVocabulary(f"{table.position(row)}: the name is missing")
        synonyms, negatives = (_split_phrases(row.cells.get(key)) for key in ("synonyms", "negatives"))
        labels.append(LabelInput(name=unescape_formula(row.cells["name"]), synonyms=synonyms, negatives=negatives))
    return VocabularyInput(labels=labels)


def _split_phrases(cell: str | None) -> list[str]:
    return [phrase.strip() for phrase in unescape_formula(cell or "").split("|") if phrase.strip()]


def _parse_text(text: str) -> VocabularyInput:
    try:
        return VocabularyInput(labels=list(label_lists.parse_document(text)))
    except label_lists.LabelListError as error:
        raise InvalidVocabulary(str(error)) from error


def _split_names(document: VocabularyInput) -> VocabularyInput:
    labels: list[str | LabelInput] = [
        split_name(item) if isinstance(item, str) else item.model_copy(update={"name": split_name(item.name)})
        for item in document.labels
    ]
    return document.model_copy(update={"labels": labels})
