"""Configuration of a training run: frozen records from one YAML file, `--set a.b=c` to change one value.

Unknown keys are errors. The resolved configuration is printed at start and stored in the checkpoint.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import yaml


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, what is allowed and what was found."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What is trained: a family and the plain values `build_model` takes."""

    family: str = "actionclip"
    model: Mapping[str, Any] = field(default_factory=dict)
    # standard deviation of fresh frame positions; ActionCLIP's 0.02 drowns beside features of length sqrt(D)
    frame_position_spread: float = 0.5


@dataclass(frozen=True, kw_only=True)
class ExtraSource:
    """A further list of labelled videos that joins the training entries, e.g. a server's feedback."""

    source: str = "feedback"  # feedback, frames, videos, csv, folder
    train: str = ""  # list or folder
    root: str = ""  # folder that relative paths start from; the list's own where empty
    repeat: int = 1  # times each of its entries counts in an epoch

    def __post_init__(self) -> None:
        if not self.train or not 1 <= self.repeat <= 1000:
            raise ConfigError(
                f"data.extra: `train` and a `repeat` of 1 to 1000 are needed, found {self.train!r} and {self.repeat}"
            )


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What it is trained on; `training.data.sources` and `training.data.systems` hold the names that are known."""

    source: str = "demo"  # demo, frames, videos, csv, folder, feedback, shards
    train: str = ""  # list, CSV, folder of class folders, or shards (braces and * expand)
    val: str = ""  # the same, to evaluate on
    root: str = ""  # folder that relative paths in lists start from; the list's own where empty
    classes: str = ""  # CSV `id,name`; lists of numbers need it
    templates: tuple[str, ...] = ("{}",)  # prompts of a class name, one of them drawn at each step
    system: str = "plain"  # plain, actionclip, xclip: sampling, cuts and augmentation
    image_size: int = 80  # S, pixels
    num_frames: int = 8  # T
    mean: tuple[float, ...] = ()  # of RGB in 0..1; the system's where empty
    std: tuple[float, ...] = ()
    randaugment: tuple[float, ...] = ()  # N, M; none where empty (ActionCLIP on Kinetics-400: 2, 9)
    directional: bool = False  # labels know left from right: never mirror
    mirrored: Mapping[str, str] = field(default_factory=dict)  # class -> what its mirror image shows (X-CLIP)
    jitter: Literal["frame", "clip"] = "frame"  # how far one draw of colours reaches
    workers: int = 1  # loading processes
    shuffle_buffer: int = 64  # samples of shards that wait to be drawn, each worker
    deadline_seconds: float = 30.0  # of one video; past it the decode process is killed
    max_bad_share: float = 0.05  # of the entries; training stops past it
    extra: tuple[ExtraSource, ...] = ()  # further lists to train on, beside a list or folder

    def __post_init__(self) -> None:
        for name, size in (("mean", (0, 3)), ("std", (0, 3)), ("randaugment", (0, 2))):
            if len(getattr(self, name)) not in size:
                raise ConfigError(f"data.{name}: {size[1]} numbers or none are needed, found {getattr(self, name)}")
        for name in ("image_size", "num_frames", "shuffle_buffer"):
            if getattr(self, name) < 1:
                raise ConfigError(f"data.{name}: at least 1 is needed, found {getattr(self, name)}")
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
class OptimConfig:
    """How the weights move."""

    lr: float = 1.5e-3  # highest learning rate
    warmup_steps: int = 100
    weight_decay: float = 0.05  # of matrices; norms, biases and scales have none
    betas: tuple[float, ...] = (0.9, 0.98)
    clip_norm: float = 1.0
    ema: float = 0.995  # decay of the averaged weights, which are the ones kept


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How long, how often, where to."""

    out: str = "runs/demo"
    steps: int = 1100
    batch_size: int = 32
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 250
    save_every: int = 100
    threads: int = 2


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "evaluate_every", "save_every"):
            if getattr(self.run, name) < 1:
                raise ConfigError(f"run.{name}: at least 1 is needed, found {getattr(self.run, name)}")
        if not 0 <= self.optim.ema < 1:
            raise ConfigError(f"optim.ema: 0 to below 1 is needed, found {self.optim.ema}")


def load_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file and apply `a.b=value` changes.

    Raises:
        ConfigError: an unknown key, a wrong type, or a change without `=`.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ConfigError(f"--set {change}: write it as a.b=value")
        _put(document, key.split("."), yaml.safe_load(value))
    config: TrainConfig = _build(TrainConfig, document, "")
    return config


def plain(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain values."""
    return asdict(config)


def _put(document: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        document = document.setdefault(key, {})
    document[keys[-1]] = value


def _build(kind: Any, value: Any, name: str) -> Any:
    if not is_dataclass(kind):
        return _checked(kind, value, name)
    if not isinstance(value, dict):
        raise ConfigError(f"{name or 'configuration'}: a mapping is needed, found {value!r}")
    hints = typing.get_type_hints(kind)
    unknown = sorted(set(value) - {item.name for item in fields(kind)})
    if unknown:
        known = ", ".join(item.name for item in fields(kind))
        raise ConfigError(f"{name or 'configuration'}: unknown keys {', '.join(unknown)}; known: {known}")
    prefix = f"{name}." if name else ""
    return kind(**{key: _build(hints[key], item, f"{prefix}{key}") for key, item in value.items()})  # type: ignore[operator]


def _checked(kind: Any, value: Any, name: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_build(parts[0], item, f"{name}[{i}]") for i, item in enumerate(value))
    if origin is Literal and value not in parts:
        raise ConfigError(f"{name}: one of {', '.join(parts)} is needed, found {value!r}")
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if origin in (tuple, Mapping) and not isinstance(value, origin):
        raise ConfigError(f"{name}: a {'list' if origin is tuple else 'mapping'} is needed, found {value!r}")
    if isinstance(kind, type) and type(value) is not kind:
        raise ConfigError(f"{name}: {kind.__name__} is needed, found {value!r}")
    return value
