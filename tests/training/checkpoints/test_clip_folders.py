"""Folders as hubs keep CLIP models: the configuration beside the weights says activation, heads and preprocessing."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from training.checkpoints.native_format import CheckpointError
from training.checkpoints.reading import detect_format, read_checkpoint

MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 160, "patch_size": 16, "head_width": 80},
    "text_cfg": {"context_length": 77, "vocab_size": 600, "width": 64, "heads": 2, "layers": 2},
}
SQUASH = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear", "resize_mode": "squash"}
PROCESSOR = {
    "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}


def open_clip_folder(folder: Path, file: str, **changes: Any) -> torch.nn.Module:
    """A folder as open_clip pushes it to a hub; heads are 80 wide, which no tensor shows."""
    folder.mkdir(exist_ok=True)
    config = {**MODEL, **changes}
    torch.manual_seed(0)
    model = open_clip.CLIP(**config).eval()
    document = {"model_cfg": config, "preprocess_cfg": SQUASH}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    weights = {name: item.clone() for name, item in model.state_dict().items()}
    if file.endswith(".safetensors"):
        save_file(weights, folder / file)
    else:
        torch.save(weights, folder / file)
    return model


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_folder_of_open_clip_says_everything(tmp_path: Path, file: str, activation: str) -> None:
    model = open_clip_folder(tmp_path / "hub", file, quick_gelu=activation == "quick_gelu")
    for path in (tmp_path / "hub", tmp_path / "hub" / file):  # a file under a hub's name belongs to its folder
        assert detect_format(path) == "clip_open_clip_folder"
        checkpoint = read_checkpoint(path, overrides={"num_frames": 1})
        config = checkpoint.model_config
        assert (config["vision"]["activation"], config["text"]["activation"]) == (activation, activation)
        assert (config["vision"]["heads"], config["text"]["heads"]) == (2, 2)
        rule = checkpoint.preprocess
        assert (rule.resize, rule.interpolation, rule.mean) == ("squash", "pillow_bilinear", (0.5, 0.4, 0.3))
        assert "open_clip_config.json" in checkpoint.provenance["activation"]["source"]
        assert checkpoint.provenance["source"] == file
    frame, tokens = torch.randn(1, 3, 32, 32), torch.randint(1, 599, (2, 77))
    built = checkpoint.build()
    with torch.no_grad():
        torch.testing.assert_close(built.encode_video(frame[None]).video_features, model.encode_image(frame))
        torch.testing.assert_close(built.encode_text(tokens), model.encode_text(tokens))


def test_the_folder_s_word_may_not_be_contradicted(tmp_path: Path) -> None:
    open_clip_folder(tmp_path / "hub", "open_clip_model.safetensors", quick_gelu=True)
    with pytest.raises(CheckpointError, match=r"must be quick_gelu .*, got gelu"):
        read_checkpoint(tmp_path / "hub", overrides={"activation": "gelu"})
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json\), got ViT-B-32"):
        read_checkpoint(tmp_path / "hub", overrides={"arch": "ViT-B-32"})


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"preprocess_cfg": {}}, "model_cfg must contain vision_cfg"),
        ({"model_cfg": {**MODEL, "text_cfg": {**MODEL["text_cfg"], "pool_type": "last"}}}, "no architecture of this"),  # type: ignore[dict-item]
        (
            {"model_cfg": MODEL, "preprocess_cfg": {"resize_mode": "longest"}},
            "resize_mode of open_clip must be one of shortest, squash, got 'longest'",
        ),
    ],
)
def test_configurations_that_cannot_be_honoured_are_refused(
    tmp_path: Path, document: dict[str, Any], words: str
) -> None:
    open_clip_folder(tmp_path / "hub", "open_clip_model.safetensors")
    (tmp_path / "hub" / "open_clip_config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path / "hub")


def test_a_folder_without_its_weights_names_the_files(tmp_path: Path) -> None:
    open_clip_folder(tmp_path / "hub", "other.bin")
    with pytest.raises(CheckpointError, match=r"expected one of open_clip_model\.safetensors"):
        read_checkpoint(tmp_path / "hub")


def transformers_folder(folder: Path, **changes: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    vision = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3}
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        projection_dim=32,
        vision_config={**vision, "image_size": 32, "patch_size": 16, **changes},
        text_config={**text, "vocab_size": 600, "eos_token_id": 599, "bos_token_id": 1, "pad_token_id": 0, **changes},
    )
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for item in model.parameters():
            item.add_(0.1 * torch.randn_like(item))
    model.save_pretrained(folder)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_folder_of_transformers_gives_its_model(tmp_path: Path, activation: str) -> None:
    model = transformers_folder(tmp_path, hidden_act=activation)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        assert detect_format(path) == "clip_hugging_face"
        checkpoint = read_checkpoint(path, overrides={"num_frames": 1})
        config = checkpoint.model_config
        assert (config["vision"]["activation"], config["text"]["activation"]) == (activation, activation)
        assert (config["vision"]["heads"], config["text"]["heads"]) == (3, 4)
        assert (checkpoint.preprocess.short_side, checkpoint.preprocess.mean) == (40, (0.5, 0.5, 0.5))
    frame, tokens = torch.randn(1, 3, 32, 32), torch.randint(2, 598, (2, 77))
    tokens[:, -1] = 599
    built = checkpoint.build()
    with torch.no_grad():
        expected = model(input_ids=tokens, pixel_values=frame)
        video = torch.nn.functional.normalize(built.encode_video(frame[None]).video_features, dim=-1)
        text = torch.nn.functional.normalize(built.encode_text(tokens), dim=-1)
    torch.testing.assert_close(video, expected.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(text, expected.text_embeds, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_other_models_and_options_of_transformers_are_named(tmp_path: Path) -> None:
    transformers_folder(tmp_path)
    document = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, "do_center_crop": False}))
    with pytest.raises(CheckpointError, match="do_center_crop: must be true, got False"):
        read_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**document, "model_type": "siglip"}))
    with pytest.raises(CheckpointError, match="must be one of xclip, clip, got 'siglip'"):
        read_checkpoint(tmp_path)
    document["vision_config"]["hidden_act"] = "gelu_new"
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="hidden_act"):
        read_checkpoint(tmp_path)
