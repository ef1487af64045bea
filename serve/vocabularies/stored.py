"""Read stored vocabularies, including those of older releases that stored values JSON does not have.

Python writes numbers that are not finite as `NaN` or `Infinity`, and older releases accepted them in metadata and in
fits. In metadata they are read as strings of these names, in an acceptance as null, so that every answer and export is
valid JSON. Each is reported as a fault.
"""

import json
import math
from typing import Any

from pydantic import ValidationError

from serve.vocabularies.acceptance import Acceptance
from serve.vocabularies.faults import Fault
from serve.vocabularies.labels import Example, Label
from serve.vocabularies.vocabulary import Vocabulary


def vocabulary_of(row: Any) -> Vocabulary:
    """Return the vocabulary of a row; values that cannot be shown as they were stored are listed in `unreadable`."""
    faults: list[Fault] = []
    document = json.loads(row.document)
    metadata = _finite(document["metadata"], "metadata", faults, keep=True)
    acceptance = _acceptance(document.get("acceptance"), faults)
    return Vocabulary(
        name=row.name,
        version=row.version,
        labels=tuple(_label(item) for item in document["labels"]),
        templates=None if document["templates"] is None else tuple(document["templates"]),
        phrase_rule=document["phrase_rule"],
        background=tuple(document["background"]),
        acceptance=acceptance,
        description=document["description"],
        metadata=metadata,
        author=row.author,
        note=row.note,
        created_at=row.created_at,
        unreadable=tuple(faults),
    )


def _label(item: dict[str, Any]) -> Label:
    return Label(
        label_id=item["label_id"],
        name=item["name"],
        synonyms=tuple(item["synonyms"]),
        negatives=tuple(item["negatives"]),
        threshold=item.get("threshold"),  # absent in versions of older releases
        examples=tuple(Example(**example) for example in item.get("examples", ())),
    )


def _finite(value: Any, place: str, faults: list[Fault], *, keep: bool) -> Any:
    """Return the value with numbers that are not finite as text (`keep`) or as null.

    `place` is the path of the value in the document.
    """
    if isinstance(value, dict):
        return {key: _finite(item, f"{place}.{key}", faults, keep=keep) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, f"{place}[{index}]", faults, keep=keep) for index, item in enumerate(value)]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    text = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    shown = f"the string {text!r}" if keep else "null"
    detail = f"{place} is {text}, which is not a JSON number; it is shown as {shown}"
    faults.append(Fault(kind="unreadable_value", places=(place,), texts=(text,), detail=detail))
    return text if keep else None


def _acceptance(document: dict[str, Any] | None, faults: list[Fault]) -> Acceptance | None:
    if document is None:
        return None
    try:
        return Acceptance.model_validate(_finite(document, "acceptance", faults, keep=False))
    except ValidationError as error:
        fields = tuple(".".join(("acceptance", *map(str, item["loc"]))) for item in error.errors())
        detail = f"{', '.join(fields)} cannot be used; no acceptance is applied. Calibrate again or PATCH acceptance"
        faults.append(Fault(kind="unreadable_value", places=fields, texts=(json.dumps(document),), detail=detail))
        return None
