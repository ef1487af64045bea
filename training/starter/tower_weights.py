"""Load published weights into the towers of the starter model."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.models.bert_text import BertEncoder
from training.models.efficientnet_lite import ConceptVision, EfficientNetLite, InvertedBlock, SameConv
from training.models.gated_text import GatedText
from training.models.ngram_text import NGRAMS, NgramEncoder
from training.models.quantised import QuantisedLinear, quantise_matrix_, quantise_table_
from training.starter import recipe
from training.starter.source_data import ClassText, SourceError
from training.starter.words import activity_objects

BATCH_NORM_EPSILON = 1e-3  # EfficientNet's
NUM_TABLE_PARTS = 17  # the Universal Sentence Encoder's token table is split; token i is in part i modulo 17


def fill_image_(vision: ConceptVision, weights: Mapping[str, Tensor]) -> None:
    """Load EfficientNet-Lite's weights, with batch normalisation folded into the preceding convolutions."""
    features: EfficientNetLite = vision.features
    _fill_convolution_(features.stem, weights, "_conv_stem", "_bn0")
    for index, module in enumerate(features.blocks):
        block, start = cast(InvertedBlock, module), f"_blocks.{index}."
        if block.expand is not None:
            _fill_convolution_(block.expand, weights, f"{start}_expand_conv", f"{start}_bn0")
        _fill_convolution_(block.depthwise, weights, f"{start}_depthwise_conv", f"{start}_bn1")
        _fill_convolution_(block.project, weights, f"{start}_project_conv", f"{start}_bn2")
    _fill_convolution_(features.head, weights, "_conv_head", "_bn1")
    _fill_linear_(vision.classifier, weights["_fc.weight"], weights["_fc.bias"])


def fill_english_(text: GatedText, weights: Mapping[str, Tensor], *, piece_ids: Sequence[int]) -> None:
    """Load MiniLM's weights, which have BERT's parameter names; the piece table contains only `piece_ids`."""
    encoder: BertEncoder = text.english
    quantise_table_(
        text.piece_table,
        weights["embeddings.word_embeddings.weight"][torch.tensor(piece_ids)],
        levels=recipe.PIECE_LEVELS,
        spread=recipe.PIECE_SPREAD,
    )
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    _copy_(encoder.positions, positions[: len(encoder.positions)])
    _fill_norm_(encoder.norm, weights, "embeddings.LayerNorm")
    for index, layer in enumerate(encoder.layers):
        names = {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "attention_output": "attention.output.dense",
            "widen": "intermediate.dense",
            "narrow": "output.dense",
        }
        start = f"encoder.layer.{index}."
        for ours, theirs in names.items():
            _fill_linear_(
                layer.get_submodule(ours), weights[f"{start}{theirs}.weight"], weights[f"{start}{theirs}.bias"]
            )
        _fill_norm_(layer.get_submodule("attention_norm"), weights, f"{start}attention.output.LayerNorm")
        _fill_norm_(layer.get_submodule("output_norm"), weights, f"{start}output.LayerNorm")


