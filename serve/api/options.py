"""Options of requests; the same rules apply to JSON, form fields, query parameters and the command line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from serve import strict_json
from serve.contract import Activation
from serve.errors import InvalidOption
from serve.text.label_lists import is_json_list, parse_list, read_json_list
from serve.text.normalization import trim
from serve.unicode_text import describe_text_fault

FunctionToApply = Literal["softmax", "sigmoid", "none"]
LIST_FIELDS = ("candidate_labels", "templates", "labels", "groups", "tags")  # fields that a form or a query may repeat
NUMBER_FIELDS = ("num_crops",)  # pydantic does not convert text for a Literal
MAX_TAG_CHARS = 64
MAX_EXPIRES_SECONDS = 10 * 366 * 86_400  # ten years
NUMBER = re.compile(r"[0-9]{1,9}")


def _as_list(value: Any) -> Any:
    """Parse text as a JSON list or with the grammar of label lists; return other values unchanged."""
    if not isinstance(value, str):
        return value
    return read_json_list(value) if is_json_list(value) else parse_list(value)


TextList = Annotated[list[str], BeforeValidator(_as_list)]


class LabelOptions(BaseModel):
    """Options for the labels that a video is compared with, and for the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    vocabulary: str | None = Field(
        None, description="A vocabulary, `name` or `name@version`; by default the vocabulary of the model."
    )
    candidate_labels: TextList | None = Field(
        None,
        description="Labels for this request: a list, or text with separators (see the grammar of label lists). "
        "Cannot be combined with `vocabulary`.",
    )
    hypothesis_template: str | None = Field(
        None, description="One template with one `{}`. Cannot be combined with `templates`."
    )
    templates: TextList | None = Field(
        None, description="Templates with one `{}` each; by default the templates of the vocabulary or model."
    )
    model: str | None = Field(
        None, description="A model, `name` or `name@version`; by default the default model of the server."
    )

    @model_validator(mode="after")
    def _check_conflicts(self) -> Self:
        if self.vocabulary is not None and self.candidate_labels is not None:
            raise ValueError("`vocabulary` and `candidate_labels` cannot be combined")
        if self.hypothesis_template is not None and self.templates is not None:
            raise ValueError("`hypothesis_template` and `templates` cannot be combined")
        return self

    def resolve_templates(self, default: Sequence[str]) -> tuple[str, ...]:
        """Return the templates of the request, or `default` if it has none."""
        if self.hypothesis_template is not None:
            return (self.hypothesis_template,)
        return tuple(self.templates) if self.templates is not None else tuple(default)


def _checked_tag(tag: str) -> str:
    """Return a tag without surrounding white space."""
    checked_tag = trim(tag)
    if not checked_tag or len(checked_tag) > MAX_TAG_CHARS:
        raise ValueError(f"a tag has 1 to {MAX_TAG_CHARS} characters, found {len(checked_tag)}")
    fault = describe_text_fault(checked_tag)
    if fault is not None:
        raise ValueError(f"a tag holds {fault}")
    return checked_tag


Tag = Annotated[str, AfterValidator(_checked_tag)]


class StoreOptions(BaseModel):
    """Options that say whether the features of a video are stored, and for how long."""

    store: bool = Field(
        False, description="Keep the features of the video, to score them again and to search them; see stored videos."
    )
    expires_in_seconds: int | None = Field(
        None, ge=1, le=MAX_EXPIRES_SECONDS, description="When the stored video is deleted. Needs `store`."
    )
    tags: Annotated[list[Tag], BeforeValidator(_as_list)] | None = Field(
        None, description="Words by which stored videos are selected, a list or text with separators. Needs `store`."
    )

    @model_validator(mode="after")
    def _check_store(self) -> Self:
        for name in ("expires_in_seconds", "tags"):
            if getattr(self, name) is not None and not self.store:
                raise ValueError(f"`{name}` needs `store`")
        return self


class ScoreOptions(LabelOptions):
    """Options of scoring the features of a video."""

    top_k: int = Field(5, ge=1, le=100_000, description="Number of labels to return, best first.")
    function_to_apply: FunctionToApply | None = Field(
        None,
        description="Function from logits to scores; by default the activation of the model; `none`: `score` is null.",
    )
    threshold: float | None = Field(None, ge=0, le=1, description="Lowest score at which a label is accepted.")

    @model_validator(mode="after")
    def _check_threshold(self) -> Self:
        if self.threshold is not None and self.function_to_apply == "none":
            raise ValueError("`threshold` needs scores, but there are none with `function_to_apply` `none`")
        return self

    def resolve_function(self, default: Activation) -> FunctionToApply:
        """Return the function of the request, or `default` if it has none."""
        return self.function_to_apply or default


class ClassifyOptions(ScoreOptions, StoreOptions):
    """Options of a classification."""

    num_clips: int = Field(1, ge=1, le=10, description="Number of clips sampled from the video.")
    num_crops: Literal[1, 3] = Field(1, description="1: centre crop; 3: first, last and middle along the longer side.")


