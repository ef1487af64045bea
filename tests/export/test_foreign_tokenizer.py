"""A model whose tokenizer is not CLIP's: its file comes from the caller, export refuses without, serving reads it."""

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from tokenizers import Tokenizer as TokenizerFile

from export.errors import ExportError
from export.exporter import export_checkpoint
from export.loading import apply_options, read_tokenizer
from serve.contract import TextContract
from serve.models.runtime import load_runtime
from serve.settings import ServeSettings
from serve.text.tokenizer import canonicalize
from tests.models import VISION
from tests.tolerances import assert_close
from training.checkpoints.native_format import Checkpoint
from training.models.registry import build_model
from training.recipes import CLIP, VIDEO_TEMPLATES, clip_contracts

pytestmark = pytest.mark.numeric

ARCH = "ViT-B-16-SigLIP2"
LABELS = ("Riding a bike!", "clapping_hands", "playing drums", "l'été à la plage")


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    """SigLIP2's text tower in small beside a small vision tower, with a logit bias."""
    changes = {"embed_dim": VISION["embed_dim"], "text_cfg": {"width": 32, "heads": 2, "layers": 1, "vocab_size": 400}}
    config = {
        "num_frames": 2,
        "vision": VISION,
        "text": {"kind": "open_clip", "arch": ARCH, "changes": changes},
        "logit_scale": 2.0,
        "logit_bias": -3.0,
    }
    torch.manual_seed(2)
    weights = build_model("clip", config).state_dict()
    text = TextContract(
        tokenizer="tokenizers", context_length=64, dynamic_length=False, pad_id=0, cleaning="canonicalize",
        templates=VIDEO_TEMPLATES,
    )  # fmt: skip
    protocol = clip_contracts(
        num_frames=2, preprocess=CLIP.preprocess(VISION["image_size"]), text=text, logit_scale=2.0, logit_bias=-3.0
    )
    return Checkpoint(family="clip", model_config=config, weights=weights, **vars(protocol))


def test_export_refuses_without_the_file(checkpoint: Checkpoint) -> None:
    with pytest.raises(ExportError, match="--tokenizer"):
        read_tokenizer(checkpoint, None)
    with pytest.raises(ExportError, match="cannot read the tokenizer file"):
        read_tokenizer(checkpoint, Path("/nowhere/tokenizer.json"))
    with pytest.raises(ExportError, match="tokenizer"):
        wrong = dataclasses.replace(checkpoint, text=dataclasses.replace(checkpoint.text, tokenizer="clip"))
        read_tokenizer(wrong, None)


def test_cleaning_is_open_clips() -> None:
    theirs = open_clip.tokenizer.get_clean_fn("canonicalize")
    for text in (*LABELS, "  two  spaces ", "&amp;lt;tag&amp;gt;", "", "under_score-dash", "ÉTÉ"):
        assert canonicalize(text) == theirs(text)


def test_served_texts_are_torchs(tmp_path: Path, checkpoint: Checkpoint, tokenizer_file: Path) -> None:
    ready = apply_options(checkpoint, templates=None, tokenizer=tokenizer_file)
    export_checkpoint(ready, read_tokenizer(ready, tokenizer_file), name="siglip", repository=tmp_path)
    file = TokenizerFile.from_file(str(tokenizer_file))
    file.enable_padding(length=64, pad_id=0, pad_token="<pad>")
    prompts = [canonicalize(f"a video of {label}") for label in LABELS]
    tokens = torch.tensor([row.ids for row in file.encode_batch(prompts)])
    with torch.no_grad():
        expected = torch.nn.functional.normalize(checkpoint.build().encode_text(tokens), dim=-1).numpy()

    async def served() -> np.ndarray:
        settings = ServeSettings(
            repository=tmp_path, model="siglip", cache_dir=tmp_path / "cache", engine="openvino-f32"
        )
        runtime = await load_runtime(settings, "siglip")
        try:
            assert runtime.contract.scoring.activation == "sigmoid"
            assert runtime.contract.scoring.logit_bias == -3.0
            return np.asarray(await runtime.bank_builder.build(LABELS, ready.text.templates))
        finally:
            await runtime.close()

    found = asyncio.run(served())
    assert_close(found[0], expected)
    assert np.abs(found[0] - found[0][0]).max() > 1e-3
