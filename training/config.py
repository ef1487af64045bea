"""Configuration of a training run: frozen dataclasses, read from a YAML file; `--set a.b=c` overrides one value.

Unknown keys are errors. The resolved configuration is printed as YAML at the start, stored in the checkpoint, and
written to a file beside it.
"""

import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from training.errors import InputError


class ConfigError(InputError, ValueError):
    """The configuration is invalid; the message contains the key, what is allowed and what was found."""


def _require_at_least(config: Any, prefix: str, minimum: float, *names: str) -> None:
    for name in names:
        if getattr(config, name) < minimum:
            raise ConfigError(f"{prefix}.{name} must be at least {minimum}, got {getattr(config, name)}")


def _parse_number(value: object) -> object:
    """Parse a number that YAML reads as text because it has no dot, such as 1e-5."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _number_to_text(value: object) -> object:
    """Convert a number to text, because YAML reads a value such as fold 1 as a number."""
    return str(value) if type(value) is int else value


Number = Annotated[float, BeforeValidator(_parse_number)]
Text = Annotated[str, BeforeValidator(_number_to_text)]


class _Section:
    """Base class of the sections of a configuration; sets the options of pydantic."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class LoraConfig(_Section):
    """Low-rank adapters (arXiv:2106.09685) for frozen matrices."""

    rank: int = 0  # 0: no adapters
    alpha: Number = 16.0  # the product of the two factors is multiplied by alpha / rank
    matrices: tuple[str, ...] = ("*attn.in_proj_weight", "*attn.qkv.weight", "*out_proj.weight", "*attn.proj.weight")

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"model.lora.rank must be at least 0, got {self.rank}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_Section):
    """The model: a family, and the arguments of `build_model`; patterns of weight names may contain `*`."""

    family: str = "actionclip"
    model: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""  # initial weights: a checkpoint file, or `open_clip:ARCH/TAG`; empty: random
    frozen: tuple[str, ...] = ()  # patterns of the names of weights that are not trained
    lora: LoraConfig = LoraConfig()
    # standard deviation of new frame position embeddings; the published 0.02 is small compared to features of norm
    # sqrt(D)
    frame_position_spread: Number = 0.02
    checkpointing: bool = False  # recompute activations of blocks in the backward pass


