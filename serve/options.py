"""The options of a classification, the same for every way in: JSON, form fields, query parameters, command line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from serve import strict_json
from serve.contract import Activation
from serve.errors import InvalidOption
from serve.text.label_lists import is_json_list, parse_list, read_json_list
from serve.unicode_text import text_fault

FunctionToApply = Literal["softmax", "sigmoid", "none"]
LIST_FIELDS = ("candidate_labels", "templates", "labels")  # of which a form or a query may hold several
NUMBER_FIELDS = ("num_crops",)  # a Literal is not converted from text by itself
NUMBER = re.compile(r"[0-9]{1,9}")


def _as_list(value: Any) -> Any:
    """A list stays one; text is read by the grammar of label lists, a JSON list among them."""
    if not isinstance(value, str):
        return value
    return read_json_list(value) if is_json_list(value) else parse_list(value)


TextList = Annotated[list[str], BeforeValidator(_as_list)]


class ClassifyOptions(BaseModel):
    """What to score a video against, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: str | None = Field(
        None, description="A vocabulary, `name` or `name@version`; without labels the model's own."
    )
    candidate_labels: TextList | None = Field(
        None,
        description="Labels of this request alone: a list, or text with separators (see the grammar of label lists). "
        "Excludes `vocabulary`.",
    )
    hypothesis_template: str | None = Field(None, description="One template with one `{}`. Excludes `templates`.")
    templates: TextList | None = Field(None, description="Templates with one `{}` each; the model's own without them.")
    top_k: int = Field(5, ge=1, le=100_000, description="How many labels to return, best first.")
    num_clips: int = Field(1, ge=1, le=10, description="Clips sampled from the video.")
    num_crops: Literal[1, 3] = Field(1, description="1: centre crop; 3: first, last and middle along the longer side.")
    function_to_apply: FunctionToApply | None = Field(
        None, description="From logits to scores; the model's own without it. `none` leaves `score` null."
    )
    threshold: float | None = Field(None, ge=0, le=1, description="Least score at which a label is `accepted`.")
    model: str | None = Field(None, description="A model, `name` or `name@version`; the server's default without it.")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.vocabulary is not None and self.candidate_labels is not None:
            raise ValueError("give `vocabulary` or `candidate_labels`, not both")
        if self.hypothesis_template is not None and self.templates is not None:
            raise ValueError("give `hypothesis_template` or `templates`, not both")
        if self.threshold is not None and self.function_to_apply == "none":
            raise ValueError("`threshold` compares scores, and `function_to_apply` is `none`: there are no scores")
        return self

    def chosen_templates(self, default: Sequence[str]) -> tuple[str, ...]:
        """Templates of this request, or the default."""
        if self.hypothesis_template is not None:
            return (self.hypothesis_template,)
        return tuple(self.templates) if self.templates is not None else tuple(default)

    def chosen_function(self, default: Activation) -> FunctionToApply:
        """Function of this request, or the model's."""
        return self.function_to_apply or default


class CalibrateOptions(BaseModel):
    """How to fit a vocabulary's temperature and thresholds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Annotated[list[str | None], BeforeValidator(_as_list)] = Field(
        description="What each clip shows, in their order: a label's name or label_id, null for none of them."
    )
    false_accept_rate: float = Field(
        0.05, ge=0.001, le=0.5, description="Share of clips that show none of the labels which may be accepted."
    )
    function_to_apply: Literal["softmax", "sigmoid"] | None = Field(
        None, description="As classifications will use it; the model's own without it."
    )
    num_clips: int = Field(1, ge=1, le=10, description="As classifications will use it.")
    num_crops: Literal[1, 3] = Field(1, description="As classifications will use it.")
    criterion: Literal["score", "logit"] | None = Field(
        None, description="What thresholds are compared with; the better one without it."
    )
    per_label: bool = Field(
        False, description="Thresholds of their own for labels that many unknown clips look like; needs twice as many."
    )
    model: str | None = Field(None, description="A model; the server's default without it.")
    dry_run: bool = Field(False, description="Tell what would be fitted, change nothing.")


class FeedbackOptions(BaseModel):
    """What a clip shows in truth, and what the server had said of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str = Field(description="The right label; with `vocabulary` also a label_id of it.")
    vocabulary: str | None = Field(None, description="The vocabulary that was asked, `name` or `name@version`.")
    predicted: str | None = Field(None, description="The label the server had given.")
    request_id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="`X-Request-Id` of that answer."
    )
    note: str | None = Field(None, max_length=2000, description="Anything a person should know of the clip.")


Options = TypeVar("Options", bound=BaseModel)


def gather(fields: Mapping[str, Sequence[str]], query: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
    """Raw values of a form and of a query as one document; each option comes from one place and comes once.

    Raises:
        InvalidOption: an option is given twice, or `options` is no JSON object.
    """
    found: dict[str, Any] = {}
    places: dict[str, str] = {}
    for where, given in (("the form", fields), ("the query", query or {})):
        for name, place, value in _given(given, where):
            if name in places:
                raise InvalidOption(f"`{name[:80]}` is given by {places[name]} and by {place}; give it once")
            found[name], places[name] = value, place
    return found


def _given(given: Mapping[str, Sequence[str]], where: str) -> Iterator[tuple[str, str, Any]]:
    """(name, place, value) of every option of a form or a query, those of its `options` document included."""
    for name, values in given.items():
        if len(values) > 1 and name not in LIST_FIELDS:
            raise InvalidOption(f"{where} gives `{name}` {len(values)} times; give it once")
        if name == "options":
            for key, value in _json_object(values[0]).items():
                yield key, f"`options` of {where}", value
        else:
            yield name, where, list(values) if len(values) > 1 else values[0]


def parse_options(document: Mapping[str, Any]) -> ClassifyOptions:
    """Options of a classification; see `checked`."""
    return checked(ClassifyOptions, document)


def checked(kind: type[Options], document: Mapping[str, Any]) -> Options:
    """Options from plain values; text is read as a number where a number is meant.

    Raises:
        InvalidOption: names each field and what is wrong with it.
    """
    prepared = {
        key: int(value) if key in NUMBER_FIELDS and isinstance(value, str) and NUMBER.fullmatch(value) else value
        for key, value in document.items()
    }
    _check_texts(prepared)
    try:
        return kind.model_validate(prepared)
    except ValidationError as error:
        faults = [
            {
                "field": ".".join(map(str, item["loc"])) or "options",
                "problem": item["msg"].removeprefix("Value error, "),
            }
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        words = "; ".join(f"{fault['field']}: {fault['problem']}" for fault in faults)
        raise InvalidOption(f"these options cannot be used: {words}", errors=faults) from error


def _check_texts(document: Mapping[str, Any]) -> None:
    """Refuse text that cannot be stored or answered; the command line can bring it along."""
    for name, value in document.items():
        for item in value if isinstance(value, list) else (value,):
            fault = text_fault(item) if isinstance(item, str) else None
            if fault is not None:
                raise InvalidOption(f"`{name}` holds {fault}")


def _json_object(text: str) -> dict[str, Any]:
    try:
        document = strict_json.loads(text)
    except strict_json.InvalidJson as error:
        raise InvalidOption(f"`options` cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidOption(f"`options` must be a JSON object, found {type(document).__name__}")
    return document
