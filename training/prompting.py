"""The text and scoring contracts of a model in training, used for its checkpoint and its evaluation."""

from dataclasses import replace
from pathlib import Path

from serve.contract import ScoringContract, TextContract
from training.checkpoints.native_format import build_on_meta
from training.checkpoints.tokenizer_files import apply_tokenizer_file
from training.config import TrainConfig
from training.models.base import VideoTextModel
from training.recipes import FAMILIES


def make_text_contract(config: TrainConfig) -> TextContract:
    """Return the text contract of a run: tokenizer and prompt templates; `data.tokenizer` replaces CLIP's tokenizer."""
    tower = build_on_meta(config.model.family, config.model.model).text
    arch = config.model.model.get("text", {}).get("arch")
    if arch is not None:
        from training.checkpoints.open_clip_text import text_contract  # takes seconds to import
        from training.models.open_clip_towers import architecture_config

        text = text_contract(architecture_config(arch)["text_cfg"], tower, name=arch)
    else:
        text = TextContract(
            tokenizer="clip",
            context_length=tower.context_length,
            dynamic_length=tower.supports_variable_length,
            pad_id=0,
        )
    if config.data.tokenizer:
        text = apply_tokenizer_file(text, Path(config.data.tokenizer))
    return replace(text, templates=config.data.templates)


def make_scoring_contract(config: TrainConfig, model: VideoTextModel) -> ScoringContract:
    """Return the scoring contract: the family's recipe, the learned scale and, for frame-averaged CLIP, the bias."""
    recipe = FAMILIES[model.family]
    is_clip = config.model.family == "clip"
    bias = model.logit_bias if is_clip else None
    return ScoringContract(
        logit_scale=config.loss.evaluation_scale or float(model.logit_scale.detach().exp()),
        logit_bias=0.0 if bias is None else float(bias.detach()),
        ensembling=recipe.ensembling,
        view_rule=recipe.view_rule,
        activation="sigmoid" if is_clip and config.loss.kind == "sigmoid" else "softmax",
    )
