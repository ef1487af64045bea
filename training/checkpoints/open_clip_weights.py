"""Download and read the weights and tokenizers that open_clip publishes.

open_clip tries another file name after any failure, so that a failed download is followed by one of the same size. This
module tries another name only if the file does not exist.
"""

from pathlib import Path

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from torch import Tensor

from training.checkpoints.downloads import DEFAULT_CACHE, CachedFile, fetch_from_hub, fetch_url
from training.checkpoints.native_format import CheckpointError, build_on_meta
from training.checkpoints.published_weights import published_tags, tag_settings
from training.models.open_clip_towers import architecture_config, open_clip_model_config

TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


def single_tag(arch: str) -> str:
    """Return the pretrained tag of an architecture that has exactly one.

    Raises:
        ModelConfigError: open_clip has no such architecture.
        CheckpointError: the architecture has no tag or several.
    """
    architecture_config(arch)
    tags = published_tags(arch)
    if len(tags) == 1:
        return tags[0]
    if not tags:
        raise CheckpointError(f"open_clip publishes no weights for {arch}; pass a weight file with --pretrained FILE")
    raise CheckpointError(f"{arch} has {len(tags)} pretrained tags; select one with --pretrained: {', '.join(tags)}")


def require_buildable(arch: str) -> None:
    """Check that an architecture is supported, by building its model on the meta device.

    Raises:
        ModelConfigError: open_clip has no such architecture, or its towers are not supported.
    """
    build_on_meta("clip", open_clip_model_config(arch, num_frames=1))


def fetch_weights(arch: str, tag: str, *, cache: Path = DEFAULT_CACHE) -> CachedFile:
    """Return the weight file of a tag; an unsupported architecture raises before anything is downloaded.

    Raises:
        ModelConfigError: open_clip has no such architecture, or its towers are not supported.
        CheckpointError: the architecture has no such tag.
        DownloadError: the file cannot be downloaded.
    """
    settings = tag_settings(arch, tag)
    require_buildable(arch)
    if not settings.get("hf_hub"):
        return fetch_url(str(settings["url"]), cache=cache)
    repo, _, name = str(settings["hf_hub"]).rpartition("/")
    return fetch_from_hub(repo, _file_names(name), cache=cache)


def fetch_tokenizer(arch: str, *, cache: Path = DEFAULT_CACHE) -> Path | None:
    """Return the `tokenizer.json` of an architecture, or None if it uses CLIP's tokenizer.

    Raises:
        ModelConfigError: open_clip has no such architecture, or its towers are not supported.
        DownloadError: the file cannot be downloaded.
    """
    require_buildable(arch)
    repo = architecture_config(arch)["text_cfg"].get("hf_tokenizer_name")
    if repo is None:
        return None
    fetch_from_hub(repo, [TOKENIZER_CONFIG], cache=cache)  # read by `apply_tokenizer_file` from the same folder
    return fetch_from_hub(repo, [TOKENIZER], cache=cache).path


def load_weights(arch: str, path: Path) -> dict[str, Tensor]:
    """Return the weights in a published file under open_clip's names.

    Raises:
        CheckpointError: open_clip cannot read the file.
    """
    try:
        return dict(open_clip.create_model(arch, pretrained=str(path)).state_dict())
    except Exception as error:  # exceptions of readers on damaged files vary
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(f"cannot read weights of {arch} from {path}: {reason}") from error


def _file_names(name: str) -> list[str]:
    """Return the possible names of a weight file in a repository, the preferred one first."""
    if not name:
        return [HF_SAFE_WEIGHTS_NAME, "open_clip_pytorch_model.safetensors", HF_WEIGHTS_NAME]
    return [str(Path(name).with_suffix(".safetensors")), name] if name.endswith((".bin", ".pth")) else [name]
