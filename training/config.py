"""Configuration of a training run: frozen dataclasses from one YAML file; `--set a.b=c` changes one value.

Unknown keys are errors. The resolved configuration is printed as YAML at the start, and stored in the checkpoint and
beside it.
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
    """The configuration is invalid; the message names the key, what is allowed and what was found."""


def _at_least(config: Any, prefix: str, lowest: float, *names: str) -> None:
    for name in names:
        if getattr(config, name) < lowest:
            raise ConfigError(f"{prefix}.{name}: at least {lowest} is needed, found {getattr(config, name)}")


def _number(value: object) -> object:
    """Parse a number that YAML reads as text because it has no dot, such as 1e-5."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _word(value: object) -> object:
    """Convert to text what YAML reads as a number, such as fold 1."""
    return str(value) if type(value) is int else value


Number = Annotated[float, BeforeValidator(_number)]
Word = Annotated[str, BeforeValidator(_word)]


class _Record:
    """Base of the parts of a configuration, with the options of pydantic."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class LoraConfig(_Record):
    """Low-rank adapters (arXiv:2106.09685) of frozen matrices."""

    rank: int = 0  # 0: no adapters
    alpha: Number = 16.0  # the update is alpha / rank times the product of its two factors
    matrices: tuple[str, ...] = ("*attn.in_proj_weight", "*attn.qkv.weight", "*out_proj.weight", "*attn.proj.weight")

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"model.lora.rank: 0 or more is needed, found {self.rank}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_Record):
    """The model: a family and the arguments of `build_model`; names of weights may contain `*`."""

    family: str = "actionclip"
    model: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""  # initial weights: a checkpoint file, or `open_clip:ARCH/TAG`; empty: random
    frozen: tuple[str, ...] = ()  # weights that are not trained
    lora: LoraConfig = LoraConfig()
    # standard deviation of new frame positions; the published 0.02 is negligible beside features of length sqrt(D)
    frame_position_spread: Number = 0.02
    checkpointing: bool = False  # recompute activations of blocks in the backward pass


@dataclass(frozen=True, kw_only=True)
class ExtraSource(_Record):
    """A list of labelled videos in addition to the training list, e.g. a server's feedback."""

    source: str = "feedback"  # feedback, frames, videos, csv, folder
    train: str = ""  # list or folder
    root: str = ""  # base folder of relative paths; empty: the folder of the list
    repeat: int = 1  # number of times each entry occurs in an epoch

    def __post_init__(self) -> None:
        if not self.train or not 1 <= self.repeat <= 1000:
            raise ConfigError(
                f"data.extra: `train` and a `repeat` of 1 to 1000 are needed, found {self.train!r} and {self.repeat}"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig(_Record):
    """The data; `training.sources.registry` and `training.data.clips.rules` define the known names."""

    source: str = "demo"  # demo, frames, videos, csv, folder, feedback, shards, ucf101, hmdb51, kinetics, ssv2, ntu
    train: str = ""  # list, CSV, folder of class folders, or shards (braces and * expand)
    val: str = ""  # the same for evaluation
    root: str = ""  # base folder of relative paths; empty: the folder of each list
    val_split: str = ""  # part of `val`, if it names parts: train, val or test; empty: val
    fold: Word = ""  # of ucf101 and hmdb51: 1, 2, 3; of ntu: xsub, xview, xset
    classes: str = ""  # class list, e.g. a CSV `id,name`; lists of numbers need it
    first_label: int | None = None  # 0 or 1: first label of lists of numbers; None: as in the class list
    shots: int = 0  # K training videos per class; 0: all
    shots_seed: int = 0  # seed of the choice
    templates: tuple[str, ...] = ("{}",)  # prompts of a class name; each step samples one
    tokenizer: str = ""  # tokenizer.json of a text tower that does not use CLIP's
    system: str = "plain"  # plain, actionclip, xclip: sampling, crops and augmentation
    image_size: int = 80  # S, pixels
    num_frames: int = 8  # T
    mean: tuple[Number, ...] = ()  # of RGB in 0..1; empty: the system's
    std: tuple[Number, ...] = ()
    fixed_frames: bool = False  # train on the frames that evaluation uses, as ActionCLIP's HMDB51 and UCF101 runs do
    randaugment: tuple[Number, ...] = ()  # N, M; empty: off (ActionCLIP on Kinetics-400: 2, 9)
    directional: bool = False  # labels distinguish left and right: never mirror
    mirrored: Mapping[str, str] = field(default_factory=dict)  # class -> class of its mirror image (X-CLIP)
    jitter: Literal["frame", "clip"] = "frame"  # scope of one colour change
    workers: int = 4  # loading processes; at most the number of available processors
    shuffle_buffer: int = 64  # size of the shuffle buffer for shards
    deadline_seconds: Number = 30.0  # per video; the decode process is killed after that
    max_bad_share: Number = 0.05  # of the entries; training stops above it
    extra: tuple[ExtraSource, ...] = ()  # additional training lists

    def __post_init__(self) -> None:
        for name, size in (("mean", (0, 3)), ("std", (0, 3)), ("randaugment", (0, 2))):
            if len(getattr(self, name)) not in size:
                raise ConfigError(f"data.{name}: {size[1]} numbers or none are needed, found {getattr(self, name)}")
        _at_least(self, "data", 1, "image_size", "num_frames", "shuffle_buffer")
        _at_least(self, "data", 0, "shots", "shots_seed")
        if self.first_label not in (None, 0, 1):
            raise ConfigError(f"data.first_label: 0 or 1 is needed, found {self.first_label}")
        if self.val_split not in ("", "train", "val", "test"):
            raise ConfigError(f"data.val_split: train, val or test is needed, found {self.val_split!r}")
        if not 0 <= self.max_bad_share < 1:
            raise ConfigError(f"data.max_bad_share: 0 to below 1 is needed, found {self.max_bad_share}")
        if self.workers < 0 or not 0 < self.deadline_seconds <= 3600:
            raise ConfigError(
                f"data.workers: 0 or more, data.deadline_seconds: above 0 to 3600 are needed, "
                f"found {self.workers}, {self.deadline_seconds}"
            )
        if not self.templates or any(template.count("{}") != 1 for template in self.templates):
            raise ConfigError(f"data.templates: texts with one {{}} each are needed, found {list(self.templates)}")


@dataclass(frozen=True, kw_only=True)
class LossConfig(_Record):
    """The loss; `training.objectives` defines the kinds."""

    kind: str = "phrases"  # phrases: against every class name; pairs: ActionCLIP's KL of the batch; sigmoid: SigLIP's
    smoothing: Number = 0.0  # label smoothing
    mixup: Number = 0.0  # alpha; X-CLIP 0.8
    cutmix: Number = 0.0  # alpha; X-CLIP 1.0
    cutmix_share: Number = 0.5  # of the batches if mixup and cutmix are both on
    evaluation_scale: Number = 0.0  # logit scale for evaluation and serving; 0: the learned one

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1 or not 0 <= self.cutmix_share <= 1:
            raise ConfigError(
                f"loss.smoothing: 0 to below 1, loss.cutmix_share: 0 to 1 are needed, "
                f"found {self.smoothing}, {self.cutmix_share}"
            )
        _at_least(self, "loss", 0, "mixup", "cutmix", "evaluation_scale")


@dataclass(frozen=True, kw_only=True)
class OptimConfig(_Record):
    """The optimiser and the learning rate."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    groups: str = "plain"  # plain, actionclip, xclip: weight decay and learning rate by part
    lr: Number = 1.5e-3  # highest learning rate
    vision_ratio: Number = 1.0  # ActionCLIP's groups: learning rate of the vision tower relative to lr
    fusion_ratio: Number = 10.0  # the same for the fusion head
    layer_decay: Number = 1.0  # learning rate of a block relative to the next one
    weight_decay: Number = 0.05
    betas: tuple[Number, ...] = (0.9, 0.98)
    momentum: Number = 0.9  # of sgd
    schedule: str = "cosine"  # cosine, actionclip_cosine, actionclip_multistep, xclip_cosine
    warmup_steps: int = 0
    warmup_epochs: Number = 0.0  # instead of steps
    drops: tuple[Number, ...] = ()  # multistep: epochs after which the rate falls to a tenth
    clip_norm: Number = 0.0  # maximum gradient norm; 0: no clipping
    ema: Number = 0.0  # decay of averaged weights, which are then the ones saved; 0: off
    highest_scale: Number = 100.0  # upper bound of exp(logit_scale); 0: none

    def __post_init__(self) -> None:
        if not 0 <= self.ema < 1:
            raise ConfigError(f"optim.ema: 0 to below 1 is needed, found {self.ema}")
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"optim.layer_decay: above 0 to 1 is needed, found {self.layer_decay}")
        if self.warmup_steps and self.warmup_epochs:
            raise ConfigError("optim.warmup_steps, optim.warmup_epochs: give one of them")
        _at_least(self, "optim", 0, "lr", "weight_decay", "warmup_steps", "warmup_epochs", "clip_norm", "highest_scale")


@dataclass(frozen=True, kw_only=True)
class RunConfig(_Record):
    """Length, intervals and output of the run."""

    out: str = "runs/demo"
    steps: int = 0  # optimiser steps; or give epochs
    epochs: Number = 0.0
    batch_size: int = 32  # samples per step, over all processes
    micro_batch: int = 0  # samples per forward pass of a process; 0: all of its share
    seed: int = 0
    log_every: int = 20  # steps
    evaluate_every: int = 0  # steps; 0: once per epoch
    save_every: int = 0  # steps; 0: once per epoch
    threads: int = 2  # torch threads on a CPU; 0: torch's default
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast on a GPU; weights stay fp32
    compile: bool = False
    wandb: str = ""  # project at Weights & Biases to report to; empty: none

    def __post_init__(self) -> None:
        _at_least(self, "run", 1, "batch_size", "log_every")
        _at_least(self, "run", 0, "steps", "epochs", "micro_batch", "evaluate_every", "save_every", "threads")
        if bool(self.steps) == bool(self.epochs):
            raise ConfigError(f"run.steps, run.epochs: one of them is needed, found {self.steps}, {self.epochs}")


# keys that change no weight: a run may be resumed with other values of them
NEUTRAL = frozenset(
    {"data.workers", "data.deadline_seconds", "data.max_bad_share", "run.out", "run.log_every", "run.evaluate_every",
     "run.save_every", "run.threads", "run.wandb"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig(_Record):
    """Configuration of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig


def load_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, merged over the file in its key `base`, and apply `a.b=value` changes.

    Raises:
        ConfigError: a key is unknown, a type is wrong, a file cannot be read, or a change lacks `=`.
    """
    document = _read(path)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: write it as a.b=value")
        try:
            _put(document, key.split("."), yaml.safe_load(value))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise ConfigError(f"--set {change}: the value is no YAML: {_yaml_fault(error)}") from error
    if "run" not in document:
        raise ConfigError("run: the length is missing; give run.steps or run.epochs")
    return _validated(document)


def plain(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as plain values."""
    return asdict(config)


def as_yaml(config: TrainConfig) -> str:
    """Return the complete configuration as YAML that `load_config` reads."""
    text: str = yaml.dump(plain(config), Dumper=_TuplesAsLists, sort_keys=False, allow_unicode=True, width=120)
    return text


class _TuplesAsLists(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Write equal objects in full instead of as aliases."""
        return True


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Add the defaults of new keys to a plain configuration that an earlier version saved."""
    return _overlay(plain(TrainConfig(run=RunConfig(steps=1))), saved)


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the keys `a.b` whose values differ between two plain configurations."""
    found = []
    for name in sorted({*one, *other}):
        here, there = one.get(name), other.get(name)
        if isinstance(here, Mapping) and isinstance(there, Mapping):
            found += differences(here, there, f"{prefix}{name}.")
        elif here != there:
            found.append(f"{prefix}{name}")
    return found


def _read(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no YAML: {_yaml_fault(error)}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: a mapping is needed, found {type(document).__name__}")
    base = document.pop("base", None)
    if base is None:
        return document
    named = (path.parent / str(base)).resolve()
    if named in above:
        raise ConfigError(f"{path}: base {base} refers back to itself")
    return _overlay(_read(named, (*above, named)), document)


def _yaml_fault(error: Exception) -> str:
    """Return the error and its position in one line; the library's message would quote the file."""
    if isinstance(error, RecursionError):
        return "it nests too deeply"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}"
    return str(error).split("\n")[0]


def _overlay(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        both_map = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _overlay(merged[name], value) if both_map else value
    return merged


def _put(document: dict[str, Any], keys: list[str], value: Any) -> None:
    for place, key in enumerate(keys[:-1]):
        document = document.setdefault(key, {})
        if not isinstance(document, dict):
            raise ConfigError(f"--set {'.'.join(keys)}: {'.'.join(keys[: place + 1])} is a value, not a part with keys")
    document[keys[-1]] = value


def _validated(document: Mapping[str, Any]) -> TrainConfig:
    """Validate a document strictly, as JSON, because it has lists where the fields are tuples.

    Raises:
        ConfigError: names the key, what is allowed and what was found.
    """
    for name, value in _leaves(document):
        if not isinstance(value, str | int | float | None):
            raise ConfigError(f"{name}: text or a number is needed, found {value!r}; put quotes around it")
    try:
        return _READER.validate_json(json.dumps(document))
    except ValidationError as error:
        raise _config_error(error) from error


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield (key, value) of all plain values of a document.

    Raises:
        ConfigError: a key is not text.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{name or 'configuration'}: keys are text, found {key!r}")
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{name}[{number}]")
    else:
        yield name, value


def _config_error(error: ValidationError) -> ConfigError:
    """Return pydantic's first error as key, expected and found."""
    fault = error.errors(include_url=False)[0]
    own = fault.get("ctx", {}).get("error")
    if isinstance(own, ConfigError):
        return own
    *above, last = fault["loc"] or ("configuration",)
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"]).lstrip(".")
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in above).lstrip(".")
        return ConfigError(f"{where or 'configuration'}: unknown key {last}; known: {', '.join(_known_keys(above))}")
    if fault["type"] == "missing":
        return ConfigError(f"{name}: a value is needed, found none")
    expected = WORDS.get(fault["type"]) or str(fault.get("ctx", {}).get("expected", fault["msg"]))
    return ConfigError(f"{name or 'configuration'}: {expected} is needed, found {repr(fault['input'])[:200]}")


def _known_keys(above: Sequence[int | str]) -> list[str]:
    """Return the keys of the part of a configuration at a position."""
    kind: Any = TrainConfig
    for part in above:
        hints = typing.get_type_hints(kind) if isinstance(part, str) else {}
        kind = hints[part] if isinstance(part, str) else typing.get_args(kind)[0]
    return [item.name for item in fields(kind)]


_READER = TypeAdapter(TrainConfig)
WORDS = {  # by pydantic error type
    "float_type": "a number", "finite_number": "a finite number", "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text", "tuple_type": "a list", "mapping_type": "a mapping", "dict_type": "a mapping",
    "dataclass_type": "a mapping", "model_type": "a mapping",
}  # fmt: skip
