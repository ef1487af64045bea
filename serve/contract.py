"""The contract of a model on disk: every choice that changes a number, as written by export and honoured by serve.

`contract.json` lies beside the video graph and is renamed into place last, so a version without it does not exist.
Each rule is a name in a table of a light module (`video/sampling.py`, `video/preprocess.py`, `scoring.py`,
`text/tokenizer.py`); a name that is not known is refused with the field, what was expected and what was found.
"""

import hashlib
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from serve import strict_json
from serve.errors import ContractError
from serve.version_numbers import parse_version

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
TextCleaning = Literal["none", "canonicalize"]

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class SamplingContract:
    """Which frames: a rule of `serve.video.sampling` and its number of segments."""

    rule: SamplingRule
    num_segments: int  # T, frames of one clip


@dataclass(frozen=True, kw_only=True)
class PreprocessContract:
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
class TextContract:
    """From a prompt to tokens: the tokenizer, its length and whether rows may be cut to the longest prompt."""

    tokenizer: TokenizerKind
    context_length: int  # L at most, start and end tokens included
    dynamic_length: bool  # the graph takes rows shorter than context_length (causal towers)
    pad_id: int
    cleaning: TextCleaning = "none"  # of the "tokenizers" kind, before its file sees the text
    templates: tuple[str, ...] = ("{}",)


@dataclass(frozen=True, kw_only=True)
class ScoringContract:
    """From features to probabilities: rules of `serve.scoring`."""

    logit_scale: float  # already exponentiated
    logit_bias: float = 0.0  # SigLIP's
    ensembling: Ensembling  # over templates
    view_rule: ViewRule  # over views
    activation: Activation = "softmax"  # the one the model was trained for


@dataclass(frozen=True, kw_only=True)
class TensorContract:
    """One input or output of a graph; an axis is a letter of the style guide or a fixed size."""

    name: str
    dtype: str  # numpy's name
    axes: tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class GraphContract:
    """One ONNX file, relative to the repository folder, with the files it needs."""

    file: str  # e.g. "demo_video/1/model.onnx"
    sha256: str
    external_data: tuple[str, ...] = ()
    external_sha256: tuple[str, ...] = ()
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]


@dataclass(frozen=True, kw_only=True)
class FileContract:
    """Any other file of the version that changes a number."""

    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelContract:
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
    card: str = ""  # what the model knows and does not know, for people
    format: int = FORMAT

    def __post_init__(self) -> None:
        _expect(self.format == FORMAT, "format", FORMAT, self.format)
        _expect(MODEL_NAME.fullmatch(self.name) is not None, "name", MODEL_NAME.pattern, self.name)
        _expect(self.version >= 1, "version", "at least 1", self.version)
        _expect(self.embed_dim >= 1, "embed_dim", "at least 1", self.embed_dim)
        _expect(self.sampling.num_segments >= 1, "sampling.num_segments", "at least 1", self.sampling.num_segments)
        size = self.preprocess.image_size
        _expect(1 <= size <= 4096, "preprocess.image_size", "1 to 4096", size)
        _expect(
            self.preprocess.short_side >= size, "preprocess.short_side", f"at least {size}", self.preprocess.short_side
        )
        _expect(all(value > 0 for value in self.preprocess.std), "preprocess.std", "above 0", self.preprocess.std)
        _expect(self.text.context_length >= 2, "text.context_length", "at least 2", self.text.context_length)
        scale = self.scoring.logit_scale
        _expect(math.isfinite(scale) and scale > 0, "scoring.logit_scale", "finite and above 0", scale)
        _expect(len(self.text.templates) > 0, "text.templates", "at least one", self.text.templates)
        for template in self.text.templates:
            _expect(template.count("{}") == 1, "text.templates", "exactly one {} in each", template)
        needed = {"video", "text"}
        _expect(needed <= set(self.graphs), "graphs", sorted(needed), sorted(self.graphs))
        gives_patches = any(item.name == "patch_features" for item in self.graphs["video"].outputs)
        _expect(
            gives_patches == self.has_prompt_head, "graphs", "head and patch_features together", sorted(self.graphs)
        )

    @property
    def has_prompt_head(self) -> bool:
        """Whether logits come of a graph that changes each text by the video (X-CLIP with prompts)."""
        return "head" in self.graphs

    @property
    def num_patches(self) -> int:
        """P of `patch_features`; 0 where the video graph gives none."""
        axes = [item.axes for item in self.graphs["video"].outputs if item.name == "patch_features"]
        return int(axes[0][1]) if axes else 0

    def files(self) -> dict[str, str]:
        """Path relative to the repository folder -> sha256, of every file the numbers depend on."""
        found = {item.file: item.sha256 for item in (self.tokenizer_file, self.parity_file)}
        for graph in self.graphs.values():
            found[graph.file] = graph.sha256
            found.update(zip(graph.external_data, graph.external_sha256, strict=True))
        return found