def fill_multilingual_(encoder: NgramEncoder, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Load the Universal Sentence Encoder's weights; its token table is stored as 17 parts with 6-bit codes."""
    weights = {name: torch.from_numpy(np.array(item, np.float32)) for name, item in arrays.items()}
    orders = [order for order, _ in NGRAMS]
    table = torch.empty(NUM_TABLE_PARTS * len(weights["q1"]), weights["q1"].shape[1])
    for part in range(NUM_TABLE_PARTS):
        table[part::NUM_TABLE_PARTS] = weights[f"q{part + 1}"] * weights["scale"][part] + weights["lo"][part]
    quantise_table_(encoder.table, table, levels=recipe.TOKEN_LEVELS, spread=recipe.TOKEN_SPREAD)
    _fill_linear_(
        encoder.token_projection, _concatenate(weights, "proj{}", orders).T, _concatenate(weights, "proj_b{}", orders)
    )
    _copy_(encoder.token_norm.weight, _concatenate(weights, "ln_g{}", orders))
    _copy_(encoder.token_norm.bias, _concatenate(weights, "ln_b{}", orders))
    for order, branch in zip(orders, encoder.branches, strict=True):
        for number, name in ((1, "first"), (2, "second")):
            _fill_linear_(branch.get_submodule(name), weights[f"w{number}_{order}"].T, weights[f"b{number}_{order}"])
    _copy_(encoder.joined_norm.weight, weights["ln_g"])
    _copy_(encoder.joined_norm.bias, weights["ln_b"])
    _fill_linear_(encoder.pool_projection, weights["cnn_W"].T, weights["cnn_b"])
    for ours, theirs in (
        ("first", "d0"), ("second", "d1"), ("third", "d2"), ("last", "d3"), ("around_first", "p1"),
        ("around_third", "p3"),
    ):  # fmt: skip
        _fill_linear_(encoder.get_submodule(ours), weights[theirs].T, None)


@torch.no_grad()
def class_embeddings(
    text: GatedText,
    classes: Sequence[ClassText],
    *,
    pieces: Sequence[Sequence[int]],
    tokens: Sequence[Sequence[int]],
    activities: Sequence[Sequence[int]],
) -> Tensor:
    """Return the embeddings [classes, D] of the image classes: per encoder the mean over lemmas, standardised.

    All lemmas, class by class, are passed as `pieces` of the English encoder and as `tokens` of the multilingual
    encoder; `activities` are the tokens of the activities. The multilingual encoder relates objects to actions less
    well than the English one, so its class embeddings are mixed with embeddings of activities that involve the object.
    """
    class_of_lemma = torch.tensor([index for index, item in enumerate(classes) for _ in item.lemmas])
    english = _encode_by_length(pieces, lambda ids: text.english(text.piece_table(ids), torch.ones(ids.shape)))
    lemma_features, activity_features = (
        _encode_by_length(ids, lambda batch: text.multilingual(batch, torch.ones(*batch.shape, 1)))
        for ids in (tokens, activities)
    )
    by_activity = activity_weights(classes) @ (activity_features - activity_features.mean(dim=0))
    squared_norm = by_activity.square().sum(dim=1)
    by_activity = recipe.ACTIVITY_WEIGHT * by_activity / squared_norm[squared_norm > 0].mean().sqrt()
    multilingual = _standardize(_average_lemmas(lemma_features, class_of_lemma, len(classes)) + by_activity)
    return torch.cat([_average_lemmas(english, class_of_lemma, len(classes)), multilingual], dim=1)


def activity_weights(classes: Sequence[ClassText]) -> Tensor:
    """Return the weight of each activity for each class [classes, activities]; 0 for classes without activities.

    Raises:
        SourceError: `activities.txt` contains an object that is not an ImageNet class.
    """
    class_indices: dict[str, int] = {}
    for index, item in enumerate(classes):
        for lemma in item.lemmas:
            class_indices.setdefault(lemma.lower(), index)
    table = activity_objects()
    is_involved = torch.zeros(len(classes), len(table))
    for column, (activity, objects) in enumerate(table):
        for name in objects:
            if name.lower() not in class_indices:
                raise SourceError(f"activities.txt: {activity!r} has {name!r}, which is not a class of ImageNet")
            is_involved[class_indices[name.lower()], column] = 1
    return is_involved / is_involved.sum(dim=1, keepdim=True).clamp(min=1)


def _encode_by_length(token_ids: Sequence[Sequence[int]], encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the features [N, D] of N token sequences, encoded in batches of equal length without padding."""
    by_length = defaultdict(list)
    for index, ids in enumerate(token_ids):
        by_length[len(ids)].append(index)
    batches = [encode(torch.tensor([list(token_ids[index]) for index in indices])) for indices in by_length.values()]
    order = torch.tensor([index for indices in by_length.values() for index in indices])
    return torch.cat(batches)[order.argsort()]


def _average_lemmas(features: Tensor, class_of_lemma: Tensor, num_classes: int) -> Tensor:
    """Return the standardised mean direction [classes, D] of the features of each class's lemmas."""
    sums = torch.zeros(num_classes, features.shape[1]).index_add_(0, class_of_lemma, features)
    return _standardize(functional.normalize(sums, dim=1))


def _standardize(features: Tensor) -> Tensor:
    """Centre features [N, D] and scale them to a root mean square norm of one."""
    centred = features - features.mean(dim=0)
    return centred / centred.square().sum(dim=1).mean().sqrt()


def _concatenate(weights: Mapping[str, Tensor], name: str, orders: Sequence[int]) -> Tensor:
    return torch.cat([weights[name.format(order)] for order in orders], dim=-1)


def _fill_convolution_(module: SameConv, weights: Mapping[str, Tensor], name: str, norm: str) -> None:
    deviation = torch.sqrt(weights[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
    factor = weights[f"{norm}.weight"] / deviation
    weight = weights[f"{name}.weight"] * factor.reshape(-1, 1, 1, 1)
    if module.groups > 1:
        _copy_(module.weight, weight)
    else:
        quantise_matrix_(module, weight)
    _copy_(module.bias, weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * factor)


def _fill_linear_(module: nn.Module, weight: Tensor, bias: Tensor | None) -> None:
    layer = cast(QuantisedLinear, module)
    quantise_matrix_(layer, weight)
    if bias is not None:
        _copy_(cast(Tensor, layer.bias), bias)


def _fill_norm_(module: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    norm = cast(nn.LayerNorm, module)
    _copy_(norm.weight, weights[f"{name}.weight"])
    _copy_(norm.bias, weights[f"{name}.bias"])


def _copy_(target: Tensor, source: Tensor) -> None:
    with torch.no_grad():
        target.copy_(source)
