"""Weights that open_clip publishes under a tag, and the tokenizers they need: fetched, and read as open_clip does.

open_clip's own download takes any failure with a file of safetensors for its absence and goes on to the next name, so
a transfer that breaks off ends in a second one of the same size; here absence alone does.
"""

from pathlib import Path

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from torch import Tensor

from training.checkpoints.downloads import DEFAULT_CACHE, CachedFile, fetch_address, fetch_from_hub
from training.checkpoints.native_format import CheckpointError, build_outline
from training.checkpoints.published_weights import published_tags, tag_settings
from training.models.open_clip_towers import architecture, open_clip_model_config

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


def only_tag(arch: str) -> str:
    """Return the pretrained tag of an architecture that has one.

    Raises:
        ModelConfigError: open_clip knows no such architecture.
        CheckpointError: it has none, or several.
    """
    architecture(arch)
    tags = published_tags(arch)
    if len(tags) == 1:
        return tags[0]
    if not tags:
        raise CheckpointError(f"open_clip publishes no weights for {arch}: give a file of them with --pretrained FILE")
    raise CheckpointError(f"{arch} has {len(tags)} pretrained tags; say which with --pretrained: {', '.join(tags)}")


def require_buildable(arch: str) -> None:
    """Build a model of an architecture without memory for its weights.

    Raises:
        ModelConfigError: open_clip knows no such architecture, or its towers are not taken.
    """
    build_outline("clip", open_clip_model_config(arch, num_frames=1))


def fetch_weights(arch: str, tag: str, *, cache: Path = DEFAULT_CACHE) -> CachedFile:
    """Return the file of weights of a tag; nothing is fetched of a model that cannot be built here.

    Raises:
        ModelConfigError: open_clip knows no such architecture, or its towers are not taken.
        CheckpointError: the architecture has no such tag.
        DownloadError: the file cannot be fetched.
    """
    settings = tag_settings(arch, tag)
    require_buildable(arch)
    if not settings.get("hf_hub"):
        return fetch_address(str(settings["url"]), cache=cache)
    repo, _, name = str(settings["hf_hub"]).rpartition("/")
    return fetch_from_hub(repo, _file_names(name), cache=cache)


def fetch_tokenizer(arch: str, *, cache: Path = DEFAULT_CACHE) -> Path | None:
    """Return the `tokenizer.json` of an architecture, beside its configuration; None where it uses CLIP's own.

    Raises:
        ModelConfigError: open_clip knows no such architecture, or its towers are not taken.
        DownloadError: it cannot be fetched.
    """
    require_buildable(arch)
    repo = architecture(arch)["text_cfg"].get("hf_tokenizer_name")
    if repo is None:
        return None
    fetch_from_hub(repo, [TOKENIZER_CONFIG], cache=cache)
    return fetch_from_hub(repo, [TOKENIZER], cache=cache).path


def load_weights(arch: str, path: Path) -> dict[str, Tensor]:
    """Return the weights of a published file under open_clip's names.

    Raises:
        CheckpointError: open_clip cannot read it.
    """
    try:
        return dict(open_clip.create_model(arch, pretrained=str(path)).state_dict())
    except Exception as error:  # readers of broken files raise what they like
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path} cannot be read as weights of {arch}: {reason}") from error


def _file_names(name: str) -> list[str]:
    """Names the weights may have in a repository, the preferred one first."""
    if not name:
        return [HF_SAFE_WEIGHTS_NAME, "open_clip_pytorch_model.safetensors", HF_WEIGHTS_NAME]
    return [str(Path(name).with_suffix(".safetensors")), name] if name.endswith((".bin", ".pth")) else [name]
