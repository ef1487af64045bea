"""Models against arrays of the original programs: small copies in every clone, all of them beside `shared`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.shared_data import GOLDEN
from tests.tolerances import FULL_TOWER, assert_close
from training.checkpoints.actionclip_files import read_official_actionclip
from training.checkpoints.overrides import Overrides
from training.checkpoints.xclip_files import read_official_xclip
from training.models.clip import shift_patches

pytestmark = pytest.mark.numeric

COPIES = Path(__file__).resolve().parents[2] / "golden"


def _folders(family: str) -> list[Path]:
    found = sorted((COPIES / family).glob("*"))
    return found + (sorted((GOLDEN / family).glob("*")) if GOLDEN.is_dir() else [])


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return {name: item.float() for name, item in load_file(path).items()} if path.is_file() else {}


def _folder_id(folder: Path) -> str:
    return "/".join(folder.parts[-3:])


def _with_net(name: str) -> str:
    parts = name.split(".")
    return ".".join([*parts[:4], "net", *parts[4:]]) if name.startswith("visual.transformer.resblocks.") else name


@pytest.mark.parametrize("folder", _folders("actionclip"), ids=_folder_id)
def test_every_fusion_head_gives_the_features_and_probabilities_of_the_original(folder: Path) -> None:
    config, arrays = json.loads((folder / "config.json").read_text()), np.load(folder / "io.npz")
    video = torch.from_numpy(arrays["video"]).float()
    tokens = torch.from_numpy(arrays["tokens"])
    for kind in config["fusion_heads"]:
        document = {
            "model_state_dict": _weights(folder / "clip.safetensors"),
            "fusion_model_state_dict": _weights(folder / f"fusion_{kind}.safetensors"),
        }
        checkpoint = read_official_actionclip(document, Overrides(num_frames=config["num_segments"]))
        model = checkpoint.build()
        with torch.no_grad():
            fused, text = model.encode_video(video).video_features, model.encode_text(tokens)
            frames = model.encode_frames(video.flatten(0, 1)).unflatten(0, video.shape[:2])
            cosine = torch.nn.functional.normalize(fused, dim=-1) @ torch.nn.functional.normalize(text, dim=-1).T
            by_template = (checkpoint.scoring.logit_scale * cosine).unflatten(1, (-1, config["num_classes"]))
            training_logits = model.head(fused, None, text)
        assert_close(frames, arrays["image_features"], terms=FULL_TOWER)
        assert_close(model.fuse(frames), arrays[f"{kind}_fused"], terms=FULL_TOWER)
        assert_close(fused, arrays[f"{kind}_fused"], terms=FULL_TOWER)
        assert_close(text, arrays["text_features"], terms=FULL_TOWER)
        assert_close(
            by_template.softmax(dim=-1).mean(dim=1),
            arrays[f"{kind}_probs"],
            magnitude=checkpoint.scoring.logit_scale / 2,
        )
        assert_close(
            training_logits,
            arrays[f"{kind}_train_logits_per_image"],
            magnitude=float(model.logit_scale.detach().exp()),
            terms=FULL_TOWER,
        )


@pytest.mark.parametrize("folder", _folders("actionclip"), ids=_folder_id)
def test_temporal_shift_moves_the_channels_of_the_original(folder: Path) -> None:
    config, arrays = json.loads((folder / "config.json").read_text()), np.load(folder / "io.npz")
    num_frames = config["num_segments"]
    shifted = shift_patches(torch.from_numpy(arrays["tsm_shift_in"]).transpose(0, 1), num_frames, fold=16 // 8)
    np.testing.assert_array_equal(shifted.transpose(0, 1).numpy(), arrays["tsm_shift_out"])
    clip = {_with_net(name): item for name, item in _weights(folder / "clip.safetensors").items()}
    document = {"model_state_dict": clip, "fusion_model_state_dict": {}}
    assert sorted(clip) == sorted(json.loads((folder / "tsm_state_dict_keys.json").read_text()))
    model = read_official_actionclip(document, Overrides(num_frames=num_frames)).build()
    video = torch.from_numpy(arrays["video"]).float()
    assert not model.is_frame_wise
    assert_close(
        model.visual(video.flatten(0, 1)).unflatten(0, video.shape[:2]), arrays["tsm_image_features"], terms=FULL_TOWER
    )


@pytest.mark.parametrize("folder", _folders("xclip"), ids=_folder_id)
def test_xclip_gives_the_logits_of_the_original_with_and_without_prompts(folder: Path) -> None:
    arrays = np.load(folder / "io.npz")
    model = read_official_xclip({"model": _weights(folder / "model.safetensors")}, Overrides()).build()
    scale = float(model.logit_scale.detach().exp())
    video = torch.from_numpy(arrays["video"]).float()
    with torch.no_grad():
        features = model.encode_video(video)
        text = model.encode_text(torch.from_numpy(arrays["tokens"]))
        assert_close(features.video_features, arrays["video_features"], terms=FULL_TOWER)
        assert_close(features.patch_features, arrays["img_features_mean_t"], terms=FULL_TOWER)
        assert_close(text, arrays["text_features"], terms=FULL_TOWER)
        assert_close(model.head(*features[:2], text), arrays["logits"], magnitude=scale, terms=FULL_TOWER)
        other = model.encode_text(torch.from_numpy(arrays["tokens_other"]))
        assert_close(
            model.head(*features[:2], other),
            arrays["logits_other_text_nocache"],
            magnitude=scale,
            terms=FULL_TOWER,
        )
        views = [model.head(*model.encode_video(view)[:2], text) for view in (video, video.flip(1), -video)]
        summed = torch.stack(views).softmax(dim=-1).sum(dim=0)
        assert_close(summed, arrays["multiview_sum_softmax_3"], magnitude=3 * scale / 2)
        model.prompts_generator.alpha.zero_()
        assert_close(
            model.head(*features[:2], text),
            arrays["logits_alpha0"],
            magnitude=scale,
            terms=FULL_TOWER,
        )


@pytest.mark.parametrize("folder", _folders("xclip")[:1], ids=_folder_id)
def test_short_rows_give_the_numbers_of_full_rows(folder: Path) -> None:
    model = read_official_xclip({"model": _weights(folder / "model.safetensors")}, Overrides()).build()
    tokens = torch.from_numpy(np.load(folder / "io.npz")["tokens"])
    longest = int(tokens.argmax(dim=-1).max()) + 1
    assert longest < tokens.shape[1]
    with torch.no_grad():
        full, short = model.encode_text(tokens), model.encode_text(tokens[:, :longest])
    assert (full - short).abs().max() <= 1e-5 * full.abs().max()
