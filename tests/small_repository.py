"""A repository of small versions to move between: two good ones, a damaged one, and models of other kinds."""

import dataclasses
import re
import shutil
from pathlib import Path

import torch

from export.exporter import export_checkpoint
from export.loading import read_tokenizer
from serve.repository import contract_path
from tests.models import tiny_actionclip, tiny_checkpoint, tiny_xclip
from training.checkpoints.native_format import Checkpoint


def publish(checkpoint: Checkpoint, name: str, repository: Path) -> None:
    export_checkpoint(checkpoint, read_tokenizer(checkpoint, None), name=name, repository=repository)


def shifted(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """Other weights of the same shapes."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: value if name == "logit_scale" else value + 0.1 * torch.randn(value.shape, generator=generator)
        for name, value in checkpoint.weights.items()
    }
    return dataclasses.replace(checkpoint, weights=weights)


def write_small_repository(folder: Path) -> None:
    """`tiny@1` and `@2` differ in weights of both towers, `@3` is damaged; `other` is X-CLIP, `fused` ActionCLIP."""
    plain = tiny_checkpoint("clip")
    for seed in (1, 2):
        publish(shifted(plain, seed), "tiny", folder)
    _copy_version(folder, "tiny", 2, 3)
    graph = folder / "tiny_video" / "3" / "model.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(bytes(content))
    publish(tiny_xclip(), "other", folder)
    publish(tiny_actionclip("Transf"), "fused", folder)


def _copy_version(repository: Path, name: str, old: int, new: int) -> None:
    for part in ("text", "video"):
        shutil.copytree(repository / f"{name}_{part}" / str(old), repository / f"{name}_{part}" / str(new))
    path = contract_path(repository, name, new)
    content = path.read_text().replace(f'"version": {old},', f'"version": {new},')
    path.write_text(re.sub(rf"({name}_(?:text|video))/{old}/", rf"\1/{new}/", content))
