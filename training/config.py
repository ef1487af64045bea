"""Configuration of a training run: frozen records from one YAML file, `--set a.b=c` to change one value.

Unknown keys are errors. The resolved configuration is printed at start and stored in the checkpoint.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

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
class DataConfig:
    """What it is trained on."""

    image_size: int = 80  # S, pixels
    num_frames: int = 8  # T
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    workers: int = 1  # rendering processes


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
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        return tuple(float(item) for item in value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is not kind:
        raise ConfigError(f"{name}: {kind.__name__} is needed, found {value!r}")
    return value
