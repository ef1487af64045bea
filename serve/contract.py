"""The contract of a model on disk: every choice that changes a number, as written by export and honoured by serve.

`contract.json` is beside the video graph and is renamed into place last, so a version without it does not exist.
Each rule is a name in a table of a light module (`video/sampling.py`, `video/preprocess.py`, `scoring.py`,
`text/tokenizer.py`); a name that is not known is refused with the field, what was expected and what was found.
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

FORMAT = 1  # of the file; grows when a field changes its meaning

Family = Literal["clip", "actionclip", "xclip"]
SamplingRule = Literal["centres", "actionclip", "ends"]
ResizeRule = Literal["shortest_side", "squash"]
Interpolation = Literal["pillow_bicubic", "pillow_bilinear", "opencv_bilinear"]
SizeRounding = Literal["truncate", "half_up"]
CropRounding = Literal["half_even", "floor"]
Ensembling = Literal["mean_probability", "mean_embedding"]
ViewRule = Literal["mean_probability", "mean_logit"]
Activation = Literal["softmax", "sigmoid"]
PhraseRule = Literal["best", "mean"]  # from the phrases of a label to its logit; a vocabulary's choice
TokenizerKind = Literal["clip", "tokenizers"]
TextCleaning = Literal["none", "whitespace", "lower", "canonicalize"]

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Record:
    """Base of every part of a contract: how pydantic reads it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class SamplingContract(_Record):
    """Which frames: a rule of `serve.video.sampling` and its number of segments."""

    rule: SamplingRule
    num_segments: int  # T, frames of one clip


@dataclass(frozen=True, kw_only=True)
class PreprocessContract(_Record):
    """From a frame to a square: rules of `serve.video.preprocess`. Sizes in pixels."""

    image_size: int  # S
    resize: ResizeRule
    short_side: int  # target of the shorter side for one centre crop; equals image_size under "squash"
    interpolation: Interpolation
    size_rounding: SizeRounding  # of the longer side
    crop_rounding: CropRounding  # of the centre crop's corner
    mean: tuple[float, float, float]  # of RGB in 0..1; applied inside the graph
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class TextContract(_Record):
    """From a prompt to tokens: the tokenizer, its length and whether rows may be cut to the longest prompt."""

    tokenizer: TokenizerKind
    context_length: int  # L at most, start and end tokens included
    dynamic_length: bool  # the graph takes rows shorter than context_length (causal towers)
    pad_id: int
    cleaning: TextCleaning = "none"  # of the "tokenizers" kind, before its file sees the text
    zeroed_token_id: int | None = None  # of the "tokenizers" kind: replaced by 0 in every row (CLIPA's separator)
    templates: tuple[str, ...] = ("{}",)


@dataclass(frozen=True, kw_only=True)
class ScoringContract(_Record):
    """From features to probabilities: rules of `serve.scoring`."""

    logit_scale: float  # already exponentiated
    logit_bias: float = 0.0  # SigLIP's
    ensembling: Ensembling  # over templates
    view_rule: ViewRule  # over views
    activation: Activation = "softmax"  # the one the model was trained for


@dataclass(frozen=True, kw_only=True)
class TensorContract(_Record):
    """One input or output of a graph; an axis is a letter of the style guide or a fixed size."""

    name: str
    dtype: str  # numpy's name
    axes: tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class GraphContract(_Record):
    """One ONNX file, relative to the repository folder, with the files it needs."""

    file: str  # e.g. "demo_video/1/model.onnx"
    sha256: str
    external_data: tuple[str, ...] = ()
    external_sha256: tuple[str, ...] = ()
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]


