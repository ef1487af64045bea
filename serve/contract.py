"""The contract of an exported model: every choice that affects its results. Export writes it and serving follows it.

`contract.json` is stored beside the video graph and is moved into place last, so a version without it does not exist.
Each rule is a name in a table of `video/sampling.py`, `video/preprocess.py`, `scoring.py` or `text/tokenizer.py`; an
unknown name is rejected with the field, the expected value and the value found.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from serve import strict_json
from serve.errors import ContractError

FORMAT_VERSION = 1  # of contract.json; incremented when the meaning of a field changes

Family = Literal["clip", "actionclip", "xclip"]
SamplingRule = Literal["centres", "actionclip", "ends"]
ResizeRule = Literal["shortest_side", "squash"]
Interpolation = Literal["pillow_bicubic", "pillow_bilinear", "opencv_bilinear"]
SizeRounding = Literal["truncate", "half_up"]
CropRounding = Literal["half_even", "floor"]
Ensembling = Literal["mean_probability", "mean_embedding"]
ViewRule = Literal["mean_probability", "mean_logit"]
Activation = Literal["softmax", "sigmoid"]
PhraseRule = Literal["best", "mean"]  # how the logits of a label's phrases are reduced to one; chosen by the vocabulary
TokenizerKind = Literal["clip", "tokenizers"]
TextCleaning = Literal["none", "whitespace", "lower", "canonicalize"]

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _ContractPart:
    """Base of all parts of a contract: strict validation by pydantic."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class SamplingContract(_ContractPart):
    """Frame sampling: a rule of `serve.video.sampling` and the number of segments."""

    rule: SamplingRule
    num_segments: int  # T, frames of one clip


@dataclass(frozen=True, kw_only=True)
class PreprocessContract(_ContractPart):
    """Preprocessing of frames: rules of `serve.video.preprocess`; sizes in pixels."""

    image_size: int  # S
    resize: ResizeRule
    short_side: int  # length of the shorter side after resizing; equals image_size for "squash"
    interpolation: Interpolation
    size_rounding: SizeRounding  # rounding of the longer side
    crop_rounding: CropRounding  # rounding of the corner of the centre crop
    mean: tuple[float, float, float]  # per RGB channel in the range 0 to 1; applied inside the graph
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class TextContract(_ContractPart):
    """Tokenization of prompts."""

    tokenizer: TokenizerKind
    context_length: int  # largest L, including start and end tokens
    dynamic_length: bool  # whether the graph accepts sequences shorter than context_length (causal towers)
    pad_id: int
    cleaning: TextCleaning = "none"  # of text before tokenization; only for the "tokenizers" kind
    zeroed_token_id: int | None = None  # token replaced by 0 (CLIPA's separator); only for the "tokenizers" kind
    templates: tuple[str, ...] = ("{}",)


@dataclass(frozen=True, kw_only=True)
class ScoringContract(_ContractPart):
    """Scoring of features: rules of `serve.scoring`."""

    logit_scale: float  # already exponentiated
    logit_bias: float = 0.0  # SigLIP's
    ensembling: Ensembling  # over templates
    view_rule: ViewRule  # over views
    activation: Activation = "softmax"  # activation the model was trained with


@dataclass(frozen=True, kw_only=True)
class TensorContract(_ContractPart):
    """One input or output of a graph; an axis is a symbolic letter or a fixed size."""

    name: str
    dtype: str  # NumPy name
    axes: tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class GraphContract(_ContractPart):
    """One ONNX file and its external data files; paths are relative to the repository folder."""

    file: str  # e.g. "demo_video/1/model.onnx"
    sha256: str
    external_data: tuple[str, ...] = ()
    external_sha256: tuple[str, ...] = ()
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]