def contract_path(repository: Path, name: str, version: int) -> Path:
    """Where the contract of a version lies: `NAME_video/VERSION/contract.json`."""
    return repository / f"{name}_video" / str(version) / "contract.json"


def versions_of(repository: Path, name: str) -> list[int]:
    """Numbers of the versions that exist (have a contract), smallest first."""
    folders = (repository / f"{name}_video").glob("*/contract.json")
    versions = (parse_version(path.parent.name) for path in folders)
    return sorted(version for version in versions if version is not None)


def names_in(repository: Path) -> list[str]:
    """Names of the models in a repository folder that have at least one version, sorted."""
    return sorted(
        {path.parent.parent.name.removesuffix("_video") for path in repository.glob("*_video/*/contract.json")}
    )


def read_contract(path: Path) -> ModelContract:
    """Read and check a contract.

    Raises:
        ContractError: the file is missing, is no JSON, or holds something this code cannot honour.
    """
    try:
        document = strict_json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ContractError(f"no contract at {path}: this version does not exist", file=str(path)) from error
    except (OSError, ValueError) as error:
        raise ContractError(f"{path} cannot be read as JSON: {error}", file=str(path)) from error
    contract: ModelContract = _build(ModelContract, document, "")
    return contract


def read_version(repository: Path, name: str, version: int) -> ModelContract:
    """The contract of a version, which has to lie under the name and number it says.

    Raises:
        ContractError: see `read_contract`, or it is the contract of another version.
    """
    contract = read_contract(contract_path(repository, name, version))
    _expect(contract.name == name, "name", name, contract.name)
    _expect(contract.version == version, "version", version, contract.version)
    return contract


def contract_document(contract: ModelContract) -> dict[str, Any]:
    """The contract as plain JSON values, in the order of its fields."""
    document: dict[str, Any] = _plain(contract)
    return document


def verify_files(contract: ModelContract, repository: Path) -> None:
    """Compare the sha256 of every file with the contract.

    Raises:
        ContractError: a file is missing or differs.
    """
    for name, expected in contract.files().items():
        path = repository / name
        if not path.is_file():
            raise ContractError(f"{name}: the contract names this file, it is not there", field=name)
        found = file_sha256(path)
        _expect(found == expected, f"sha256 of {name}", expected, found)


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _expect(is_right: bool, name: str, expected: object, found: object) -> None:
    if not is_right:
        raise ContractError(
            f"contract field {name}: expected {expected}, found {found}",
            field=name,
            expected=str(expected),
            found=str(found),
        )


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


def _build(kind: Any, value: Any, name: str) -> Any:
    """Turn plain JSON into `kind`, refusing unknown fields, missing fields and wrong types by name."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _build_record(kind, value, name)
    if origin is Literal:
        _expect(value in arguments, name, f"one of {', '.join(map(str, arguments))}", value)
        return value
    if origin is tuple:
        _expect(isinstance(value, list), name, "a list", value)
        if arguments[-1] is Ellipsis:
            return tuple(_build(arguments[0], item, f"{name}[{i}]") for i, item in enumerate(value))
        _expect(len(value) == len(arguments), name, f"{len(arguments)} values", value)
        return tuple(
            _build(part, item, f"{name}[{i}]") for i, (part, item) in enumerate(zip(arguments, value, strict=True))
        )
    if origin in (Mapping, dict, typing.get_origin(Mapping[str, int])):
        _expect(isinstance(value, dict), name, "an object", value)
        return {key: _build(arguments[1], item, f"{name}.{key}") for key, item in value.items()}
    if origin is types.UnionType:
        _expect(
            any(type(value) is part for part in arguments),
            name,
            " or ".join(part.__name__ for part in arguments),
            value,
        )
        return value
    if kind is Any:
        return value
    if kind is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), name, "a number", value)
        return float(value)
    _expect(type(value) is kind, name, kind.__name__, value)
    return value


def _build_record(kind: type, value: Any, name: str) -> Any:
    _expect(isinstance(value, dict), name or "contract", "an object", value)
    hints = typing.get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    unknown = sorted(set(value) - known)
    _expect(not unknown, name or "contract", f"fields {', '.join(sorted(known))}", f"unknown {', '.join(unknown)}")
    prefix = f"{name}." if name else ""
    built = {key: _build(hints[key], item, f"{prefix}{key}") for key, item in value.items()}
    try:
        return kind(**built)
    except TypeError as error:
        raise ContractError(f"contract field {name or 'contract'}: {error}", field=name) from error
