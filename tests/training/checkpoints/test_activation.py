"""The activation of CLIP's towers, which no tensor shows: taken from the origin of the weights, or asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from export.loading import load_open_clip_file
from tests.training.checkpoints.conftest import Weights
from training.checkpoints.clip_files import read_clip
from training.checkpoints.native_format import CheckpointError
from training.checkpoints.open_clip_architectures import is_plain, plain_heads, plain_sizes
from training.checkpoints.origins import UNKNOWN_ORIGIN, WeightsOrigin, decide_activation, detect_origin
from training.checkpoints.overrides import Overrides
from training.checkpoints.published_weights import PublishedFile, published_activations, published_file
from training.checkpoints.reading import read_checkpoint
from training.checkpoints.start import initial_model
from training.config import ConfigError, ModelConfig
from training.models.open_clip_towers import architecture_config

WITH_BOTH = (
    "RN50", "RN50x4", "RN50x16", "RN50x64", "RN101", "ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14",
    "ViT-H-14-378", "ViT-bigG-14", "ViT-H-14-worldwide", "ViT-L-14-worldwide",
)  # fmt: skip
_OF_SIZES = {  # one architecture of each set of sizes
    plain_sizes(config): name
    for name in reversed(open_clip.list_models())
    if is_plain(config := open_clip.get_model_config(name))
}
PLAIN = sorted(_OF_SIZES.values())
Saved = Callable[..., Path]


def outline_weights(arch: str) -> Weights:
    """Weights of an architecture by shape alone, under OpenAI's names where open_clip uses them."""
    with torch.device("meta"):
        model = open_clip.CLIP(**{**open_clip.get_model_config(arch), "quick_gelu": False})
    weights: Weights = dict(model.state_dict())
    return {**weights, "logit_scale": torch.tensor(4.6)}


@pytest.mark.parametrize("arch", WITH_BOTH)
def test_shapes_that_exist_with_both_need_the_activation(arch: str) -> None:
    with pytest.raises(CheckpointError, match=r"--activation quick_gelu.*--activation gelu"):
        decide_activation(UNKNOWN_ORIGIN, Overrides(arch=arch), (arch,))
    for activation in ("quick_gelu", "gelu"):
        asked = Overrides(arch=arch, activation=activation)
        assert decide_activation(UNKNOWN_ORIGIN, asked, (arch,))[0] == activation


def test_every_architecture_is_decided_or_asks_as_the_table_of_published_weights_says() -> None:
    """An architecture is ambiguous exactly where its tags, its own entry or its -quickgelu twin disagree."""
    names = open_clip.list_models()
    for arch in names:
        own = bool(open_clip.get_model_config(arch).get("quick_gelu"))
        tags = {
            bool(get_pretrained_cfg(arch, tag).get("quick_gelu", own)) for tag in list_pretrained_tags_by_model(arch)
        }
        expected = tags | {own} | ({True} if f"{arch}-quickgelu" in names else set())
        assert {item == "quick_gelu" for item in published_activations(arch)} == expected
        if own:
            assert decide_activation(UNKNOWN_ORIGIN, Overrides(arch=arch), (arch,))[0] == "quick_gelu"
        elif expected == {False}:
            assert decide_activation(UNKNOWN_ORIGIN, Overrides(arch=arch), (arch,))[0] == "gelu"
            assert arch not in WITH_BOTH
        else:
            assert arch in WITH_BOTH


def test_a_tag_says_what_its_weights_were_trained_with() -> None:
    for arch, tag, expected in (
        ("ViT-B-32", "openai", "quick_gelu"),
        ("ViT-B-32", "laion400m_e32", "quick_gelu"),
        ("ViT-B-32", "laion2b_s34b_b79k", "gelu"),
        ("ViT-B-16", "datacomp_xl_s13b_b90k", "gelu"),
        ("ViT-H-14-378", "dfn5b", "quick_gelu"),
        ("roberta-ViT-B-32", "laion2b_s12b_b32k", "quick_gelu"),  # its tag is silent, its architecture is not
    ):
        assert decide_activation(UNKNOWN_ORIGIN, Overrides(arch=arch, tag=tag), (arch,))[0] == expected
    with pytest.raises(CheckpointError, match="not a pretrained tag of ViT-B-32"):
        decide_activation(UNKNOWN_ORIGIN, Overrides(arch="ViT-B-32", tag="nothing"), ("ViT-B-32",))


