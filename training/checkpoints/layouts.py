"""Find the weights in a loaded file: trainers nest them, store averages beside them and prefix their names.

Unwrapped here: `model`, `module`, `state_dict` and the like, to any depth; an exponential moving average, which is
preferred to the raw weights by default; the prefixes of torch.compile, DataParallel, FSDP, AveragedModel and modules
that hold the model under one name.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.checkpoints.native_format import CheckpointError

logger = logging.getLogger(__name__)

AVERAGES = (
    "model_ema", "ema", "ema_model", "state_dict_ema", "ema_state_dict", "model_ema_state_dict",
    "ema_model_state_dict", "module_ema", "params_ema", "shadow", "shadow_params", "averaged_model",
)  # fmt: skip
RAW = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "student")
ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # never names of modules in a model
LEADING = ("module.", "model.", "net.", "network.", "clip_model.", "clip.", "ema_model.")
COUNTERS = frozenset({"n_averaged", "num_updates", "decay", "step", "initted"})  # stored beside averaged weights
MAX_DEPTH = 4

IsWeights = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, kw_only=True)
class FoundWeights:
    """A state dict inside a document."""

    weights: Mapping[str, Any]  # names without wrappers' prefixes
    key: str  # its path, e.g. "model_ema.module"; empty: the document itself
    others: tuple[str, ...] = ()  # paths of other state dicts


def find_weights(document: object, is_weights: IsWeights, *, key: str | None = None) -> FoundWeights | None:
    """Return the state dict that `is_weights` accepts, or None.

    `key` selects one. By default an average is preferred to the raw weights.

    Raises:
        CheckpointError: there is none at `key`, or two names are equal without their prefixes.
    """
    found = _candidates(document, "", 0)
    named = [(path, cleaned) for path, weights in found if is_weights(cleaned := without_wrappers(weights))]
    if not named:
        return None
    if key is not None:
        chosen = [item for item in named if item[0] == key or item[0].split(".")[0] == key]
        if not chosen:
            raise CheckpointError(
                f"weights_key: {key!r} holds no weights of this kind; found under {_shown(path for path, _ in named)}"
            )
    else:
        averages = [item for item in named if _is_average(item[0])]
        chosen = averages or named
    path, weights = chosen[0]
    others = tuple(each for each, _ in named if each != path)
    if others:
        logger.info("weights are taken from %s; the file also holds %s", path or "its top level", _shown(others))
    return FoundWeights(weights=weights, key=path, others=others)


def without_wrappers(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict with the prefixes and counters of wrappers removed from its names.

    Raises:
        CheckpointError: two names become equal.
    """
    names = {str(name): item for name, item in weights.items() if str(name) not in COUNTERS}
    short = {name: _without_inner(name) for name in names}
    while prefix := next((each for each in LEADING if names and all(s.startswith(each) for s in short.values())), ""):
        short = {name: item.removeprefix(prefix) for name, item in short.items()}
    if len(set(short.values())) < len(short):
        seen: set[str] = set()
        twice = sorted({item for item in short.values() if item in seen or seen.add(item)})  # type: ignore[func-returns-value]
        raise CheckpointError(f"names that become the same without wrappers' prefixes: {', '.join(twice[:6])}")
    return {short[name]: item for name, item in names.items()}


def _without_inner(name: str) -> str:
    for part in ANYWHERE:
        name = name.replace(part, "")
    return name


def _candidates(document: object, path: str, depth: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Yield (path, mapping) of each mapping with tensors, averages first."""
    if not isinstance(document, Mapping) or depth > MAX_DEPTH:
        return []
    found = []
    for name in (*AVERAGES, *RAW):
        if isinstance(inner := document.get(name), Mapping):
            found += _candidates(inner, f"{path}.{name}" if path else name, depth + 1)
    if any(isinstance(item, Tensor) for item in document.values()):
        found.append((path, document))
    return found


def _is_average(path: str) -> bool:
    return any(part in AVERAGES for part in path.split("."))


def _shown(paths: Any) -> str:
    return ", ".join(path or "the top level" for path in paths)
