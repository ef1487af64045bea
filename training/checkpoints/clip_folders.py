"""Read CLIP models in model folders: weights with a configuration, as on the Hugging Face hub.

A folder of open_clip contains `open_clip_config.json` and `open_clip_model.safetensors` or
`open_clip_pytorch_model.bin`. A folder of transformers contains `config.json` with the model type `clip`,
`preprocessor_config.json`, and `model.safetensors` or `pytorch_model.bin`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from serve.contract import Interpolation, PreprocessContract
from training.checkpoints.foreign_files import read_json, read_weight_files, require_tensors
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
SUPPORTED_TYPES = ("xclip", "clip")  # model types of transformers
RESAMPLING: Mapping[int, Interpolation] = {2: "pillow_bilinear", 3: "pillow_bicubic"}  # key: PIL.Image.Resampling

FolderKind = Literal["xclip_hugging_face", "clip_hugging_face", "clip_open_clip_folder"]


def detect_folder_kind(folder: Path) -> FolderKind | None:
    """Return the kind of a model folder, or None without a supported configuration.

    Raises:
        CheckpointError: the transformers model type is not supported.
    """
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return "clip_open_clip_folder"
    if not (folder / TRANSFORMERS_CONFIG).is_file():
        return None
    model_type = read_json(folder / TRANSFORMERS_CONFIG).get("model_type")
    if model_type not in SUPPORTED_TYPES:
        raise CheckpointError(
            f"{folder}: the model type of transformers must be one of {', '.join(SUPPORTED_TYPES)}, got {model_type!r}"
        )
    return "xclip_hugging_face" if model_type == "xclip" else "clip_hugging_face"


def weight_names(kind: FolderKind) -> tuple[str, ...]:
    """Return the file names of the weights in a folder, the preferred one first."""
    return OPEN_CLIP_FILES + WEIGHT_FILES if kind == "clip_open_clip_folder" else WEIGHT_FILES


def read_open_clip_folder(folder: Path, file: Path | None) -> tuple[Mapping[str, Any], WeightsOrigin]:
    """Return the loaded weights of an open_clip folder (of `file` if given) and their origin.

    Raises:
        CheckpointError: there are no weights, or the configuration does not describe the model.
    """
    document = read_json(folder / OPEN_CLIP_CONFIG)
    config, settings = document.get("model_cfg"), document.get("preprocess_cfg") or {}
    if not isinstance(config, dict) or not {"vision_cfg", "text_cfg", "embed_dim"} <= set(config):
        raise CheckpointError(f"{folder / OPEN_CLIP_CONFIG}: model_cfg must contain vision_cfg, text_cfg and embed_dim")
    arch = architecture_like(config)
    if arch is None and not is_plain(config):
        raise CheckpointError(
            f"{folder / OPEN_CLIP_CONFIG}: model_cfg matches no architecture of this open_clip version; "
            "give the weight file, and the most similar architecture with --arch"
        )
    size = config["vision_cfg"]["image_size"]
    if not isinstance(size, int):
        raise CheckpointError(f"{folder / OPEN_CLIP_CONFIG}: the image size must be square, got {size}")
    origin = WeightsOrigin(
        source=f"read from {OPEN_CLIP_CONFIG}",
        activation="quick_gelu" if config.get("quick_gelu") else "gelu",
        arch=arch,
        config=config,
        preprocess=preprocess_contract(settings, image_size=size),
    )
    return read_weight_files(folder, weight_names("clip_open_clip_folder"), file), origin


def read_transformers_clip(folder: Path, file: Path | None) -> tuple[Mapping[str, Any], WeightsOrigin]:
    """Return the weights of a transformers `CLIPModel` folder under OpenAI's names, and their origin.

    Raises:
        CheckpointError: there are no weights, or the configuration is not supported.
    """
    config = read_json(folder / TRANSFORMERS_CONFIG)
    vision, text = config.get("vision_config") or {}, config.get("text_config") or {}
    activations = {vision.get("hidden_act", "quick_gelu"), text.get("hidden_act", "quick_gelu")}
    if len(activations) > 1 or not activations <= {"quick_gelu", "gelu"}:
        raise CheckpointError(
            "config.json, hidden_act: both towers must use quick_gelu or both gelu, "
            f"got {', '.join(sorted(activations))}"
        )
    for name, part in (("vision_config", vision), ("text_config", text)):
        if part.get("layer_norm_eps", EPS) != EPS:
            raise CheckpointError(f"config.json, {name}.layer_norm_eps: must be {EPS}, got {part['layer_norm_eps']}")
    weights = require_tensors(read_weight_files(folder, WEIGHT_FILES, file), str(folder))
    named = {name.replace(".pre_layrnorm.", ".pre_layernorm."): item for name, item in weights.items()}
    origin = WeightsOrigin(
        source=f"read from {TRANSFORMERS_CONFIG}",
        activation=cast(Activation, activations.pop()),
        heads=(vision.get("num_attention_heads", 12), text.get("num_attention_heads", 8)),
        preprocess=_read_preprocessing(folder, image_size=vision.get("image_size", 224)),
    )
    return from_hugging_face_names(named), origin


def _read_preprocessing(folder: Path, *, image_size: int) -> PreprocessContract:
    """Read the preprocessing from `preprocessor_config.json`; if it is missing, log a warning and use OpenAI's.

    Raises:
        CheckpointError: serving does not support a setting.
    """
    path = folder / PROCESSOR_CONFIG
    default = CLIP.preprocess(image_size)
    if not path.is_file():
        logger.warning("%s is missing: using OpenAI's preprocessing", path)
        return default
    config = read_json(path)
    resample = config.get("resample", 3)
    if resample not in RESAMPLING:
        raise CheckpointError(f"{path}, resample: must be one of {sorted(RESAMPLING)}, got {resample}")
    for name in ("do_resize", "do_center_crop", "do_normalize", "do_rescale"):
        if config.get(name, True) is not True:
            raise CheckpointError(f"{path}, {name}: must be true, got {config[name]}")
    size, crop = (
        _image_sides(config.get("size", image_size), path),
        _image_sides(config.get("crop_size", image_size), path),
    )
    if set(crop) != {image_size} or (len(size) == 2 and set(size) != {image_size}):
        raise CheckpointError(f"{path}: the crop must be {image_size} pixels square, got size {size}, crop_size {crop}")
    return PreprocessContract(
        image_size=image_size,
        resize="shortest_side" if len(size) == 1 else "squash",
        short_side=size[0],
        interpolation=RESAMPLING[resample],
        size_rounding=default.size_rounding,
        crop_rounding=default.crop_rounding,
        mean=_three_floats(config.get("image_mean", default.mean)),
        std=_three_floats(config.get("image_std", default.std)),
    )


def _image_sides(value: object, path: Path) -> tuple[int, ...]:
    """Return (shortest side,) or (height, width); a number, as in older files, is the shortest side."""
    if isinstance(value, Mapping):
        if set(value) == {"shortest_edge"}:
            return (int(value["shortest_edge"]),)
        if {"height", "width"} <= set(value):
            return int(value["height"]), int(value["width"])
    if isinstance(value, int):
        return (value,)
    raise CheckpointError(f"{path}: a size must have shortest_edge, or height and width, got {value!r}")


def _three_floats(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
