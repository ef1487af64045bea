"""Tiny models of every family with random weights in which each part counts, and their published protocols."""

from typing import Any

import torch

from serve.contract import Family
from training.checkpoints.own import Checkpoint
from training.checkpoints.systems import fresh_protocol
from training.models.registry import build_model

FRAMES, SIZE, CONTEXT, WIDTH = 4, 32, 77, 32  # T, S, L, D
VISION = {
    "kind": "clip", "image_size": SIZE, "patch_size": 16, "width": 48, "layers": 2, "heads": 3, "embed_dim": WIDTH,
}  # fmt: skip
TEXT = {
    "kind": "clip", "context_length": CONTEXT, "vocab_size": 49408, "width": 32, "layers": 2, "heads": 2,
    "embed_dim": WIDTH,
}  # fmt: skip
FUSION_HEADS = ("meanP", "LSTM", "Conv_1D", "Transf", "Transf_cls")


def tiny_checkpoint(family: Family, **parts: Any) -> Checkpoint:
    """A checkpoint of a family; `parts` are further fields of its model configuration."""
    config: dict[str, Any] = {"num_frames": FRAMES, "vision": VISION, "text": TEXT, "logit_scale": 2.5, **parts}
    protocol = fresh_protocol(
        family,
        num_frames=config["num_frames"],
        image_size=config["vision"]["image_size"],
        context_length=CONTEXT,
        logit_scale=config["logit_scale"],
    )
    return Checkpoint(family=family, model_config=config, weights=_weights(family, config), **vars(protocol))


def tiny_actionclip(kind: str, **parts: Any) -> Checkpoint:
    """ActionCLIP under one of its fusion heads."""
    options: dict[str, Any] = {"layers": 2, "heads": 4} if kind == "Transf" else {}
    return tiny_checkpoint("actionclip", fusion={"kind": kind, **options}, **parts)


def tiny_xclip(*, prompts: bool = True) -> Checkpoint:
    """X-CLIP, with or without its prompt generator."""
    heads = {"layers": 2, "heads": 2}
    return tiny_checkpoint("xclip", mit={"layers": 1, "heads": 2}, prompts=heads if prompts else None)


def _weights(family: str, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Fresh weights, every vector of them moved: norms of ones and biases of zeros would hide mistakes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = build_model(family, config)
        for name, item in model.named_parameters():
            if name != "logit_scale":
                item.data.add_(torch.randn_like(item) * (0.3 if item.ndim == 1 else 0.1))
        return {name: item.clone() for name, item in model.state_dict().items()}
