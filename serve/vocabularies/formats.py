"""Vocabularies as files: JSON, CSV, and plain text by the grammar of label lists (`serve.text.label_lists`).

CSV has the columns `name,synonyms,negatives`, phrases separated by `|`; other columns are refused. Its delimiter is
the comma, or the semicolon, tab or full-width comma where the header line holds that one. Data sets write
class names in various ways (`ApplyEyeMakeup`, `brush_hair`): `split_name` splits them into words, on request only.
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
    """Read a vocabulary from a body of one of `MEDIA_TYPES`.

    Raises:
        UnsupportedMedia: the body has another type.
        InvalidVocabulary: it is not text, or does not have that format; states the place.
    """
    kind = next((kind for kind, known in MEDIA_TYPES.items() if known == media_type), None)
    if kind is None:
        raise UnsupportedMedia(
            f"the media type is {media_type!r}; a vocabulary has to be {', '.join(MEDIA_TYPES.values())}"
        )
    try:
        text = decode_text(body, "the text").text
    except AnnotationError as error:
        raise InvalidVocabulary(str(error)) from error
    fault = describe_text_fault(text)
    if fault is not None:
        raise InvalidVocabulary(f"the text holds {fault}")
    given = {"json": _from_json, "csv": _from_csv, "txt": _from_document}[kind](text)
    return _with_split_names(given) if split_names else given


def write(vocabulary: Vocabulary, kind: str) -> str:
    """Write a vocabulary as text: JSON keeps everything, CSV the phrases of labels, plain text their names."""
    if kind == "json":
        return json.dumps(vocabulary.content(), ensure_ascii=False, indent=1) + "\n"
    if kind == "csv":
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

    Names with spaces are returned as they are (`playing TV`); words of capitals stay in capitals.
    """
    if " " in name.strip():
        return name.strip()
    words = [word for word in WORD_EDGES.split(name) if word]
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)


def _from_json(text: str) -> VocabularyInput:
    return read_model(VocabularyInput, text, error_type=InvalidVocabulary)


def _from_csv(text: str) -> VocabularyInput:
    labels: list[str | LabelInput] = []
    try:
        table = read_table(TextFile(name="the CSV", text=text, encoding="UTF-8"), COLUMNS, may_end_early=True)
    except AnnotationError as error:
        raise InvalidVocabulary(str(error)) from error
    if "name" not in table.columns:
        found = ", ".join(filter(None, table.columns)) or "none"
        raise InvalidVocabulary(f"the CSV needs a column `name`, found {found}")
    unknown = [f"`{column[:80]}`" for column in table.columns if column and column not in COLUMNS]
    if unknown:
        raise InvalidVocabulary(
            f"the CSV, line 1: a vocabulary has no such columns: {', '.join(unknown[:10])}; remove them, since only "
            "name, synonyms and negatives are read"
        )
    if any(row.cells.get("") for row in table.rows):
        raise InvalidVocabulary("the CSV, line 1: a column with cells has no name")
    for row in table.rows:
        if not row.cells["name"]:
            raise InvalidVocabulary(f"{table.place(row)}: the name is missing")
        synonyms, negatives = (_phrases(row.cells.get(key)) for key in ("synonyms", "negatives"))
        labels.append(LabelInput(name=unescape_formula(row.cells["name"]), synonyms=synonyms, negatives=negatives))
    return VocabularyInput(labels=labels)


def _phrases(cell: str | None) -> list[str]:
    return [phrase.strip() for phrase in unescape_formula(cell or "").split("|") if phrase.strip()]


def _from_document(text: str) -> VocabularyInput:
    try:
        return VocabularyInput(labels=list(label_lists.parse_document(text)))
    except label_lists.LabelListError as error:
        raise InvalidVocabulary(str(error)) from error


def _with_split_names(given: VocabularyInput) -> VocabularyInput:
    labels: list[str | LabelInput] = [
        split_name(item) if isinstance(item, str) else item.model_copy(update={"name": split_name(item.name)})
        for item in given.labels
    ]
    return given.model_copy(update={"labels": labels})
