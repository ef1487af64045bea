"""Tiny models of every family with random weights in which each part counts, and their published protocols."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer as TokenizerFile
from tokenizers import models, pre_tokenizers, processors, trainers

from serve.contract import Family, TextContract
from training.checkpoints.native_format import Checkpoint
from training.models.open_clip_towers import open_clip_model_config
from training.models.registry import build_model
from training.recipes import CLIP, VIDEO_TEMPLATES, clip_contracts, family_contracts

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
    protocol = family_contracts(
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


SMALL_OPEN_CLIP_TEXT = {"width": 64, "heads": 2, "layers": 2}
SMALL_TOWER = {"img_size": 64, "patch_size": 16, "embed_dim": 64, "depth": 2, "num_heads": 2, "global_pool": "map"}


@timm.models.register_model
def actserve_tiny_pe(*, num_classes: int, **_: Any) -> Eva:
    """PE-Core's vision tower in small: rotary positions, pooling by attention."""
    rotary = {"attn_type": "rope", "use_rot_pos_emb": True, "ref_feat_shape": (4, 4), "rope_grid_offset": 1.0}
    parts = {"use_pre_transformer_norm": True, "rope_grid_indexing": "xy", "attn_pool_num_heads": 2}
    return Eva(num_classes=num_classes, attn_pool_mlp_ratio=4.0, **SMALL_TOWER, **rotary, **parts)


@timm.models.register_model
def actserve_tiny_siglip(**_: Any) -> VisionTransformer:
    """SigLIP's vision tower in small: no class token, pooling by attention."""
    return VisionTransformer(num_classes=0, class_token=False, **SMALL_TOWER)


def tiny_rotary() -> Checkpoint:
    """PE-Core in small: rotary vision tower, causal text tower."""
    vision = {"timm_model_name": "actserve_tiny_pe", "image_size": SMALL_TOWER["img_size"]}
    changes = {"embed_dim": 48, "vision_cfg": vision, "text_cfg": SMALL_OPEN_CLIP_TEXT}
    return tiny_open_clip("PE-Core-T-16-384", changes, dynamic_length=True)


def tiny_siglip() -> Checkpoint:
    """SigLIP2 in small: text tower without a causal mask, read at its last token; logit bias.

    Its tokens are those of a tokenizer file of 400.
    """
    vision = {"timm_model_name": "actserve_tiny_siglip", "image_size": SMALL_TOWER["img_size"]}
    text = {**SMALL_OPEN_CLIP_TEXT, "vocab_size": NUM_TOKENS}
    changes = {"embed_dim": SMALL_TOWER["embed_dim"], "vision_cfg": vision, "text_cfg": text}
    return tiny_open_clip("ViT-B-16-SigLIP2", changes, dynamic_length=False)


NUM_TOKENS = 400  # of `write_tokenizer`


def tiny_concepts() -> Checkpoint:
    """The starter model in small: class probabilities, two sentence encoders behind a gate, prototype features."""
    vision = {
        "kind": "concepts", "image_size": SIZE, "width": 0.25, "depth": 0.3, "num_classes": 20, "classes_kept": 5,
        "temperature": 1.0, "embed_dim": 64,
    }  # fmt: skip
    text = {
        "kind": "gated", "context_length": CONTEXT, "vocab_size": NUM_TOKENS + 1, "pad_id": NUM_TOKENS,
        "prefix": [3, 4], "gate_threshold": 0.5, "gate_slope": 4.0, "num_pieces": 50, "english_width": 24,
        "english_layers": 2, "english_heads": 2, "token_width": 32, "branch_width": 16, "hidden_width": 24,
        "sentence_width": 40,
    }  # fmt: skip
    protocol = clip_contracts(
        num_frames=FRAMES,
        preprocess=CLIP.preprocess(SIZE),
        text=TextContract(
            tokenizer="tokenizers", context_length=CONTEXT, dynamic_length=True, pad_id=NUM_TOKENS,
            templates=VIDEO_TEMPLATES,
        ),
        logit_scale=2.5,
    )  # fmt: skip
    config: dict[str, Any] = {"num_frames": FRAMES, "vision": vision, "text": text, "logit_scale": 2.5}
    weights = _weights("clip", config)
    generator = torch.Generator().manual_seed(3)
    for name, item in weights.items():  # codes are no parameters, and start at zero
        if not item.is_floating_point():
            low, high = {torch.int8: (-127, 128), torch.uint8: (0, 256), torch.int32: (0, 50)}[item.dtype]
            weights[name] = torch.randint(low, high, item.shape, generator=generator, dtype=item.dtype)
        elif name.endswith(".scale"):
            weights[name] = 0.003 * (1 + torch.rand(item.shape, generator=generator))
        elif name.endswith(".depthwise.weight"):
            weights[name] = 1.8 * item  # below it the last maps are the same for every picture
    weights["text.letters"] = torch.rand(NUM_TOKENS + 1, 2, generator=generator).sort(dim=1, descending=True).values
    weights["text.letters"][NUM_TOKENS] = 0  # padding has no letters and no pieces
    weights["text.pieces"][NUM_TOKENS] = 0
    return Checkpoint(family="clip", model_config=config, weights=weights, **vars(protocol))


FAMILIES: dict[str, Callable[[], Checkpoint]] = {
    "clip": lambda: tiny_checkpoint("clip"),
    "actionclip": lambda: tiny_actionclip("Transf"),
    "xclip": tiny_xclip,
    "rotary": tiny_rotary,  # PE-Core
    "siglip": tiny_siglip,  # SigLIP2
    "concepts": tiny_concepts,  # the starter model
}


def write_tokenizer(path: Path) -> Path:
    """A byte-pair tokenizer of `NUM_TOKENS` tokens, trained on a few sentences, that ends texts with <eos>."""
    file = TokenizerFile(models.BPE(unk_token="<unk>"))
    file.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_TOKENS, special_tokens=["<pad>", "<eos>", "<unk>"], show_progress=False
    )
    file.train_from_iterator(["a video of riding a bike", "clapping hands", "playing the drums", "été plage"], trainer)
    file.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    file.save(str(path))
    return path


def tiny_open_clip(arch: str, changes: dict[str, Any], *, dynamic_length: bool, num_frames: int = 2) -> Checkpoint:
    """A frame-averaged open_clip architecture with changes that make it small."""
    config = open_clip_model_config(arch, num_frames=num_frames, changes=changes)
    model = build_model("clip", config)
    text = TextContract(
        tokenizer="clip" if dynamic_length else "tokenizers",
        context_length=model.context_length,
        dynamic_length=dynamic_length,
        pad_id=0,
        cleaning="none" if dynamic_length else "canonicalize",
        templates=VIDEO_TEMPLATES,
    )
    protocol = clip_contracts(
        num_frames=num_frames,
        preprocess=CLIP.preprocess(model.image_size),
        text=text,
        logit_scale=config["logit_scale"],
        logit_bias=config.get("logit_bias"),
    )
    return Checkpoint(family="clip", model_config=config, weights=_weights("clip", config), **vars(protocol))


def _weights(family: str, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Fresh weights, every vector of them moved: norms of ones and biases of zeros would hide mistakes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = build_model(family, config)
        for name, item in model.named_parameters():
            if name != "logit_scale":
                item.data.add_(torch.randn_like(item) * (0.3 if item.ndim == 1 else 0.1))
        return {name: item.clone() for name, item in model.state_dict().items()}