class CalibrateOptions(BaseModel):
    """Options of a calibration, which fits the temperature and thresholds of a vocabulary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: Annotated[list[str | None], BeforeValidator(_as_list)] = Field(
        description="Label of each clip, in order: a name or label_id, or null if the clip shows none of the labels."
    )
    groups: Annotated[list[str | None], BeforeValidator(_as_list)] = Field(
        default=[],
        description="Group of each clip, in order, e.g. the person or source video; clips of the same group are not "
        "independent. Copies, and parts of one video with conventional file names, are detected without it.",
    )
    false_accept_rate: float = Field(
        0.05,
        ge=0.001,
        le=0.5,
        description="Fraction of clips that may be accepted although they show none of the labels.",
    )
    function_to_apply: Literal["softmax", "sigmoid"] | None = Field(
        None, description="Function used in later classifications; by default the activation of the model."
    )
    num_clips: int = Field(1, ge=1, le=10, description="Number of clips used in later classifications.")
    num_crops: Literal[1, 3] = Field(1, description="Number of crops used in later classifications.")
    criterion: Literal["score", "logit"] | None = Field(
        None, description="The value that is compared with thresholds; by default the one that separates better."
    )
    per_label: bool = Field(
        False,
        description="Fit separate thresholds for labels that many unknown clips resemble; needs twice as many clips.",
    )
    model: str | None = Field(None, description="A model; by default the default model of the server.")
    dry_run: bool = Field(False, description="Return the result without storing it.")


class FeedbackOptions(BaseModel):
    """A correction: the correct label of a clip, and the response that it corrects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str = Field(description="The correct label; with `vocabulary`, a label_id is also allowed.")
    vocabulary: str | None = Field(None, description="Vocabulary of the corrected request, `name` or `name@version`.")
    predicted: str | None = Field(None, description="The label that the server returned.")
    request_id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="`X-Request-Id` of the corrected response."
    )
    note: str | None = Field(None, max_length=2000, description="A remark about the clip.")


Options = TypeVar("Options", bound=BaseModel)


def merge_options(
    fields: Mapping[str, Sequence[str]], query: Mapping[str, Sequence[str]] | None = None
) -> dict[str, Any]:
    """Merge the values of a form and of a query into one document.

    Raises:
        InvalidOption: an option is sent twice, or `options` is not a JSON object.
    """
    document: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for container, items in (("the form", fields), ("the query", query or {})):
        for name, source, value in _iterate_options(items, container):
            if name in sources:
                raise InvalidOption(f"`{name[:80]}` is in {sources[name]} and in {source}; send it once")
            document[name], sources[name] = value, source
    return document


def _iterate_options(items: Mapping[str, Sequence[str]], container: str) -> Iterator[tuple[str, str, Any]]:
    """Yield (name, source, value) of every option of a form or query, including those of its `options` document."""
    for name, values in items.items():
        if len(values) > 1 and name not in LIST_FIELDS:
            raise InvalidOption(f"{container} has `{name}` {len(values)} times; send it once")
        if name == "options":
            for key, value in parse_json_object(values[0]).items():
                yield key, f"`options` of {container}", value
        else:
            yield name, container, list(values) if len(values) > 1 else values[0]


def parse_classify_options(document: Mapping[str, Any]) -> ClassifyOptions:
    """Validate the options of a classification; see `validate_options`."""
    return validate_options(ClassifyOptions, document)


def validate_options(model: type[Options], document: Mapping[str, Any]) -> Options:
    """Validate options; text is converted to a number where a number is expected.

    Raises:
        InvalidOption: options are invalid; the message names each field and its problem.
    """
    prepared = {
        key: int(value) if key in NUMBER_FIELDS and isinstance(value, str) and NUMBER.fullmatch(value) else value
        for key, value in document.items()
    }
    _check_texts(prepared)
    try:
        options = model.model_validate(prepared)
    except ValidationError as error:
        problems = [
            {
                "field": ".".join(map(str, item["loc"])) or "options",
                "problem": item["msg"].removeprefix("Value error, "),
            }
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        message = "; ".join(f"{item['field']}: {item['problem']}" for item in problems)
        raise InvalidOption(f"invalid options: {message}", errors=problems) from error
    _check_booleans(prepared, options)
    return options


def _check_booleans(document: Mapping[str, Any], options: BaseModel) -> None:
    """Check that true and false were not read as the numbers 1 and 0."""
    for name, value in document.items():
        if isinstance(value, bool) and not isinstance(getattr(options, name), bool):
            problem = {"field": name, "problem": f"must be a number, got {str(value).lower()}"}
            raise InvalidOption(f"invalid options: {name}: {problem['problem']}", errors=[problem])


def _check_texts(document: Mapping[str, Any]) -> None:
    """Check that all texts are valid Unicode; arguments of a command can contain surrogates."""
    for name, value in document.items():
        for item in value if isinstance(value, list) else (value,):
            fault = describe_text_fault(item) if isinstance(item, str) else None
            if fault is not None:
                raise InvalidOption(f"`{name}` contains {fault}")


def parse_json_object(text: str) -> dict[str, Any]:
    """Parse the JSON object of the field `options`.

    Raises:
        InvalidOption: the text is not strict JSON, or not an object.
    """
    try:
        document = strict_json.loads(text)
    except strict_json.InvalidJson as error:
        raise InvalidOption(f"`options` cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidOption(f"`options` must be a JSON object, got {type(document).__name__}")
    return document
