"""CLIP models in hub folders: weights with a configuration.

open_clip's: `open_clip_config.json` and `open_clip_model.safetensors` or `open_clip_pytorch_model.bin`.
transformers': `config.json` of type `clip`, `preprocessor_config.json` and `model.safetensors` or `pytorch_model.bin`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from serve.contract import Interpolation, PreprocessContract
from training.checkpoints.foreign_files import read_json, read_weight_files, tensors_of
from training.checkpoints.hugging_face import EPS, WEIGHT_FILES, from_hugging_face_names
from training.checkpoints.native_format import CheckpointError
from training.checkpoints.open_clip_architectures import architecture_like, is_plain
from training.checkpoints.origins import WeightsOrigin
from training.checkpoints.published_weights import Activation, preprocess_contract
from training.recipes import CLIP

logger = logging.getLogger(__name__)

OPEN_CLIP_CONFIG = "open_clip_config.json"
OPEN_CLIP_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
)
TRANSFORMERS_CONFIG = "config.json"
PROCESSOR_CONFIG = "preprocessor_config.json"
READ_TYPES = ("xclip", "clip")  # of transformers' models
RESAMPLING: Mapping[int, Interpolation] = {2: "pillow_bilinear", 3: "pillow_bicubic"}  # Pillow's numbers

FolderKind = Literal["xclip_hugging_face", "clip_hugging_face", "clip_open_clip_folder"]


def folder_kind(folder: Path) -> FolderKind | None:
    """Return the kind of model folder, or None without a supported configuration.

    Raises:
        CheckpointError: the configuration is of an unsupported transformers model.
    """
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return "clip_open_clip_folder"
    if not (folder / TRANSFORMERS_CONFIG).is_file():
        return None
    found = read_json(folder / TRANSFORMERS_CONFIG).get("model_type")
    if found not in READ_TYPES:
        raise CheckpointError(
            f"{folder}: transformers models of type {found!r} are not supported; supported are {', '.join(READ_TYPES)}"
        )
    return "xclip_hugging_face" if found == "xclip" else "clip_hugging_face"


def weight_names(kind: FolderKind) -> tuple[str, ...]:
    """File names of the weights in a folder, the preferred one first."""
    return OPEN_CLIP_FILES + WEIGHT_FILES if kind == "clip_open_clip_folder" else WEIGHT_FILES


def read_open_clip_folder(folder: Path, file: Path | None) -> tuple[Mapping[str, Any], WeightsOrigin]:
    """Return the loaded weights of an open_clip folder (of `file` if given) and their origin.

    Raises:
        CheckpointError: there are no weights, or the configuration does not describe the model.
    """
    document = read_json(folder / OPEN_CLIP_CONFIG)
    config, settings = document.get("model_cfg"), document.get("preprocess_cfg") or {}
    if not isinstance(config, dict) or not {"vision_cfg", "text_cfg", "embed_dim"} <= set(config):
        raise CheckpointError(
            f"{folder / OPEN_CLIP_CONFIG}: model_cfg with vision_cfg, text_cfg and embed_dim is needed"
        )
    arch = architecture_like(config)
    if arch is None and not is_plain(config):
        raise CheckpointError(
            f"{folder / OPEN_CLIP_CONFIG}: its model_cfg matches no architecture of this open_clip version; "
            "give the file of weights and the architecture it resembles with --arch"
        )
    size = config["vision_cfg"]["image_size"]
    if not isinstance(size, int):
        raise CheckpointError(f"{folder / OPEN_CLIP_CONFIG}: square pictures are served, found {size}")
    origin = WeightsOrigin(
        source=f"{OPEN_CLIP_CONFIG} beside the weights specifies it",
        activation="quick_gelu" if config.get("quick_gelu") else "gelu",
        arch=arch,
        config=config,
        preprocess=preprocess_contract(settings, image_size=size),
    )
    return read_weight_files(folder, weight_names("clip_open_clip_folder"), file), origin


def read_transformers_clip(folder: Path, file: Path | None) -> tuple[Mapping[str, Any], WeightsOrigin]:
    """Return the weights of a `CLIPModel` folder of transformers under OpenAI's names, and their origin.

    Raises:
        CheckpointError: there are no weights, or the configuration is not supported.
    """
    config = read_json(folder / TRANSFORMERS_CONFIG)
    vision, text = config.get("vision_config") or {}, config.get("text_config") or {}
    acts = {vision.get("hidden_act", "quick_gelu"), text.get("hidden_act", "quick_gelu")}
    if len(acts) > 1 or not acts <= {"quick_gelu", "gelu"}:
        raise CheckpointError(
            f"config.json, hidden_act: quick_gelu or gelu in both towers is read, found {sorted(acts)}"
        )
    for name, part in (("vision_config", vision), ("text_config", text)):
        if part.get("layer_norm_eps", EPS) != EPS:
            raise CheckpointError(f"config.json, {name}.layer_norm_eps: expected {EPS}, found {part['layer_norm_eps']}")
    weights = tensors_of(read_weight_files(folder, WEIGHT_FILES, file), str(folder))
    named = {name.replace(".pre_layrnorm.", ".pre_layernorm."): item for name, item in weights.items()}
    origin = WeightsOrigin(
        source=f"{TRANSFORMERS_CONFIG} beside the weights specifies it",
        activation=cast(Activation, acts.pop()),
        heads=(vision.get("num_attention_heads", 12), text.get("num_attention_heads", 8)),
        preprocess=_processor(folder, image_size=vision.get("image_size", 224)),
    )
    return from_hugging_face_names(named), origin


def _processor(folder: Path, *, image_size: int) -> PreprocessContract:
    """Return the preprocessing of `preprocessor_config.json`; without one, warn and return OpenAI's.

    Raises:
        CheckpointError: serving does not support a rule.
    """
    path = folder / PROCESSOR_CONFIG
    usual = CLIP.preprocess(image_size)
    if not path.is_file():
        logger.warning("%s is missing: using OpenAI's preprocessing", path)
        return usual
    found = read_json(path)
    resample = found.get("resample", 3)
    if resample not in RESAMPLING:
        raise CheckpointError(f"{path}, resample: one of {sorted(RESAMPLING)} is served, found {resample}")
    for name in ("do_resize", "do_center_crop", "do_normalize", "do_rescale"):
        if found.get(name, True) is not True:
            raise CheckpointError(f"{path}, {name}: true is served, found {found[name]}")
    size, crop = (
        _image_sides(found.get("size", image_size), path),
        _image_sides(found.get("crop_size", image_size), path),
    )
    if set(crop) != {image_size} or (len(size) == 2 and set(size) != {image_size}):
        raise CheckpointError(f"{path}: a crop of {image_size} is needed, found size {size} and crop_size {crop}")
    return PreprocessContract(
        image_size=image_size,
        resize="shortest_side" if len(size) == 1 else "squash",
        short_side=size[0],
        interpolation=RESAMPLING[resample],
        size_rounding=usual.size_rounding,
        crop_rounding=usual.crop_rounding,
        mean=_triple(found.get("image_mean", usual.mean)),
        std=_triple(found.get("image_std", usual.std)),
    )


def _image_sides(value: object, path: Path) -> tuple[int, ...]:
    """Return (shortest side,) or (height, width); in older files a number is the shortest side."""
    if isinstance(value, Mapping):
        if set(value) == {"shortest_edge"}:
            return (int(value["shortest_edge"]),)
        if {"height", "width"} <= set(value):
            return int(value["height"]), int(value["width"])
    if isinstance(value, int):
        return (value,)
    raise CheckpointError(f"{path}: a size of shortest_edge, or of height and width, is needed, found {value!r}")


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
