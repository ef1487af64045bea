"""Read stored vocabularies, including versions of older releases with values that JSON cannot represent.

Older releases accepted NaN and infinities in metadata and in fits; Python writes them as `NaN` and `Infinity`. Such
values are read as strings in metadata and as null in an acceptance, so that every response and export is valid JSON.
Each of them is reported as a fault.
"""

import json
import math
from typing import Any

from pydantic import ValidationError

from serve.vocabularies.acceptance import Acceptance
from serve.vocabularies.faults import Fault
from serve.vocabularies.labels import Example, Label
from serve.vocabularies.vocabulary import Vocabulary


def read_vocabulary(row: Any) -> Vocabulary:
    """Return the vocabulary stored in a database row; replaced values are listed in `unreadable`."""
    faults: list[Fault] = []
    document = json.loads(row.document)
    metadata = _replace_non_finite(document["metadata"], "metadata", faults, as_text=True)
    acceptance = _read_acceptance(document.get("acceptance"), faults)
    return Vocabulary(
        name=row.name,
        version=row.version,
        labels=tuple(_read_label(item) for item in document["labels"]),
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


def _read_label(item: dict[str, Any]) -> Label:
    return Label(
        label_id=item["label_id"],
        name=item["name"],
        synonyms=tuple(item["synonyms"]),
        negatives=tuple(item["negatives"]),
        threshold=item.get("threshold"),  # absent in versions of older releases
        examples=tuple(Example(**example) for example in item.get("examples", ())),
    )


def _replace_non_finite(value: Any, path: str, faults: list[Fault], *, as_text: bool) -> Any:
    """Return a JSON value with non-finite numbers replaced by text or by null; append a fault for each.

    `path` is the path of the value in the document, e.g. `metadata.ratios[0]`.
    """
    if isinstance(value, dict):
        return {key: _replace_non_finite(item, f"{path}.{key}", faults, as_text=as_text) for key, item in value.items()}
    if isinstance(value, list):
        return [
            _replace_non_finite(item, f"{path}[{index}]", faults, as_text=as_text) for index, item in enumerate(value)
        ]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    text = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    replacement = f"the string {text!r}" if as_text else "null"
    detail = f"{path} is {text}, which is not a JSON number; it is shown as {replacement}"
    faults.append(Fault(kind="unreadable_value", places=(path,), texts=(text,), detail=detail))
    return text if as_text else None


def _read_acceptance(document: dict[str, Any] | None, faults: list[Fault]) -> Acceptance | None:
    if document is None:
        return None
    try:
        return Acceptance.model_validate(_replace_non_finite(document, "acceptance", faults, as_text=False))
    except ValidationError as error:
        fields = tuple(".".join(("acceptance", *map(str, item["loc"]))) for item in error.errors())
        detail = f"{', '.join(fields)} cannot be used; no acceptance is applied. Calibrate again or PATCH acceptance"
        faults.append(Fault(kind="unreadable_value", places=fields, texts=(json.dumps(document),), detail=detail))
        return None
