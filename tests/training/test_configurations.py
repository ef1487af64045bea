"""The published runs as files: full size on paper, the numbers of the two papers' code, one real step in small."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from serve.text.prompts import ACTIONCLIP_TEMPLATES
from tests.models import SMALL_OPEN_CLIP_TEXT, SMALL_TOWER, write_tokenizer
from training.checkpoints.native_format import build_on_meta, load_checkpoint
from training.config import TrainConfig, load_config
from training.data.clips.rules import make_preprocess_contract
from training.models.adapters import add_adapters_
from training.models.freezing import checkpoint_activations_, freeze_
from training.optimisers import actionclip_optimiser, freeze_xclip_text_, make_optimiser, xclip_optimiser
from training.recipes import CLIP_MEAN, IMAGENET_MEAN
from training.schedules import TrainProgress, schedule_of
from training.trainer import train

CONFIGS = Path(__file__).resolve().parents[2] / "training" / "configs"
RECIPES = sorted(
    str(path.relative_to(CONFIGS))
    for part in ("actionclip", "xclip", "open_clip")
    for path in CONFIGS.glob(f"{part}/*.yaml")
)

# patch, frames, size, samples of a step, epochs, rate, RandAugment, frames of testing; ActionCLIP's own configurations
ACTIONCLIP: dict[str, tuple[Any, ...]] = {
    "k400_vit-b-32_8": (32, 8, 224, 128, 50, 5e-6, (2, 9), False),
    "k400_vit-b-16_8": (16, 8, 224, 128, 50, 5e-6, (2, 9), False),
    "k400_vit-b-16_16": (16, 16, 224, 128, 50, 5e-6, (2, 9), False),
    "k400_vit-b-16_32": (16, 32, 224, 128, 50, 5e-6, (2, 9), False),
    "hmdb51_vit-b-16_8": (16, 8, 224, 64, 50, 5e-6, (), True),
    "hmdb51_vit-b-16_32": (16, 32, 224, 64, 50, 5e-6, (), True),
    "ucf101_vit-b-16_8": (16, 8, 224, 32, 50, 5e-6, (), True),
    "ucf101_vit-b-16_32": (16, 32, 224, 32, 50, 5e-6, (), True),
    "zero_shot_vit-b-16_8": (16, 8, 224, 128, 50, 5e-6, (2, 9), False),
}
# patch, frames, size, clips of a process at once, samples of a step, epochs, rate; X-CLIP's own configurations
XCLIP: dict[str, tuple[Any, ...]] = {
    "k400_vit-b-32_8": (32, 8, 224, 8, 256, 30, 8e-6),
    "k400_vit-b-32_16": (32, 16, 224, 8, 256, 30, 8e-6),
    "k400_vit-b-16_8": (16, 8, 224, 8, 256, 30, 8e-6),
    "k400_vit-b-16_16": (16, 16, 224, 4, 256, 30, 8e-6),
    "k400_vit-b-16_32": (16, 32, 224, 4, 256, 30, 8e-6),
    "k400_vit-l-14_8": (14, 8, 224, 4, 256, 30, 8e-6),
    "k400_vit-l-14-336_16": (14, 16, 336, 1, 256, 30, 8e-6),
    "k600_vit-b-16_8": (16, 8, 224, 8, 256, 30, 8e-6),
    "k600_vit-b-16_16": (16, 16, 224, 4, 256, 30, 8e-6),
    "k600_vit-l-14_8": (14, 8, 224, 4, 256, 30, 8e-6),
    "hmdb51_few_shot_vit-b-16_32": (16, 32, 224, 4, 64, 50, 2e-6),
    "ucf101_few_shot_vit-b-16_32": (16, 32, 224, 4, 64, 50, 2e-6),
    "zero_shot_vit-b-16_32": (16, 32, 224, 4, 256, 10, 8e-6),
}
MILLIONS = {  # of parameters, as the fact sheets of the systems count them
    "xclip/k400_vit-b-32_8.yaml": 196.6, "xclip/k400_vit-b-16_8.yaml": 194.9, "xclip/k400_vit-l-14_8.yaml": 575.7,
    "actionclip/k400_vit-b-32_8.yaml": 151.3 + 18.95, "actionclip/k400_vit-b-16_8.yaml": 149.6 + 18.95,
}  # fmt: skip


def recipe(name: str, *changes: str) -> TrainConfig:
    return load_config(CONFIGS / name, changes)


def test_every_published_run_has_a_file() -> None:
    expected = {f"actionclip/{name}.yaml" for name in ACTIONCLIP} | {f"xclip/{name}.yaml" for name in XCLIP}
    assert expected <= set(RECIPES)
    assert {name.split("/")[0] for name in set(RECIPES) - expected} == {"open_clip"}
    outs = [recipe(name).run.out for name in RECIPES]
    assert len(set(outs)) == len(outs), "no two recipes write to one folder"


@pytest.mark.parametrize("name", ACTIONCLIP)
def test_actionclip_recipes_carry_the_published_values(name: str) -> None:
    patch, frames, size, batch, epochs, lr, randaugment, is_fixed = ACTIONCLIP[name]
    config = recipe(f"actionclip/{name}.yaml")
    model, data, optim = config.model.model, config.data, config.optim
    assert (model["vision"]["patch_size"], model["num_frames"], model["vision"]["image_size"]) == (patch, frames, size)
    assert (data.num_frames, data.image_size, data.randaugment, data.fixed_frames) == (
        frames,
        size,
        randaugment,
        is_fixed,
    )
    assert (config.run.batch_size, config.run.epochs, config.run.seed) == (batch, epochs, 1024)
    assert (optim.kind, optim.groups, optim.lr, optim.vision_ratio, optim.fusion_ratio) == (
        "adamw",
        "actionclip",
        lr,
        1,
        10,
    )
    assert (optim.weight_decay, optim.betas, optim.clip_norm, optim.ema, optim.highest_scale) == (
        0.2,
        (0.9, 0.98),
        0,
        0,
        0,
    )
    assert (optim.schedule, optim.warmup_epochs) == ("actionclip_cosine", 5)
    assert model["fusion"] == {"kind": "Transf", "layers": 6, "heads": 8, "positions": 77, "eps": 1e-12}
    assert config.loss.kind == "pairs"
    assert config.loss.evaluation_scale == 100
    assert data.templates == ACTIONCLIP_TEMPLATES
    assert make_preprocess_contract(data).mean == CLIP_MEAN
    assert not config.model.frozen


@pytest.mark.parametrize("name", XCLIP)
def test_xclip_recipes_carry_the_published_values(name: str) -> None:
    patch, frames, size, micro_batch, batch, epochs, lr = XCLIP[name]
    config = recipe(f"xclip/{name}.yaml")
    model, data, optim = config.model.model, config.data, config.optim
    assert (model["vision"]["patch_size"], model["num_frames"], model["vision"]["image_size"]) == (patch, frames, size)
    assert (data.num_frames, data.image_size, data.system) == (frames, size, "xclip")
    assert (config.run.micro_batch, config.run.batch_size, config.run.epochs) == (micro_batch, batch, epochs)
    assert (optim.kind, optim.groups, optim.lr, optim.weight_decay) == ("adamw", "xclip", lr, 0.001)
    assert (optim.schedule, optim.warmup_epochs, optim.betas) == ("xclip_cosine", 5, (0.9, 0.98))
    loss = config.loss
    assert (loss.kind, loss.smoothing, loss.mixup, loss.cutmix, loss.cutmix_share) == ("phrases", 0.1, 0.8, 1.0, 0.5)
    assert (model["mit"]["layers"], model["prompts"]["layers"], model["prompts"]["alpha"]) == (1, 2, 0.1)
    assert data.templates == ("{}",)
    assert make_preprocess_contract(data).mean == IMAGENET_MEAN
    assert bool(data.shots) == ("few_shot" in name)
    assert config.model.checkpointing == ("336" in name)


def test_xclip_recipes_freeze_what_the_original_freezes() -> None:
    config = recipe("xclip/k400_vit-b-16_8.yaml").model
    ours, theirs = (build_on_meta(config.family, config.model) for _ in range(2))
    freeze_(ours, config.frozen)
    freeze_xclip_text_(theirs.named_parameters())
    trained = [{name for name, item in model.named_parameters() if item.requires_grad} for model in (ours, theirs)]
    assert trained[0] == trained[1]


@pytest.mark.parametrize("name", ["actionclip/k400_vit-b-16_8.yaml", "xclip/k400_vit-b-16_8.yaml"])
def test_groups_and_rates_are_those_of_the_systems(name: str) -> None:
    config = recipe(name)
    model = build_on_meta(config.model.family, config.model.model)
    if config.model.frozen:
        freeze_(model, config.model.frozen)
    made, lr = make_optimiser(model.named_parameters(), config.optim), config.optim.lr
    expected = (
        xclip_optimiser(model.named_parameters(), lr=lr, weight_decay=0.001)
        if name.startswith("xclip")
        else actionclip_optimiser(model.named_parameters(), kind="adamw", lr=lr, weight_decay=0.2)
    )
    for ours, theirs in zip(made.param_groups, expected.param_groups, strict=True):
        assert (ours["names"], ours["peak"], ours["weight_decay"]) == (
            theirs["names"],
            theirs["lr"],
            theirs["weight_decay"],
        )
    rate_of = schedule_of(config.optim)
    rates = [
        rate_of(TrainProgress(step=step, total_steps=3000, steps_per_epoch=100), lr, config.optim)
        for step in (0, 250, 499, 500, 2999)
    ]
    assert rates[0] == 0
    assert rates[1] == pytest.approx(lr / 2)
    assert rates[2] < lr
    assert rates[4] < 0.02 * lr


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_a_model_of_full_size(name: str) -> None:
    config = recipe(name).model
    model = build_on_meta(config.family, config.model)
    count = sum(item.numel() for item in model.parameters()) / 1e6
    if name in MILLIONS:
        assert count == pytest.approx(MILLIONS[name], rel=2e-3)
    assert count > 100
    freeze_(model, config.frozen)
    with torch.device("meta"):
        if config.lora.rank:
            adapted = add_adapters_(model, config.lora.matrices, rank=config.lora.rank, alpha=config.lora.alpha)
            assert len(adapted) >= 2 * 24 * 2, "two matrices of each block of both towers"
            trained = sum(item.numel() for item in model.parameters() if item.requires_grad) / 1e6
            assert trained < 0.25 * count
        if config.checkpointing:
            checkpoint_activations_(model)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_a_step_in_small(name: str, class_folders: Path, tmp_path: Path) -> None:
    config = in_small(recipe(name), class_folders, tmp_path)
    saved = load_checkpoint(train(config))
    assert saved.provenance["steps"] == 2
    assert saved.provenance["config"]["optim"] == vars(config.optim)
    model = saved.build()
    frames = torch.rand(1, model.num_frames, 3, model.image_size, model.image_size)
    assert torch.isfinite(model.encode_video(frames).video_features).all()


def in_small(config: TrainConfig, class_folders: Path, tmp_path: Path) -> TrainConfig:
    """The recipe with small towers, two frames and a batch of four, on a processor."""
    model, size = dict(config.model.model), 32
    if model["vision"]["kind"] == "clip":
        tower = {"width": 32, "heads": 2, "layers": 2, "embed_dim": 32}
        model["vision"] = {**model["vision"], **tower, "patch_size": 16, "image_size": size}
        model["text"] = {**model["text"], **tower}
        if "prompts" in model:
            model["mit"], model["prompts"] = {**model["mit"], "heads": 2}, {**model["prompts"], "heads": 2}
    else:
        size = SMALL_TOWER["img_size"]
        is_siglip = "SigLIP" in model["vision"]["arch"]
        vision = {"timm_model_name": "actserve_tiny_siglip" if is_siglip else "actserve_tiny_pe", "image_size": size}
        text = {**SMALL_OPEN_CLIP_TEXT, **({"vocab_size": 400} if is_siglip else {})}
        changes = {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}
        for part in ("vision", "text"):
            model[part] = {**model[part], "changes": changes}
    if "fusion" in model:
        model["fusion"] = {**model["fusion"], "layers": 1, "heads": 2}
    model["num_frames"] = 2
    tokenizer = str(write_tokenizer(tmp_path / "tokenizer.json")) if config.loss.kind == "sigmoid" else ""
    data = replace(
        config.data, source="folder", train=str(class_folders), val=str(class_folders), image_size=size, num_frames=2,
        workers=0, tokenizer=tokenizer,
    )  # fmt: skip
    run = replace(
        config.run, out=str(tmp_path / "run"), epochs=0, steps=2, batch_size=4, device="cpu", precision="fp32",
        micro_batch=2 if config.run.micro_batch else 0, threads=1,
    )  # fmt: skip
    return replace(config, model=replace(config.model, model=model, start=""), data=data, run=run)