@dataclass(frozen=True, kw_only=True)
class FileContract(_Record):
    """Any other file of the version that changes a number."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelContract(_Record):
    """Every choice that changes a number, plus where the model comes from."""

    family: Family
    name: str
    version: int
    embed_dim: int  # D
    sampling: SamplingContract
    preprocess: PreprocessContract
    text: TextContract
    scoring: ScoringContract
    opset: int
    graphs: Mapping[str, GraphContract]  # "video", "text" and, by family, "head", "frames", "fusion"
    tokenizer_file: FileContract
    parity_file: FileContract
    default_labels: tuple[str, ...] = ()  # a vocabulary the model card recommends; served under the model's name
    parity: Mapping[str, Any] = field(default_factory=dict)  # figures measured at export
    provenance: Mapping[str, Any] = field(default_factory=dict)  # the training run
    card: str = ""  # text of the model card; its first paragraph is the notice
    format: int = FORMAT

    def __post_init__(self) -> None:
        check_field(self.format == FORMAT, "format", FORMAT, self.format)
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
        needed = {"video", "text"}
        check_field(needed <= set(self.graphs), "graphs", sorted(needed), sorted(self.graphs))
        gives_patches = bool(self._output_axes("patch_features"))
        check_field(
            gives_patches == self.has_prompt_head, "graphs", "head and patch_features together", sorted(self.graphs)
        )
        axes = self._output_axes("prototype_features")
        is_matrix = len(axes) in (0, 2) and all(isinstance(axis, int) and axis > 0 for axis in axes[1:])
        check_field(is_matrix, "graphs.video.outputs", 'prototype_features of axes ["B", E]', list(axes))

    @property
    def has_prompt_head(self) -> bool:
        """Whether logits come of a graph that changes each text by the video (X-CLIP with prompts)."""
        return "head" in self.graphs

    @property
    def notice(self) -> str | None:
        """Return the limitation that users of the model should know: the first paragraph of its card, if it has one."""
        first = self.card.strip().split("\n\n")[0]
        return " ".join(first.split()) or None

    @property
    def num_patches(self) -> int:
        """P of `patch_features`; 0 where the video graph gives none."""
        axes = self._output_axes("patch_features")
        return int(axes[1]) if axes else 0

    @property
    def prototype_dim(self) -> int:
        """E of `prototype_features` [B, E], by which examples and few-shot heads compare videos; 0 without."""
        axes = self._output_axes("prototype_features")
        return int(axes[1]) if axes else 0

    def _output_axes(self, name: str) -> tuple[str | int, ...]:
        """Return the axes of an output of the video graph; empty if there is no such output."""
        return next((item.axes for item in self.graphs["video"].outputs if item.name == name), ())

    def files(self) -> dict[str, str]:
        """Path relative to the repository folder -> sha256, of every file the numbers depend on."""
        found = {item.file: item.sha256 for item in (self.tokenizer_file, self.parity_file)}
        for graph in self.graphs.values():
            found[graph.file] = graph.sha256
            found.update(zip(graph.external_data, graph.external_sha256, strict=True))
        return found


_READER: TypeAdapter[ModelContract] = TypeAdapter(ModelContract)


def read_contract(path: Path) -> ModelContract:
    """Read and check a contract.

    Raises:
        ContractError: the file is missing, is not JSON, or holds something this code cannot honour.
    """
    try:
        text = strict_json.decoded(path.read_bytes())
        strict_json.loads(text)  # pydantic's reader takes duplicate names and unbounded nesting
        return _READER.validate_json(text)
    except FileNotFoundError as error:
        raise ContractError(f"no contract at {path}: this version does not exist", file=str(path)) from error
    except ValidationError as error:  # before ValueError, its base
        raise _contract_error(error) from error
    except (OSError, ValueError) as error:
        raise ContractError(f"{path} cannot be read as JSON: {error}", file=str(path)) from error


def contract_document(contract: ModelContract) -> dict[str, Any]:
    """Return the contract as plain JSON values, in the order of its fields."""
    document: dict[str, Any] = _READER.dump_python(contract, mode="json")
    return document


def check_field(is_right: bool, name: str, expected: object, found: object) -> None:
    """Raise a `ContractError` that names the field unless it is right."""
    if not is_right:
        raise ContractError(
            f"contract field {name}: expected {expected}, found {found}",
            field=name,
            expected=str(expected),
            found=str(found),
        )


def _contract_error(error: ValidationError) -> ContractError:
    """The first fault pydantic found, as field, expected and found."""
    fault = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in fault["loc"]) or "contract"
    expected, found = str(fault.get("ctx", {}).get("expected", fault["msg"])), repr(fault["input"])
    if fault["type"] == "missing":
        expected, found = "a value", "none"
    elif fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        expected, found = "no field of this name", f"the unknown field {name}"
    return ContractError(
        f"contract field {name}: expected {expected}, found {found[:200]}", field=name, expected=expected, found=found
    )