@dataclass(frozen=True, kw_only=True)
class FileContract(_ContractPart):
    """Another file of the version that affects the results."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelContract(_ContractPart):
    """Every choice that affects the results of a model, and the origin of the model."""

    family: Family
    name: str
    version: int
    embed_dim: int  # D
    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract
    scoring: ScoringContract
    opset: int
    graphs: Mapping[str, GraphContract]  # "video", "text" and, depending on the family, "head", "frames", "fusion"
    tokenizer_file: FileContract
    parity_file: FileContract
    default_labels: tuple[str, ...] = ()  # recommended vocabulary; served under the model's name
    parity: Mapping[str, Any] = field(default_factory=dict)  # parity metrics measured at export
    provenance: Mapping[str, Any] = field(default_factory=dict)  # the training run
    card: str = ""  # text of the model card; its first paragraph is the notice
    format: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        check_field(self.format == FORMAT_VERSION, "format", FORMAT_VERSION, self.format)
        check_field(MODEL_NAME.fullmatch(self.name) is not None, "name", MODEL_NAME.pattern, self.name)
        check_field(self.version >= 1, "version", "at least 1", self.version)
        check_field(self.embed_dim >= 1, "embed_dim", "at least 1", self.embed_dim)
        check_field(self.sampling.num_segments >= 1, "sampling.num_segments", "at least 1", self.sampling.num_segments)
        size = self.preprocess.image_size
        check_field(1 <= size <= 4096, "preprocess.image_size", "1 to 4096", size)
        check_field(
            self.preprocess.short_side >= size, "preprocess.short_side", f"at least {size}", self.preprocess.short_side
        )
        check_field(all(value > 0 for value in self.preprocess.std), "preprocess.std", "above 0", self.preprocess.std)
        check_field(self.text.context_length >= 2, "text.context_length", "at least 2", self.text.context_length)
        scale = self.scoring.logit_scale
        check_field(math.isfinite(scale) and scale > 0, "scoring.logit_scale", "finite and above 0", scale)
        check_field(len(self.text.templates) > 0, "text.templates", "at least one", self.text.templates)
        for template in self.text.templates:
            check_field(template.count("{}") == 1, "text.templates", "exactly one {} in each", template)
        required = {"video", "text"}
        check_field(required <= set(self.graphs), "graphs", sorted(required), sorted(self.graphs))
        has_patch_features = bool(self._output_axes("patch_features"))
        check_field(
            has_patch_features == self.has_prompt_head,
            "graphs",
            "both `head` and patch_features, or neither",
            sorted(self.graphs),
        )
        axes = self._output_axes("prototype_features")
        is_matrix = len(axes) in (0, 2) and all(isinstance(axis, int) and axis > 0 for axis in axes[1:])
        check_field(is_matrix, "graphs.video.outputs", 'prototype_features with axes ["B", E]', list(axes))

    @property
    def has_prompt_head(self) -> bool:
        """Whether a `head` graph adapts text features to each video and computes the logits (X-CLIP with prompts)."""
        return "head" in self.graphs

    @property
    def notice(self) -> str | None:
        """The limitation that users of the model should know: the first paragraph of the card, or None."""
        first_paragraph = self.card.strip().split("\n\n")[0]
        return " ".join(first_paragraph.split()) or None

    @property
    def num_patches(self) -> int:
        """P, the number of patch features; 0 if the video graph has no `patch_features` output."""
        axes = self._output_axes("patch_features")
        return int(axes[1]) if axes else 0

    @property
    def prototype_dim(self) -> int:
        """E of `prototype_features` [B, E], which examples and few-shot heads compare; 0 if there is no such output."""
        axes = self._output_axes("prototype_features")
        return int(axes[1]) if axes else 0

    def _output_axes(self, name: str) -> tuple[str | int, ...]:
        """Return the axes of an output of the video graph; empty if there is no such output."""
        return next((item.axes for item in self.graphs["video"].outputs if item.name == name), ())

    def file_hashes(self) -> dict[str, str]:
        """Return the SHA-256 of every file that affects the results, by path relative to the repository folder."""
        hashes = {item.file: item.sha256 for item in (self.tokenizer_file, self.parity_file)}
        for graph in self.graphs.values():
            hashes[graph.file] = graph.sha256
            hashes.update(zip(graph.external_data, graph.external_sha256, strict=True))
        return hashes


_ADAPTER: TypeAdapter[ModelContract] = TypeAdapter(ModelContract)


def read_contract(path: Path) -> ModelContract:
    """Read and check a contract.

    Raises:
        ContractError: the file is missing or not JSON, or a field is unknown, missing or not supported.
    """
    try:
        text = strict_json.decode_text(path.read_bytes())
        strict_json.loads(text)  # pydantic's parser accepts duplicate names and unbounded nesting
        return _ADAPTER.validate_json(text)
    except FileNotFoundError as error:
        raise ContractError(f"there is no contract at {path}: this version does not exist", file=str(path)) from error
    except ValidationError as error:  # before ValueError, its base
        raise _contract_error(error) from error
    except (OSError, ValueError) as error:
        raise ContractError(f"{path} cannot be read as JSON: {error}", file=str(path)) from error


def contract_document(contract: ModelContract) -> dict[str, Any]:
    """Return the contract as plain JSON values, in the order of its fields."""
    document: dict[str, Any] = _ADAPTER.dump_python(contract, mode="json")
    return document


def check_field(is_valid: bool, name: str, expected: object, found: object) -> None:
    """Raise a `ContractError` that names the field if its value is not valid."""
    if not is_valid:
        raise ContractError(
            f"contract field {name}: expected {expected}, found {found}",
            field=name,
            expected=str(expected),
            found=str(found),
        )


def _contract_error(error: ValidationError) -> ContractError:
    """Convert the first error found by pydantic."""
    detail = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in detail["loc"]) or "contract"
    expected, found = str(detail.get("ctx", {}).get("expected", detail["msg"])), repr(detail["input"])
    if detail["type"] == "missing":
        expected, found = "a value", "none"
    elif detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        expected, found = "no field of this name", f"the unknown field {name}"
    return ContractError(
        f"contract field {name}: expected {expected}, found {found[:200]}", field=name, expected=expected, found=found
    )
