"""Configuration of a training run: frozen records from one YAML file, `--set a.b=c` to change one value.

Unknown keys are errors. The resolved configuration is printed at start as YAML, kept beside the checkpoint and in it.
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
    """A configuration that cannot be used; the message names the key, what is allowed and what was found."""


def _at_least(config: Any, prefix: str, lowest: float, *names: str) -> None:
    for name in names:
        if getattr(config, name) < lowest:
            raise ConfigError(f"{prefix}.{name}: at least {lowest} is needed, found {getattr(config, name)}")


def _number(value: object) -> object:
    """A number that YAML takes for text, since it has no dot: 1e-5."""
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


def _word(value: object) -> object:
    """Text that YAML takes for a number: fold 1."""
    return str(value) if type(value) is int else value


Number = Annotated[float, BeforeValidator(_number)]
Word = Annotated[str, BeforeValidator(_word)]


class _Record:
    """Base of every part of a configuration: how pydantic reads it."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, kw_only=True)
class LoraConfig(_Record):
    """Low-rank adapters (arXiv:2106.09685) of matrices that themselves stay as they are."""

    rank: int = 0  # no adapters where 0
    alpha: Number = 16.0  # the change is alpha / rank times the product of its two factors
    matrices: tuple[str, ...] = ("*attn.in_proj_weight", "*attn.qkv.weight", "*out_proj.weight", "*attn.proj.weight")

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise ConfigError(f"model.lora.rank: 0 or more is needed, found {self.rank}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_Record):
    """What is trained: a family and the plain values `build_model` takes; names of weights match with `*`."""

    family: str = "actionclip"
    model: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""  # weights to begin from: a checkpoint file, or `open_clip:ARCH/TAG`; fresh where empty
    frozen: tuple[str, ...] = ()  # weights that stay as they are
    lora: LoraConfig = LoraConfig()
    # standard deviation of fresh frame positions; the systems' own 0.02 drowns beside features of length sqrt(D)
    frame_position_spread: Number = 0.02
    checkpointing: bool = False  # blocks keep no activations and are run again on the way back


@dataclass(frozen=True, kw_only=True)
class ExtraSource(_Record):
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
class DataConfig(_Record):
    """What it is trained on; `training.sources.registry` and `training.data.clips.rules` hold the known names."""

    source: str = "demo"  # demo, frames, videos, csv, folder, feedback, shards, ucf101, hmdb51, kinetics, ssv2, ntu
    train: str = ""  # list, CSV, folder of class folders, or shards (braces and * expand)
    val: str = ""  # the same, to evaluate on
    root: str = ""  # folder that relative paths in lists start from; the list's own where empty
    val_split: str = ""  # part of `val`, where it names parts: train, val, test; val where empty
    fold: Word = ""  # of ucf101 and hmdb51: 1, 2, 3; of ntu: xsub, xview, xset
    classes: str = ""  # class list, e.g. a CSV `id,name`; lists of numbers need it
    first_label: int | None = None  # 0 or 1: what lists of numbers count from; as the class list where absent
    shots: int = 0  # K training videos of each class; all of them where 0
    shots_seed: int = 0  # which K
    templates: tuple[str, ...] = ("{}",)  # prompts of a class name, one of them drawn at each step
    tokenizer: str = ""  # tokenizer.json of a text tower that has not CLIP's
    system: str = "plain"  # plain, actionclip, xclip: sampling, cuts and augmentation
    image_size: int = 80  # S, pixels
    num_frames: int = 8  # T
    mean: tuple[Number, ...] = ()  # of RGB in 0..1; the system's where empty
    std: tuple[Number, ...] = ()
    fixed_frames: bool = False  # train on the frames testing looks at, as ActionCLIP's HMDB51 and UCF101 runs do
    randaugment: tuple[Number, ...] = ()  # N, M; none where empty (ActionCLIP on Kinetics-400: 2, 9)
    directional: bool = False  # labels know left from right: never mirror
    mirrored: Mapping[str, str] = field(default_factory=dict)  # class -> what its mirror image shows (X-CLIP)
    jitter: Literal["frame", "clip"] = "frame"  # how far one draw of colours reaches
    workers: int = 4  # loading processes; never more than the processors a process may run on
    shuffle_buffer: int = 64  # samples of shards that wait to be drawn
    deadline_seconds: Number = 30.0  # of one video; past it the decode process is killed
    max_bad_share: Number = 0.05  # of the entries; training stops past it
    extra: tuple[ExtraSource, ...] = ()  # further lists to train on, beside a list or folder

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
    """What is asked of the features; `training.objectives` holds the kinds."""

    kind: str = "phrases"  # phrases: against every class name; pairs: ActionCLIP's KL of the batch; sigmoid: SigLIP's
    smoothing: Number = 0.0  # of the targets
    mixup: Number = 0.0  # alpha; X-CLIP 0.8
    cutmix: Number = 0.0  # alpha; X-CLIP 1.0
    cutmix_share: Number = 0.5  # of the batches where both are on
    evaluation_scale: Number = 0.0  # logits when testing and serving: this times the cosine; the learned one where 0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1 or not 0 <= self.cutmix_share <= 1:
            raise ConfigError(
                f"loss.smoothing: 0 to below 1, loss.cutmix_share: 0 to 1 are needed, "
                f"found {self.smoothing}, {self.cutmix_share}"
            )
        _at_least(self, "loss", 0, "mixup", "cutmix", "evaluation_scale")


@dataclass(frozen=True, kw_only=True)
class OptimConfig(_Record):
    """How the weights move."""

    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    groups: str = "plain"  # plain, actionclip, xclip: which weights decay, and how fast each part moves
    lr: Number = 1.5e-3  # highest learning rate
    vision_ratio: Number = 1.0  # of ActionCLIP's groups: the vision tower's rate over lr
    fusion_ratio: Number = 10.0  # and the head's
    layer_decay: Number = 1.0  # rate of a block over that of the one after it
    weight_decay: Number = 0.05
    betas: tuple[Number, ...] = (0.9, 0.98)
    momentum: Number = 0.9  # of sgd
    schedule: str = "cosine"  # cosine, actionclip_cosine, actionclip_multistep, xclip_cosine
    warmup_steps: int = 0
    warmup_epochs: Number = 0.0  # in place of steps
    drops: tuple[Number, ...] = ()  # of multistep: epochs after which the rate is a tenth
    clip_norm: Number = 0.0  # of the gradient; not cut where 0
    ema: Number = 0.0  # decay of the averaged weights, which are then the ones kept
    highest_scale: Number = 100.0  # of exp(logit_scale); not bounded where 0

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
    """How long, how often, where."""

    out: str = "runs/demo"
    steps: int = 0  # of the optimiser; epochs in their place
    epochs: Number = 0.0
    batch_size: int = 32  # samples of a step, over all processes
    micro_batch: int = 0  # samples a process runs at once; all of its share where 0
    seed: int = 0
    log_every: int = 20  # steps
    evaluate_every: int = 0  # steps; once in an epoch where 0
    save_every: int = 0  # steps; once in an epoch where 0
    threads: int = 2  # of torch on a CPU; its own choice where 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: computing on a GPU, weights stay fp32
    compile: bool = False

    def __post_init__(self) -> None:
        _at_least(self, "run", 1, "batch_size", "log_every")
        _at_least(self, "run", 0, "steps", "epochs", "micro_batch", "evaluate_every", "save_every", "threads")
        if bool(self.steps) == bool(self.epochs):
            raise ConfigError(f"run.steps, run.epochs: one of them is needed, found {self.steps}, {self.epochs}")


# what changes no weight: a run goes on under other values of these
NEUTRAL = frozenset(
    {"data.workers", "data.deadline_seconds", "data.max_bad_share", "run.out", "run.log_every", "run.evaluate_every",
     "run.save_every", "run.threads"}
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig(_Record):
    """A whole run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig


def load_config(path: Path, changes: Sequence[str] = ()) -> TrainConfig:
    """Read a YAML file, laid over the one its key `base` names, and apply `a.b=value` changes.

    Raises:
        ConfigError: an unknown key, a wrong type, a file that cannot be read, or a change without `=`.
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
        raise ConfigError("run: the part that says how long is missing; run.steps or run.epochs")
    return _validated(document)


def plain(config: TrainConfig) -> dict[str, Any]:
    """The configuration as plain values."""
    return asdict(config)


def as_yaml(config: TrainConfig) -> str:
    """The configuration with all its values as a file that `load_config` reads."""
    text: str = yaml.dump(plain(config), Dumper=_TuplesAsLists, sort_keys=False, allow_unicode=True, width=120)
    return text


class _TuplesAsLists(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Values that are the same object are written out each time."""
        return True


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A plain configuration that an earlier version saved, with the defaults of keys that it did not have yet."""
    return _overlay(plain(TrainConfig(run=RunConfig(steps=1))), saved)


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Keys `a.b` whose values differ between two plain configurations."""
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
        raise ConfigError(f"{path}: base {base} leads back to itself")
    return _overlay(_read(named, (*above, named)), document)


def _yaml_fault(error: Exception) -> str:
    """What is wrong and where, in one line; the library's own message quotes the file."""
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
    """Check a document strictly; JSON, since it has lists for tuples.

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
    """(key, value) of all plain values of a document.

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
    """The first fault pydantic found, as key, expected and found."""
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
    """Keys of the part of a configuration at a place."""
    kind: Any = TrainConfig
    for part in above:
        hints = typing.get_type_hints(kind) if isinstance(part, str) else {}
        kind = hints[part] if isinstance(part, str) else typing.get_args(kind)[0]
    return [item.name for item in fields(kind)]


_READER = TypeAdapter(TrainConfig)
WORDS = {  # of pydantic's kinds of faults
    "float_type": "a number", "finite_number": "a finite number", "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text", "tuple_type": "a list", "mapping_type": "a mapping", "dict_type": "a mapping",
    "dataclass_type": "a mapping", "model_type": "a mapping",
}  # fmt: skip
