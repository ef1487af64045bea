"""How a model that is being trained will be prompted and scored: what its checkpoint and its evaluation agree on."""

from dataclasses import replace
from pathlib import Path

import torch

from serve.contract import ScoringContract, TextContract
from training.checkpoints.own import build_outline
from training.checkpoints.tokenizer_files import with_tokenizer_file
from training.config import TrainConfig
from training.models.base import VideoTextModel


def text_of(config: TrainConfig) -> TextContract:
    """The prompts of a run and what its text tower takes; a tokenizer file stands in for CLIP's own."""
    tower = build_outline(config.model.family, config.model.model).text
    arch = config.model.model.get("text", {}).get("arch")
    if arch is not None:
        from training.checkpoints.open_clip_text import text_contract  # seconds to import
        from training.models.open_clip_towers import architecture

        text = text_contract(architecture(arch)["text_cfg"], tower, name=arch)
    else:
        text = TextContract(
            tokenizer="clip", context_length=tower.context_length, dynamic_length=tower.is_causal, pad_id=0
        )
    if config.data.tokenizer:
        text = with_tokenizer_file(text, Path(config.data.tokenizer))
    return replace(text, templates=config.data.templates)


def scoring_of(config: TrainConfig, model: VideoTextModel) -> ScoringContract:
    """Frame-averaged CLIP joins prompts before scoring, the two systems their probabilities after it."""
    scale = config.loss.evaluation_scale or float(model.logit_scale.detach().exp())
    if config.model.family != "clip":
        return ScoringContract(logit_scale=scale, ensembling="mean_probability", view_rule="mean_probability")
    bias = model.logit_bias
    return ScoringContract(
        logit_scale=scale,
        logit_bias=0.0 if bias is None else float(bias.detach()),
        ensembling="mean_embedding",
        view_rule="mean_logit",
        activation="sigmoid" if config.loss.kind == "sigmoid" else "softmax",
    )


@torch.no_grad()
def probabilities(
    model: VideoTextModel, frames: torch.Tensor, texts: torch.Tensor, scoring: ScoringContract
) -> torch.Tensor:
    """Frames [B, T, 3, S, S] of one view against texts [M, K, D] -> [B, K], as serving scores one view."""
    video = model.encode_video(frames)
    if scoring.ensembling == "mean_embedding":
        texts = torch.nn.functional.normalize(texts, dim=-1).mean(dim=0, keepdim=True)  # [1, K, D]
    own = model.logit_scale.exp()
    logits = [
        model.head(video.video_features, video.patch_features, text) / own * scoring.logit_scale for text in texts
    ]
    return torch.stack([each.softmax(dim=-1) for each in logits]).mean(dim=0)
