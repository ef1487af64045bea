"""Features of videos: those the server computes, encoded once, kept by content, made again where damaged."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch

from serve import scoring
from serve.errors import UnknownModel
from serve.served_model import ServedModel
from tests.models import FAMILIES, tiny_actionclip, tiny_checkpoint, tiny_xclip, write_tokenizer
from tests.small_repository import shifted
from tests.tolerances import DOT, assert_close
from training.checkpoints.native_format import Checkpoint, save_checkpoint
from training.config import ConfigError, DataConfig
from training.data.bad_videos import TooManyBadVideosError
from training.data.clips.reader import ClipReader, decode_settings
from training.data.decoding.process import DecodeProcess
from training.data.lists.rows import Entry
from training.few_shot.encoding import EncodedVideos, VideoEncoder, _evaluation_rule
from training.few_shot.models import CheckpointModel

pytestmark = pytest.mark.numeric

TINY = {"actionclip": lambda: tiny_actionclip("Transf"), "xclip": tiny_xclip}


def encoder_of(checkpoint: Checkpoint, folder: Path, *, tokenizer: Path | None = None) -> VideoEncoder:
    """Its cache lies in `folder` too, and is found again by the same checkpoint."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        save_checkpoint(path, checkpoint)
    return VideoEncoder(CheckpointModel(path, tokenizer=tokenizer, device=torch.device("cpu")), cache=folder / "cache")


def encode(encoder: VideoEncoder, entries: list[Entry]) -> EncodedVideos:
    return encoder.encode(entries, workers=1, max_bad_share=0.5)


@pytest.mark.parametrize("family", TINY)
def test_logits_are_those_of_the_model(family: str, entries: list[Entry], tmp_path: Path) -> None:
    checkpoint = TINY[family]()
    encoder = encoder_of(checkpoint, tmp_path)
    found = encode(encoder, entries[:3])
    names = ("waving", "opening arms", "closing arms")
    bank = encoder.bank(names)
    logits = encoder.text_logits(found.vectors, bank)
    assert logits.shape == (3, len(bank), 3)
    model, rule = checkpoint.build(), checkpoint.preprocess
    mean, std = torch.tensor(rule.mean).view(3, 1, 1), torch.tensor(rule.std).view(3, 1, 1)
    settings = decode_settings(DataConfig())
    reader = ClipReader(_evaluation_rule(encoder.model), settings, decoder=DecodeProcess(settings))
    with torch.no_grad():
        for row, entry in zip(logits, entries, strict=False):
            views = torch.from_numpy(reader.test_views(entry)[0]).float()
            video = model.encode_video((views / 255 - mean) / std)
            for template, texts in zip(row, bank, strict=True):
                expected = model.head(video.video_features, video.patch_features, torch.from_numpy(texts))[0].numpy()
                if not model.has_prompt_head:  # the contract's scale: ActionCLIP evaluates at 100
                    expected = expected / model.logit_scale.exp().item() * checkpoint.scoring.logit_scale
                assert_close(template, expected, magnitude=checkpoint.scoring.logit_scale)
    reader.close()


def test_a_content_is_encoded_once_under_whatever_name(entries: list[Entry], tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("clip")
    first = encode(encoder_of(checkpoint, tmp_path), entries[:4])
    assert first.num_uncached == 4
    copy = tmp_path / "copy.bin"
    copy.write_bytes(entries[2].path.read_bytes())
    again = encode(encoder_of(checkpoint, tmp_path), [*entries[2:6], Entry(path=copy, label=0)])
    assert again.num_uncached == 2
    np.testing.assert_array_equal(again.vectors[:2], first.vectors[2:])
    np.testing.assert_array_equal(again.vectors[4], again.vectors[0])
    (tmp_path / "checkpoint.pt").unlink()
    other = encode(encoder_of(shifted(checkpoint, 1), tmp_path), entries[:1])
    assert other.num_uncached == 1


@pytest.mark.parametrize("damage", ["a row", "the file"])
def test_what_is_damaged_is_encoded_again(entries: list[Entry], tmp_path: Path, damage: str) -> None:
    checkpoint = tiny_checkpoint("clip")
    encoder = encoder_of(checkpoint, tmp_path)
    first = encode(encoder, entries[:3])
    encoder.close()
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    if damage == "a row":
        with sqlite3.connect(file) as connection:
            connection.execute(
                "update kept set features = zeroblob(length(features)) where key = ?", (first.digests[1],)
            )
        connection.close()
    else:
        file.write_bytes(os.urandom(5000))
    again = encode(encoder_of(checkpoint, tmp_path), entries[:3])
    assert again.num_uncached == (1 if damage == "a row" else 3)
    np.testing.assert_array_equal(again.vectors, first.vectors)


def test_videos_that_cannot_be_read_are_left_out_up_to_a_share(entries: list[Entry], tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("<html>")
    mixed = [entries[0], Entry(path=broken, label=0), entries[1], Entry(path=tmp_path / "missing.mp4", label=1)]
    encoder = encoder_of(tiny_checkpoint("clip"), tmp_path)
    found = encode(encoder, mixed)
    assert found.entries == (entries[0], entries[1])
    assert found.indices == (0, 2)
    with pytest.raises(TooManyBadVideosError):
        encoder.encode(mixed, workers=1, max_bad_share=0.4)


def test_texts_of_another_tokenizer_need_its_file(tmp_path: Path) -> None:
    checkpoint = FAMILIES["siglip"]()
    with pytest.raises(ConfigError, match="--tokenizer"):
        encoder_of(checkpoint, tmp_path)
    path = write_tokenizer(tmp_path / "tokenizer.json")
    bank = encoder_of(checkpoint, tmp_path, tokenizer=path).bank(("waving", "clapping"))
    assert_close(bank, scoring.normalize(bank), terms=DOT)


@pytest.mark.parametrize("name", ["other", "fused"])
def test_an_exported_model_gives_the_same_logits(
    name: str, entries: list[Entry], repository: Path, tmp_path: Path
) -> None:
    """`other` is X-CLIP with its head, `fused` ActionCLIP."""
    checkpoint = {"other": tiny_xclip(), "fused": TINY["actionclip"]()}
    exported = VideoEncoder(ServedModel.open(repository, name), cache=tmp_path / "cache")
    encoders = (encoder_of(checkpoint[name], tmp_path), exported)
    names = ("waving", "opening arms")
    found = []
    for encoder in encoders:
        encoded = encode(encoder, entries[:2])
        assert encoded.num_uncached == 2  # features of another runtime are others
        found.append(encoder.text_logits(encoded.vectors, encoder.bank(names)))
    assert_close(found[0], found[1], magnitude=checkpoint[name].scoring.logit_scale)


def test_a_model_that_is_not_there_is_reported(repository: Path) -> None:
    for reference in ("nosuch", "tiny@9"):
        with pytest.raises(UnknownModel, match="has no model"):
            ServedModel.open(repository, reference)