def test_published_files_are_known_by_their_hash() -> None:
    openai = "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"
    assert published_file(openai) == PublishedFile(arch="ViT-B-32", tag="openai")
    assert published_file("46683a32" + 56 * "0") == PublishedFile(arch="ViT-B-32", tag="laion400m_e32")
    assert published_file(64 * "0") is None
    origin = detect_origin(openai, {}, is_archive=False)
    assert (origin.activation, origin.arch) == ("quick_gelu", "ViT-B-32")
    with pytest.raises(CheckpointError, match=r"must be quick_gelu .*, got gelu"):
        decide_activation(origin, Overrides(activation="gelu"), ("ViT-B-32",))
    every = [
        (arch, tag)
        for arch in open_clip.list_models()
        for tag in list_pretrained_tags_by_model(arch)
        if "openaipublic" in get_pretrained_cfg(arch, tag)["url"]
    ]
    assert len(every) >= 9
    for arch, tag in every:
        known = published_file(get_pretrained_cfg(arch, tag)["url"].split("/")[-2])
        assert known is not None
        assert known.arch.removesuffix("-quickgelu") == arch.removesuffix("-quickgelu")


def test_a_file_of_a_published_hash_needs_no_word(
    saved: Saved, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is given the hash of a small file: nothing else about it is known."""
    path = saved(weights)
    with pytest.raises(CheckpointError, match="activation"):
        read_checkpoint(path)
    entry = WeightsOrigin(source="the file has the SHA-256 of open_clip's tiny/openai", activation="quick_gelu")
    monkeypatch.setattr("training.checkpoints.reading.detect_origin", lambda *_, **__: entry)
    checkpoint = read_checkpoint(path)
    assert {checkpoint.model_config[part]["activation"] for part in ("vision", "text")} == {"quick_gelu"}
    assert checkpoint.provenance["activation"] == {"value": "quick_gelu", "source": entry.source}


def test_weights_of_no_published_size_need_the_activation_too(saved: Saved, weights: Weights) -> None:
    path = saved(weights)
    with pytest.raises(CheckpointError, match="--activation"):
        read_checkpoint(path)
    for activation in ("gelu", "quick_gelu"):
        checkpoint = read_checkpoint(path, overrides={"activation": activation})
        assert checkpoint.model_config["vision"]["activation"] == activation
        assert checkpoint.model_config["text"]["activation"] == activation
    with pytest.raises(CheckpointError, match="got 'relu'"):
        read_checkpoint(path, overrides={"activation": "relu"})


@pytest.mark.parametrize("arch", PLAIN)
def test_a_plain_architecture_keeps_its_head_counts(arch: str) -> None:
    """Heads of ViT-H, g, e and bigG are not 64 wide, and no tensor shows it."""
    weights = outline_weights(arch)
    expected = open_clip.get_model_config(arch)
    vision_heads = expected["vision_cfg"]["width"] // expected["vision_cfg"].get("head_width", 64)
    tag = next(iter(list_pretrained_tags_by_model(arch)), None)
    for given in (arch, None):
        checkpoint = read_clip(weights, Overrides(activation="gelu", tag=tag, arch=given))
        assert checkpoint.model_config["vision"]["heads"] == vision_heads
        assert checkpoint.model_config["text"]["heads"] == expected["text_cfg"]["heads"]
        assert plain_heads(expected) == (vision_heads, expected["text_cfg"]["heads"])
        assert checkpoint.preprocess.image_size == expected["vision_cfg"]["image_size"]


def test_preprocessing_that_published_weights_disagree_about_is_asked_for() -> None:
    weights = outline_weights("ViT-H-14")
    with pytest.raises(CheckpointError, match="--preprocess-tag"):
        read_clip(weights, Overrides(arch="ViT-H-14", activation="gelu"))
    laion = read_clip(weights, Overrides(arch="ViT-H-14", tag="laion2b_s32b_b79k"))
    assert (laion.preprocess.resize, laion.model_config["vision"]["activation"]) == ("shortest_side", "gelu")
    dfn = read_clip(weights, Overrides(tag="dfn5b"))
    assert (dfn.preprocess.resize, dfn.model_config["vision"]["activation"]) == ("squash", "quick_gelu")


def test_an_architecture_of_other_sizes_is_refused() -> None:
    with pytest.raises(
        CheckpointError, match=r"do not match ViT-B-32, which has patch size 32 \(the weights have 16\)"
    ):
        read_clip(outline_weights("ViT-B-16"), Overrides(arch="ViT-B-32", activation="gelu"))


def test_a_token_table_of_another_tokenizer_is_no_plain_clip() -> None:
    weights = outline_weights("ViT-B-32")
    weights["token_embedding.weight"] = torch.empty(901629, 512, device="meta")
    with pytest.raises(CheckpointError, match="901629 rows; give the open_clip architecture"):
        read_clip(weights, Overrides(activation="gelu"))


@pytest.mark.parametrize("arch", ["RN50", "convnext_tiny"])
def test_towers_of_open_clip_take_the_activation_in_their_text(arch: str) -> None:
    """Their image towers have no such choice; a changed activation stands in `changes`."""
    weights = outline_weights(arch)
    checkpoint = read_clip(weights, Overrides(arch=arch, activation="quick_gelu"))
    config = checkpoint.model_config["text"]
    assert architecture_config(arch, config["changes"])["quick_gelu"] is True
    plain = read_clip(weights, Overrides(arch=arch, activation="gelu"))
    assert "changes" not in plain.model_config["text"]


def test_the_command_passes_the_activation_on(saved: Saved, weights: Weights) -> None:
    """`export model --arch` with a file: the configuration says what was given, or asks for it."""
    small = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 600, "width": 64, "heads": 1, "layers": 2},
    }
    path = saved(weights)
    folder = path.parent / "configs"
    folder.mkdir()
    for name, extra in (("Small", {}), ("Small-quickgelu", {"quick_gelu": True})):
        (folder / f"{name}.json").write_text(json.dumps({**small, **extra}))
    before = dict(open_clip.factory._MODEL_CONFIGS)
    try:
        open_clip.add_model_config(folder)
        with pytest.raises(CheckpointError, match="--activation"):
            load_open_clip_file("Small", path, num_frames=2)
        for arch, activation in (("Small", "gelu"), ("Small", "quick_gelu"), ("Small-quickgelu", None)):
            checkpoint = load_open_clip_file(arch, path, num_frames=2, activation=activation)
            assert checkpoint.model_config["text"]["activation"] == (activation or "quick_gelu")
            assert checkpoint.model_config["vision"]["activation"] == (activation or "quick_gelu")
    finally:
        open_clip.factory._MODEL_CONFIGS.clear()
        open_clip.factory._MODEL_CONFIGS.update(before)


def _start(path: Path, activation: str | None) -> Any:
    towers = {"width": 64, "layers": 2, "heads": 1, "embed_dim": 32} | (
        {"activation": activation} if activation else {}
    )
    vision = {"kind": "clip", "image_size": 32, "patch_size": 16, **towers, "width": 128, "heads": 2}
    text = {"kind": "clip", "context_length": 77, "vocab_size": 600, **towers}
    config = ModelConfig(family="clip", model={"num_frames": 2, "vision": vision, "text": text}, start=str(path))
    return initial_model(config)


def test_training_starts_with_the_activation_of_its_weights(
    saved: Saved, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's configuration speaks for a file of unknown origin; a known origin has to agree."""
    path = saved(weights)
    for activation in (None, "gelu", "quick_gelu"):
        assert torch.equal(_start(path, activation).visual.proj, weights["visual.proj"])
    known = WeightsOrigin(source="the file is known", activation="gelu")
    monkeypatch.setattr("training.checkpoints.reading.detect_origin", lambda *_, **__: known)
    assert torch.equal(_start(path, "gelu").visual.proj, weights["visual.proj"])
    with pytest.raises((ConfigError, CheckpointError), match=r"must be gelu \(the file is known\), got quick_gelu"):
        _start(path, "quick_gelu")
