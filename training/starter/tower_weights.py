"""Fill the towers of the starter model with published weights."""

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
from training.starter.words import activities as activities_of_objects

BATCH_NORM_EPSILON = 1e-3  # of EfficientNet
CHUNKS = 17  # parts of the Universal Sentence Encoder's token table; token i is in part i modulo 17


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


def fill_english_(text: GatedText, weights: Mapping[str, Tensor], *, kept: Sequence[int]) -> None:
    """Load MiniLM's weights from BERT's names, with the word pieces of `kept`."""
    encoder: BertEncoder = text.english
    quantise_table_(
        text.piece_table,
        weights["embeddings.word_embeddings.weight"][torch.tensor(kept)],
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
    """Load the Universal Sentence Encoder's weights; its table is stored in 17 parts of 6-bit codes."""
    weights = {name: torch.from_numpy(np.array(item, np.float32)) for name, item in arrays.items()}
    orders = [order for order, _ in NGRAMS]
    table = torch.empty(CHUNKS * len(weights["q1"]), weights["q1"].shape[1])
    for part in range(CHUNKS):
        table[part::CHUNKS] = weights[f"q{part + 1}"] * weights["scale"][part] + weights["lo"][part]
    quantise_table_(encoder.table, table, levels=recipe.TOKEN_LEVELS, spread=recipe.TOKEN_SPREAD)
    _fill_linear_(encoder.token_projection, _joined(weights, "proj{}", orders).T, _joined(weights, "proj_b{}", orders))
    _copy_(encoder.token_norm.weight, _joined(weights, "ln_g{}", orders))
    _copy_(encoder.token_norm.bias, _joined(weights, "ln_b{}", orders))
    for order, branch in zip(orders, encoder.branches, strict=True):
        for place, name in ((1, "first"), (2, "second")):
            _fill_linear_(branch.get_submodule(name), weights[f"w{place}_{order}"].T, weights[f"b{place}_{order}"])
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
    """Return embeddings [classes, D] of the image classes: per encoder the mean over lemmas, centred and scaled.

    `tokens` are the rows of all lemmas with the model's tokenizer, class by class, and `activities` those of the table
    of activities; `pieces` are the lemmas with the English encoder's own tokenizer. The multilingual encoder relates
    objects to actions less well than the English one, so its embedding of a class is mixed with embeddings of
    activities that involve the object.
    """
    owner = torch.tensor([index for index, item in enumerate(classes) for _ in item.lemmas])
    english = _by_length(pieces, lambda ids: text.english(text.piece_table(ids), torch.ones(ids.shape)))
    others, named = (
        _by_length(rows, lambda ids: text.multilingual(ids, torch.ones(*ids.shape, 1))) for rows in (tokens, activities)
    )
    by_object = activity_matrix(classes) @ (named - named.mean(dim=0))
    size = by_object.square().sum(dim=1)
    part = recipe.ACTIVITY_WEIGHT * by_object / size[size > 0].mean().sqrt()
    multilingual = _of_unit_size(_of_lemmas(others, owner, len(classes)) + part)
    return torch.cat([_of_lemmas(english, owner, len(classes)), multilingual], dim=1)


def activity_matrix(classes: Sequence[ClassText]) -> Tensor:
    """Return the weights [classes, activities] of activities per class; zero for classes without activities.

    Raises:
        SourceError: an object of the table is not a class name.
    """
    places: dict[str, int] = {}
    for index, item in enumerate(classes):
        for lemma in item.lemmas:
            places.setdefault(lemma.lower(), index)
    table = activities_of_objects()
    seen = torch.zeros(len(classes), len(table))
    for column, (activity, objects) in enumerate(table):
        for name in objects:
            if name.lower() not in places:
                raise SourceError(f"activities.txt: {activity!r} has {name!r}, which is not a class of ImageNet")
            seen[places[name.lower()], column] = 1
    return seen / seen.sum(dim=1, keepdim=True).clamp(min=1)


def _by_length(rows: Sequence[Sequence[int]], encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Return features [N, D] of rows, encoded in batches of equal length without padding."""
    places = defaultdict(list)
    for place, row in enumerate(rows):
        places[len(row)].append(place)
    found = {length: encode(torch.tensor([list(rows[place]) for place in of])) for length, of in places.items()}
    order = torch.tensor([place for of in places.values() for place in of])
    return torch.cat([found[length] for length in places])[order.argsort()]


def _of_lemmas(rows: Tensor, owner: Tensor, count: int) -> Tensor:
    """Average rows of lemmas by class, and scale them."""
    sums = torch.zeros(count, rows.shape[1]).index_add_(0, owner, rows)
    return _of_unit_size(functional.normalize(sums, dim=1))


def _of_unit_size(rows: Tensor) -> Tensor:
    """Centre rows and scale them to a root mean square norm of one."""
    centred = rows - rows.mean(dim=0)
    return centred / centred.square().sum(dim=1).mean().sqrt()


def _joined(weights: Mapping[str, Tensor], name: str, orders: Sequence[int]) -> Tensor:
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
