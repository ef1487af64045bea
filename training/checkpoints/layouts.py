"""Find the state dict in a loaded file: training programs nest it, add averages and prefix the names.

State dicts are found below `model`, `module`, `state_dict` and similar names, up to a depth of `MAX_DEPTH`. By default,
an exponential moving average is preferred to the raw weights. Prefixes of torch.compile, DataParallel, FSDP,
AveragedModel and of modules that contain the model are removed.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from training.checkpoints.native_format import CheckpointError

logger = logging.getLogger(__name__)

AVERAGE_KEYS = (
    "model_ema", "ema", "ema_model", "state_dict_ema", "ema_state_dict", "model_ema_state_dict",
    "ema_model_state_dict", "module_ema", "params_ema", "shadow", "shadow_params", "averaged_model",
)  # fmt: skip
RAW_KEYS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params", "student")
INNER_PREFIXES = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # anywhere in a name
LEADING_PREFIXES = ("module.", "model.", "net.", "network.", "clip_model.", "clip.", "ema_model.")
NON_WEIGHT_KEYS = frozenset({"n_averaged", "num_updates", "decay", "step", "initted"})  # stored with averages
MAX_DEPTH = 4

IsWeights = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True, kw_only=True)
class StateDict:
    """A state dict that was found in a document."""

    weights: Mapping[str, Any]  # names without prefixes of wrappers
    key: str  # path in the document, e.g. "model_ema.module"; empty if it is the document itself
    others: tuple[str, ...] = ()  # paths of other state dicts


def find_weights(document: object, is_weights: IsWeights, *, key: str | None = None) -> StateDict | None:
    """Return the state dict that `is_weights` accepts, or None if there is none.

    `key` selects one of several by its path or the first part of its path.

    Raises:
        CheckpointError: there is none at `key`, or two names become equal without their prefixes.
    """
    candidates = _candidates(document, "", 0)
    accepted = [(path, cleaned) for path, weights in candidates if is_weights(cleaned := strip_wrappers(weights))]
    if not accepted:
        return None
    if key is not None:
        chosen = [item for item in accepted if item[0] == key or item[0].split(".")[0] == key]
        if not chosen:
            paths = _list_paths(path for path, _ in accepted)
            raise CheckpointError(f"weights_key: {key!r} contains no weights of this kind; there are some at {paths}")
    else:
        averages = [item for item in accepted if _is_average(item[0])]
        chosen = averages or accepted
    path, weights = chosen[0]
    others = tuple(each for each, _ in accepted if each != path)
    if others:
        logger.info("weights are read from %s; the file also contains %s", path or "the top level", _list_paths(others))
    return StateDict(weights=weights, key=path, others=others)


def strip_wrappers(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state dict without the prefixes and counters that wrappers add.

    Raises:
        CheckpointError: two names become equal.
    """
    names = {str(name): item for name, item in weights.items() if str(name) not in NON_WEIGHT_KEYS}
    short = {name: _strip_inner_prefixes(name) for name in names}
    while prefix := next(
        (each for each in LEADING_PREFIXES if names and all(s.startswith(each) for s in short.values())), ""
    ):
        short = {name: item.removeprefix(prefix) for name, item in short.items()}
    if len(set(short.values())) < len(short):
        seen: set[str] = set()
        twice = sorted({item for item in short.values() if item in seen or seen.add(item)})  # type: ignore[func-returns-value]
        raise CheckpointError(f"names become equal without the prefixes of wrappers: {', '.join(twice[:6])}")
    return {short[name]: item for name, item in names.items()}


def _strip_inner_prefixes(name: str) -> str:
    for prefix in INNER_PREFIXES:
        name = name.replace(prefix, "")
    return name


def _candidates(document: object, path: str, depth: int) -> list[tuple[str, Mapping[str, Any]]]:
    """Return (path, mapping) of each mapping that contains tensors, averages first."""
    if not isinstance(document, Mapping) or depth > MAX_DEPTH:
        return []
    candidates = []
    for name in (*AVERAGE_KEYS, *RAW_KEYS):
        if isinstance(inner := document.get(name), Mapping):
            candidates += _candidates(inner, f"{path}.{name}" if path else name, depth + 1)
    if any(isinstance(item, Tensor) for item in document.values()):
        candidates.append((path, document))
    return candidates


def _is_average(path: str) -> bool:
    return any(part in AVERAGE_KEYS for part in path.split("."))


def _list_paths(paths: Any) -> str:
    return ", ".join(path or "the top level" for path in paths)