@dataclass(frozen=True, kw_only=True)
class ExtraSource(_Section):
    """A list of labelled videos that is used in addition to the training list, e.g. the feedback of a server."""

    source: str = "feedback"  # feedback, frames, videos, csv, folder
    train: str = ""  # list or folder
    root: str = ""  # base folder of relative paths; empty: the folder of the list
    repeat: int = 1  # number of times each entry occurs in an epoch

    def __post_init__(self) -> None:
        if not self.train or not 1 <= self.repeat <= 1000:
            raise ConfigError(
                f"data.extra: `train` must not be empty and `repeat` must be 1 to 1000, "
                f"got {self.train!r} and {self.repeat}"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig(_Section):
    """The data; `training.sources.registry` defines the names of sources, `training.data.clips.rules` of systems."""

    source: str = "demo"  # demo, frames, videos, csv, folder, feedback, shards, ucf101, hmdb51, kinetics, ssv2, ntu
    train: str = ""  # list, CSV, folder of class folders, or shards (braces and * expand)
    val: str = ""  # evaluation data, in the same formats
    root: str = ""  # base folder of relative paths; empty: the folder of each list
    val_split: str = ""  # split of `val` to evaluate on, if it has splits: train, val or test; empty: val
    fold: Text = ""  # for ucf101 and hmdb51: 1, 2, 3; for ntu: xsub, xview, xset
    classes: str = ""  # class list, e.g. a CSV `id,name`; required if the labels are numbers
    first_label: int | None = None  # 0 or 1: first label if the labels are numbers; None: first id of the class list
    shots: int = 0  # K training videos per class; 0: all
    shots_seed: int = 0  # seed for sampling these videos
    templates: tuple[str, ...] = ("{}",)  # prompt templates; each step samples one per class
    tokenizer: str = ""  # tokenizer.json of a text tower that does not use CLIP's tokenizer
    system: str = "plain"  # plain, actionclip, xclip: sampling, crops and augmentation
    image_size: int = 80  # S, pixels
    num_frames: int = 8  # T
    mean: tuple[Number, ...] = ()  # mean of R, G and B in 0..1; empty: that of the system
    std: tuple[Number, ...] = ()  # standard deviation of R, G and B in 0..1; empty: that of the system
    fixed_frames: bool = False  # sample frames as in evaluation, as ActionCLIP does on HMDB51 and UCF101
    randaugment: tuple[Number, ...] = ()  # N, M; empty: off (ActionCLIP on Kinetics-400: 2, 9)
    directional: bool = False  # labels distinguish left and right: never mirror
    mirrored: Mapping[str, str] = field(default_factory=dict)  # class -> class of its mirror image (X-CLIP)
    jitter: Literal["frame", "clip"] = "frame"  # sample colour jitter once per frame or once per clip
    workers: int = 4  # loading processes; at most the number of available processors are used
    shuffle_buffer: int = 64  # size of the shuffle buffer for shards, in samples
    deadline_seconds: Number = 30.0  # time limit per video; the decode process is killed after that
    max_bad_share: Number = 0.05  # largest accepted fraction of unreadable entries; above it, training stops
    extra: tuple[ExtraSource, ...] = ()  # additional training lists

    def __post_init__(self) -> None:
        for name, size in (("mean", 3), ("std", 3), ("randaugment", 2)):
            if len(getattr(self, name)) not in (0, size):
                raise ConfigError(f"data.{name} must be {size} numbers or empty, got {list(getattr(self, name))}")
        _require_at_least(self, "data", 1, "image_size", "num_frames", "shuffle_buffer")
        _require_at_least(self, "data", 0, "shots", "shots_seed", "workers")
        if self.first_label not in (None, 0, 1):
            raise ConfigError(f"data.first_label must be 0 or 1, got {self.first_label}")
        if self.val_split not in ("", "train", "val", "test"):
            raise ConfigError(f"data.val_split must be train, val or test, got {self.val_split!r}")
        if not 0 <= self.max_bad_share < 1:
            raise ConfigError(f"data.max_bad_share must be at least 0 and less than 1, got {self.max_bad_share}")
        if not 0 < self.deadline_seconds <= 3600:
            raise ConfigError(
                f"data.deadline_seconds must be greater than 0 and at most 3600, got {self.deadline_seconds}"
            )
        if not self.templates or any(template.count("{}") != 1 for template in self.templates):
            raise ConfigError(
                f"data.templates must be texts that contain {{}} exactly once, got {list(self.templates)}"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfig(_Section):
    """The loss; `training.objectives` defines the kinds."""

    kind: str = "phrases"  # phrases: cross entropy over all classes; pairs: ActionCLIP's loss; sigmoid: SigLIP's loss
    smoothing: Number = 0.0  # label smoothing
    mixup: Number = 0.0  # alpha of MixUp; 0: off; X-CLIP uses 0.8
    cutmix: Number = 0.0  # alpha of CutMix; 0: off; X-CLIP uses 1.0
    cutmix_share: Number = 0.5  # probability of CutMix for a batch, if both MixUp and CutMix are on
    evaluation_scale: Number = 0.0  # logit scale for evaluation and serving; 0: the learned one

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"loss.smoothing must be at least 0 and less than 1, got {self.smoothing}")
        if not 0 <= self.cutmix_share <= 1:
            raise ConfigError(f"loss.cutmix_share must be 0 to 1, got {self.cutmix_share}")
        _require_at_least(self, "loss", 0, "mixup", "cutmix", "evaluation_scale")


@dataclass(frozen=True, kw_only=True)
class OptimConfig(_Section):
    """The optimiser and the learning rate."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    groups: str = "plain"  # plain, actionclip, xclip: parameter groups with their weight decay and learning rate
    lr: Number = 1.5e-3  # peak learning rate
    vision_ratio: Number = 1.0  # learning rate of the vision tower relative to lr, for the groups actionclip
    fusion_ratio: Number = 10.0  # learning rate of the fusion head relative to lr, for the groups actionclip
    layer_decay: Number = 1.0  # learning rate of a block relative to that of the next block
    weight_decay: Number = 0.05
    betas: tuple[Number, ...] = (0.9, 0.98)
    momentum: Number = 0.9  # for sgd
    schedule: str = "cosine"  # cosine, actionclip_cosine, actionclip_multistep, xclip_cosine
    warmup_steps: int = 0
    warmup_epochs: Number = 0.0  # alternative to warmup_steps
    drops: tuple[Number, ...] = ()  # for actionclip_multistep: epochs at which the rate is divided by 10
    clip_norm: Number = 0.0  # maximum gradient norm; 0: no clipping
    ema: Number = 0.0  # decay of the moving average of the weights, which is then evaluated and saved; 0: off
    highest_scale: Number = 100.0  # upper bound of exp(logit_scale); 0: none

    def __post_init__(self) -> None:
        if not 0 <= self.ema < 1:
            raise ConfigError(f"optim.ema must be at least 0 and less than 1, got {self.ema}")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"optim.layer_decay must be greater than 0 and at most 1, got {self.layer_decay}")
        if self.warmup_steps and self.warmup_epochs:
            raise ConfigError(
                f"optim.warmup_steps and optim.warmup_epochs cannot both be set, got {self.warmup_steps} and "
                f"{self.warmup_epochs}"
            )
        names = ("lr", "weight_decay", "warmup_steps", "warmup_epochs", "clip_norm", "highest_scale")
        _require_at_least(self, "optim", 0, *names)


@dataclass(frozen=True, kw_only=True)
class RunConfig(_Section):
    """Length, intervals, output and device of the run."""

    out: str = "runs/demo"  # folder of checkpoints, logs and evaluations
    steps: int = 0  # number of optimiser steps; alternative to epochs
    epochs: Number = 0.0
    batch_size: int = 32  # samples per step, over all processes
    micro_batch: int = 0  # samples per forward pass of a process; 0: its share of the batch
    seed: int = 0
    log_every: int = 20  # steps
    evaluate_every: int = 0  # steps; 0: once per epoch
    save_every: int = 0  # steps; 0: once per epoch
    threads: int = 2  # torch threads on a CPU; 0: torch's default
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast on a GPU; weights stay fp32
    compile: bool = False  # use torch.compile
    wandb: str = ""  # project at Weights & Biases to report to; empty: none

    def __post_init__(self) -> None:
        _require_at_least(self, "run", 1, "batch_size", "log_every")
        _require_at_least(self, "run", 0, "steps", "epochs", "micro_batch", "evaluate_every", "save_every", "threads")
        if bool(self.steps) == bool(self.epochs):
            raise ConfigError(
                f"exactly one of run.steps and run.epochs must be set, got {self.steps} and {self.epochs}"
            )


# keys that do not influence the weights; a run may be resumed with different values
NEUTRAL_KEYS = frozenset(
    {"data.workers", "data.deadline_seconds", "data.max_bad_share", "run.out", "run.log_every", "run.evaluate_every",
     "run.save_every", "run.threads", "run.wandb"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig(_Section):
    """The configuration of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a configuration from a YAML file, and apply overrides such as `optim.lr=1e-5`.

    If the file contains the key `base`, it is merged over the file with that path, relative to its own folder.

    Raises:
        ConfigError: a key is unknown, a type is wrong, a file cannot be read, or an override has no `=`.
    """
    document = _read_yaml(path)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise ConfigError(f"--set must be a.b=value, got {override}")
        try:
            _set_value(document, key.split("."), yaml.safe_load(value))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise ConfigError(
                f"--set {override}: the value is not valid YAML: {_describe_yaml_error(error)}"
            ) from error
    if "run" not in document:
        raise ConfigError("the length of the run is missing; set run.steps or run.epochs")
    return _validate(document)


def as_dict(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as nested dicts of plain values."""
    return asdict(config)


def as_yaml(config: TrainConfig) -> str:
    """Return the complete configuration as YAML that `load_config` reads."""
    text: str = yaml.dump(as_dict(config), Dumper=_TuplesAsLists, sort_keys=False, allow_unicode=True, width=120)
    return text


class _TuplesAsLists(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write equal objects in full instead of as aliases."""
        return True


def with_defaults(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Add default values for missing keys to a configuration that an earlier version of this project saved."""
    return _merge(as_dict(TrainConfig(run=RunConfig(steps=1))), saved)


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the keys `a.b` whose values differ between two configurations in the form of `as_dict`."""
    changed = []
    for name in sorted({*old, *new}):
        old_value, new_value = old.get(name), new.get(name)
        if isinstance(old_value, Mapping) and isinstance(new_value, Mapping):
            changed += changed_keys(old_value, new_value, f"{prefix}{name}.")
        elif old_value != new_value:
            changed.append(f"{prefix}{name}")
    return changed


def _read_yaml(path: Path, dependents: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file merged over its base; `dependents` are the files whose base is being read."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not valid YAML: {_describe_yaml_error(error)}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must contain a mapping, got {type(document).__name__}")
    base = document.pop("base", None)
    if base is None:
        return document
    base_path = (path.parent / str(base)).resolve()
    if base_path in dependents:
        raise ConfigError(f"{path}: the base {base} depends on itself")
    return _merge(_read_yaml(base_path, (*dependents, base_path)), document)


def _describe_yaml_error(error: Exception) -> str:
    """Return the error and its position in one line, without the quotation of the file in the library's message."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return str(error).split("\n")[0]


def _merge(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in overrides.items():
        are_mappings = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merge(merged[name], value) if are_mappings else value
    return merged


def _set_value(document: dict[str, Any], keys: list[str], value: Any) -> None:
    for depth, key in enumerate(keys[:-1], start=1):
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise ConfigError(f"--set {'.'.join(keys)}: {'.'.join(keys[:depth])} is a value and has no keys")
    document[keys[-1]] = value


def _validate(document: Mapping[str, Any]) -> TrainConfig:
    """Validate a document strictly; it is validated as JSON, because it has lists where the fields are tuples.

    Raises:
        ConfigError: a value is invalid; the message contains the key, what is allowed and what was found.
    """
    for name, value in _leaves(document):
        if not isinstance(value, str | int | float | None):
            raise ConfigError(f"{name} must be text or a number, got {value!r}; put it in quotes")
    try:
        return _ADAPTER.validate_json(json.dumps(document))
    except ValidationError as error:
        raise _config_error(error) from error


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield (key, value) for all values of a document that are neither mappings nor lists.

    Raises:
        ConfigError: a key is not text.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{name or 'configuration'}: keys must be text, got {key!r}")
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{name}[{index}]")
    else:
        yield name, value


def _config_error(error: ValidationError) -> ConfigError:
    """Convert the first error of pydantic to a ConfigError."""
    details = error.errors(include_url=False)[0]
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError):
        return cause
    name = _format_location(details["loc"]) or "configuration"
    if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        *section, last = details["loc"] or ("configuration",)
        known = ", ".join(_known_keys(section))
        return ConfigError(f"{_format_location(section) or 'configuration'}: unknown key {last}; known keys: {known}")
    if details["type"] == "missing":
        return ConfigError(f"{name} must be set")
    expected = EXPECTED_TYPES.get(details["type"]) or details.get("ctx", {}).get("expected")
    requirement = f"{name} must be {expected}" if expected else f"{name}: {details['msg']}"
    return ConfigError(f"{requirement}, got {repr(details['input'])[:200]}")


def _format_location(location: Sequence[int | str]) -> str:
    """Return a position in a document as `a.b[0]`."""
    return "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in location).lstrip(".")


def _known_keys(location: Sequence[int | str]) -> list[str]:
    """Return the keys of the section at a position in a document."""
    section: Any = TrainConfig
    for item in location:
        hints = typing.get_type_hints(section) if isinstance(item, str) else {}
        section = hints[item] if isinstance(item, str) else typing.get_args(section)[0]
    return [item.name for item in fields(section)]


_ADAPTER = TypeAdapter(TrainConfig)
EXPECTED_TYPES = {  # pydantic's error type -> description of the allowed values
    "float_type": "a number", "finite_number": "a finite number", "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text", "tuple_type": "a list", "mapping_type": "a mapping", "dict_type": "a mapping",
    "dataclass_type": "a mapping", "model_type": "a mapping",
}  # fmt: skip
