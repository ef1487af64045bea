"""Download the weights that open_clip publishes under a tag, and their tokenizers, and read them as open_clip does.

After any failure with a safetensors file, open_clip tries the next file name, so a failed transfer starts a second one
of the same size; here only a missing file does.
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
        ModelConfigError: open_clip has no such architecture.
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
    """Check that the model of an architecture can be built, on the meta device.

    Raises:
        ModelConfigError: open_clip has no such architecture, or its towers are not supported.
    """
    build_outline("clip", open_clip_model_config(arch, num_frames=1))


def fetch_weights(arch: str, tag: str, *, cache: Path = DEFAULT_CACHE) -> CachedFile:
    """Return the weight file of a tag; nothing is downloaded for a model that cannot be built here.

    Raises:
        ModelConfigError: open_clip has no such architecture, or its towers are not supported.
        CheckpointError: the architecture has no such tag.
        DownloadError: the file cannot be downloaded.
    """
    settings = tag_settings(arch, tag)
    require_buildable(arch)
    if not settings.get("hf_hub"):
        return fetch_address(str(settings["url"]), cache=cache)
    repo, _, name = str(settings["hf_hub"]).rpartition("/")
    return fetch_from_hub(repo, _file_names(name), cache=cache)


def fetch_tokenizer(arch: str, *, cache: Path = DEFAULT_CACHE) -> Path | None:
    """Return the `tokenizer.json` of an architecture; None if it uses CLIP's tokenizer.

    Raises:
        ModelConfigError: open_clip has no such architecture, or its towers are not supported.
        DownloadError: it cannot be downloaded.
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
    except Exception as error:  # exceptions of readers on damaged files vary
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path} cannot be read as weights of {arch}: {reason}") from error


def _file_names(name: str) -> list[str]:
    """Return the file names of weights in a repository, the preferred one first."""
    if not name:
        return [HF_SAFE_WEIGHTS_NAME, "open_clip_pytorch_model.safetensors", HF_WEIGHTS_NAME]
    return [str(Path(name).with_suffix(".safetensors")), name] if name.endswith((".bin", ".pth")) else [name]
