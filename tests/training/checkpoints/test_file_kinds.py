"""Files are read by their content; what is not weights is named together with what to do."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from tests.training.checkpoints.conftest import Weights
from training.checkpoints.file_kinds import detect_file_kind
from training.checkpoints.native_format import CheckpointError
from training.checkpoints.reading import detect_format, read_checkpoint

LFS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 605143316\n"
)
HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in to continue</title></head><body>403</body></html>"
XML = b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>'


def torch_bytes(document: object, *, is_zip: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(document, stream, _use_new_zipfile_serialization=is_zip)
    return stream.getvalue()


def zip_bytes(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tar_bytes() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("clip.pt"))
    return stream.getvalue()


def npz_bytes() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, params=np.zeros(3))
    return stream.getvalue()


TENSORS = {"a": torch.zeros(300)}
REFUSED = {
    "empty": (b"", "is empty; download it again"),
    "lfs": (LFS, "Git LFS pointer to a file of 605143316 bytes.*git lfs pull"),
    "lfs with crlf": (LFS.replace(b"\n", b"\r\n"), "Git LFS pointer"),
    "annex": (b"/annex/objects/MD5E-s1--abc.pt\n", "git-annex pointer.*git annex get"),
    "html": (HTML, "web page.*Sign in to continue.*download the file itself"),
    "html behind a mark": (b"\xef\xbb\xbf\n" + HTML.lower(), "web page"),
    "xml": (XML, "web page"),
    "json error": (b'{"error": "Repository not found"}', "is JSON, not weights; it contains error"),
    "config": (b'{"model_type": "clip"}', "configuration without weights; pass its folder"),
    "text": (b"Entry not found", "is text that begins with 'Entry not found'"),
    "gzip": (gzip.compress(torch_bytes(TENSORS)), "compressed with gzip; unpack"),
    "tar": (tar_bytes(), "tar archive; unpack"),
    "zip": (zip_bytes(**{"clip/model.pt": b"x"}), "zip archive of clip/model.pt; unpack"),
    "npz": (npz_bytes(), "NumPy arrays"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "a GGUF file"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 file"),
    "noise": (bytes(range(1, 255)) + bytes(40), "has an unknown format"),
    "cut torch": (torch_bytes(TENSORS)[:-30], "truncated.*download it again"),
    "cut old torch": (torch_bytes(TENSORS, is_zip=False)[:300], r"truncated|cannot read weights"),
    "cut safetensors": (save(TENSORS)[:-30], "truncated: expected 1272 bytes, found 1242"),
    "cut safetensors header": (save(TENSORS)[:30], "truncated: the header has 72 bytes, the file 30"),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".bin"])
@pytest.mark.parametrize("case", REFUSED, ids=list(REFUSED))
def test_what_is_not_weights_is_named_whatever_it_is_called(tmp_path: Path, case: str, suffix: str) -> None:
    content, words = REFUSED[case]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin", "weights.pt", "weights"])
def test_safetensors_are_read_under_any_name(tmp_path: Path, weights: Weights, name: str) -> None:
    save_file(weights, tmp_path / name)
    assert detect_file_kind(tmp_path / name) == "safetensors"
    assert detect_format(tmp_path / name) == "clip"
    read = read_checkpoint(tmp_path / name, overrides={"activation": "gelu"})
    assert torch.equal(read.weights["visual.proj"], weights["visual.proj"])


def test_a_torch_file_called_safetensors_is_read(tmp_path: Path, weights: Weights) -> None:
    for is_zip in (True, False):
        (tmp_path / "w.safetensors").write_bytes(torch_bytes(weights, is_zip=is_zip))
        assert detect_format(tmp_path / "w.safetensors") == "clip"


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_an_index_stands_for_its_files(tmp_path: Path, weights: Weights, kind: str) -> None:
    halves = [dict(list(weights.items())[:10]), dict(list(weights.items())[10:])]
    names = [f"model-0000{i}-of-00002.{kind}" for i in (1, 2)]
    for name, half in zip(names, halves, strict=True):
        if kind == "safetensors":
            save_file(half, tmp_path / name)
        else:
            torch.save(half, tmp_path / name)
    index = tmp_path / f"model.{kind}.index.json"
    table = {key: name for name, half in zip(names, halves, strict=True) for key in half}
    index.write_text(json.dumps({"metadata": {}, "weight_map": table}))
    read = read_checkpoint(index, overrides={"activation": "gelu"})
    assert torch.equal(read.weights["visual.proj"], weights["visual.proj"])
    with pytest.raises(CheckpointError, match="one of several weight files; pass the folder"):
        read_checkpoint(tmp_path / names[0])
    (tmp_path / names[1]).unlink()
    with pytest.raises(CheckpointError, match=f"these are missing: {names[1]}"):
        read_checkpoint(index, overrides={"activation": "gelu"})


def test_weights_of_transformers_alone_ask_for_their_folder(tmp_path: Path) -> None:
    tensors = {"text_model.final_layer_norm.bias": torch.zeros(3), "vision_model.post_layernorm.bias": torch.zeros(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"transformers model.*pass the folder"):
        read_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("__0_0.distcp", ".metadata"), "torch.distributed"),
        (("zero_to_fp32.py", "latest"), "DeepSpeed"),
        (("readme.txt",), "this folder contains readme.txt"),
        ((), "contains nothing"),
    ],
)
def test_folders_without_a_configuration_are_named(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(tmp_path)


def test_a_missing_path_is_no_checkpoint_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "absent.pt")


def test_every_cut_of_a_small_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    """No length of a partial download reads as weights or escapes as another kind of error."""
    for content in (torch_bytes(TENSORS), torch_bytes(TENSORS, is_zip=False), save(TENSORS)):
        for length in range(0, len(content) - 1, 97):
            (tmp_path / "w.pt").write_bytes(content[:length])
            with pytest.raises(CheckpointError, match=r"w\.pt"):
                read_checkpoint(tmp_path / "w.pt")
