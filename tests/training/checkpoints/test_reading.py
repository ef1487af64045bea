"""Reading checkpoints of other programs: formats recognised, keys accounted for, nothing run, round trips exact."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.shared_data import GOLDEN, needs_shared
from tests.tolerances import FULL_TOWER, assert_close
from training.checkpoints.actionclip_files import as_saved_on_gpu, read_official_actionclip, to_official_actionclip
from training.checkpoints.hugging_face import to_hugging_face
from training.checkpoints.native_format import (
    Checkpoint,
    CheckpointError,
    build_on_meta,
    check_weights,
    load_checkpoint,
    save_checkpoint,
    upgrade_checkpoint,
    weight_shapes,
)
from training.checkpoints.overrides import Overrides
from training.checkpoints.reading import detect_format, read_checkpoint
from training.checkpoints.xclip_files import read_official_xclip, to_official_xclip

pytestmark = pytest.mark.numeric

MODELS = Path(__file__).resolve().parents[2] / "golden"
KEYS = GOLDEN / "keys"


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return {name: item.float() for name, item in load_file(path).items()}


@pytest.fixture
def xclip_weights() -> dict[str, torch.Tensor]:
    return _weights(MODELS / "xclip" / "b" / "model.safetensors")


@pytest.fixture
def actionclip_document() -> dict[str, Any]:
    folder = MODELS / "actionclip" / "b"
    return {
        "epoch": 3,
        "model_state_dict": _weights(folder / "clip.safetensors"),
        "fusion_model_state_dict": _weights(folder / "fusion_Transf.safetensors"),
        "optimizer_state_dict": {"state": {}},
    }


def _same(first: Checkpoint, second: Checkpoint) -> bool:
    return (
        replace(first, weights={}, provenance={}) == replace(second, weights={}, provenance={})
        and set(first.weights) == set(second.weights)
        and all(torch.equal(item, second.weights[name]) for name, item in first.weights.items())
    )


class Settings(dict[str, Any]):
    """Stands for the configuration object X-CLIP pickles; the reader must not make one."""

    made = 0

    def __setstate__(self, state: object) -> None:
        type(self).made += 1


class Malicious:
    """Its pickle asks to create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_official_xclip_is_read_without_building_its_configuration(
    tmp_path: Path, xclip_weights: dict[str, torch.Tensor]
) -> None:
    settings = Settings(MODEL={"ARCH": "ViT-B/16"})
    settings.note = "state"  # type: ignore[attr-defined]
    torch.save({"model": xclip_weights, "config": settings, "epoch": 30}, tmp_path / "k400.pth")
    Settings.made = 0
    checkpoint = read_checkpoint(tmp_path / "k400.pth")
    assert Settings.made == 0
    assert detect_format(tmp_path / "k400.pth") == "xclip"
    assert checkpoint.sampling.rule == "centres"
    assert checkpoint.preprocess.interpolation == "opencv_bilinear"
    assert checkpoint.scoring.logit_scale == pytest.approx(float(xclip_weights["logit_scale"].exp()))
    assert torch.equal(checkpoint.weights["mit.positional_embedding"], xclip_weights["mit.positional_embedding"])


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before 2020"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, xclip_weights: dict[str, torch.Tensor], is_zip: bool) -> None:
    victim = tmp_path / "created"
    path = tmp_path / "evil.pth"
    torch.save({"model": xclip_weights, "config": Malicious(victim)}, path, _use_new_zipfile_serialization=is_zip)
    checkpoint = read_checkpoint(path)
    assert not victim.exists()
    assert checkpoint.family == "xclip"
    torch.load(path, weights_only=False)
    assert victim.exists(), "the file is not malicious, the test proves nothing"


def test_a_bare_malicious_pickle_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "created"
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Malicious(victim)))
    with pytest.raises(CheckpointError, match=r"evil\.pt"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not victim.exists()


def test_missing_unexpected_and_misshapen_keys_are_named(
    tmp_path: Path, xclip_weights: dict[str, torch.Tensor]
) -> None:
    del xclip_weights["ln_final.bias"]
    xclip_weights["visual.surprise"] = torch.zeros(1)
    xclip_weights["prompts_generator.norm.weight"] = torch.zeros(3)
    torch.save({"model": xclip_weights}, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path / "broken.pth")
    for name in (
        "1 missing: ln_final.bias",
        "1 unexpected: visual.surprise",
        "prompts_generator.norm.weight (expected",
    ):
        assert name in str(caught.value)


def test_unknown_files_and_overrides_are_refused_by_name(
    tmp_path: Path, xclip_weights: dict[str, torch.Tensor]
) -> None:
    torch.save({"something": 1}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="something"):
        read_checkpoint(tmp_path / "other.pt")
    torch.save({"model": xclip_weights}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"got num_frame$"):
        read_checkpoint(tmp_path / "x.pth", overrides={"num_frame": 8})
    with pytest.raises(CheckpointError, match="fusion cannot be given"):
        read_checkpoint(tmp_path / "x.pth", overrides={"fusion": {"kind": "LSTM"}})
    with pytest.raises(CheckpointError, match="the weights require 8"):
        read_checkpoint(tmp_path / "x.pth", overrides={"num_frames": 4})


def test_actionclip_survives_export_and_import(tmp_path: Path, actionclip_document: dict[str, Any]) -> None:
    torch.save(actionclip_document, tmp_path / "first.pt")
    first = read_checkpoint(tmp_path / "first.pt", overrides={"num_frames": 8})
    torch.save(to_official_actionclip(first), tmp_path / "second.pt")
    second = read_checkpoint(tmp_path / "second.pt", overrides={"num_frames": 8})
    assert _same(first, second)
    assert first.scoring.logit_scale == 100
    assert len(first.text.templates) == 16
    assert first.model_config["fusion"]["kind"] == "Transf"


def test_mmaction_port_reads_as_the_official_file(tmp_path: Path, actionclip_document: dict[str, Any]) -> None:
    head = {
        name.replace("module.", "adapter."): item
        for name, item in actionclip_document["fusion_model_state_dict"].items()
    }
    head["adapter.frame_position_embeddings.weight"] = head["adapter.frame_position_embeddings.weight"][:8].clone()
    clip = {f"clip.{name}": item for name, item in actionclip_document["model_state_dict"].items()}
    torch.save({"meta": {}, "state_dict": {**clip, **head}}, tmp_path / "port.pth")
    torch.save(actionclip_document, tmp_path / "official.pt")
    ported = read_checkpoint(tmp_path / "port.pth")
    official = read_checkpoint(tmp_path / "official.pt", overrides={"num_frames": 8}).build()
    assert detect_format(tmp_path / "port.pth") == "actionclip_mmaction"
    assert ported.model_config["num_frames"] == 8
    video = torch.randn(1, 8, 3, 32, 32)
    with torch.no_grad():
        assert_close(ported.build().encode_video(video).video_features, official.encode_video(video).video_features)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_xclip_survives_its_own_and_hugging_face_layouts(
    tmp_path: Path, xclip_weights: dict[str, torch.Tensor]
) -> None:
    torch.save({"model": xclip_weights}, tmp_path / "first.pth")
    first = read_checkpoint(tmp_path / "first.pth")
    torch.save(to_official_xclip(first), tmp_path / "second.pth")
    assert _same(first, read_checkpoint(tmp_path / "second.pth"))
    to_hugging_face(first, tmp_path / "hub")
    assert detect_format(tmp_path / "hub") == "xclip_hugging_face"
    assert _same(first, read_checkpoint(tmp_path / "hub"))
    torch.save(load_file(tmp_path / "hub" / "model.safetensors"), tmp_path / "hub" / "pytorch_model.bin")
    (tmp_path / "hub" / "model.safetensors").unlink()
    assert _same(first, read_checkpoint(tmp_path / "hub"))


def test_our_own_file_gives_back_everything(tmp_path: Path, xclip_weights: dict[str, torch.Tensor]) -> None:
    torch.save({"model": xclip_weights}, tmp_path / "x.pth")
    first = replace(
        read_checkpoint(tmp_path / "x.pth"), labels=("run", "jump"), card="a card", training_state={"step": 7}
    )
    save_checkpoint(tmp_path / "own" / "c.pt", first)
    second = load_checkpoint(tmp_path / "own" / "c.pt")
    assert _same(first, second)
    assert second.provenance["format"] == "xclip"
    assert detect_format(tmp_path / "own" / "c.pt") == "native"
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["c.pt"]
    assert _same(first, read_checkpoint(tmp_path / "own" / "c.pt"))


def test_plain_clip_weights_start_all_three_families(tmp_path: Path, actionclip_document: dict[str, Any]) -> None:
    save_file({k: v.clone() for k, v in actionclip_document["model_state_dict"].items()}, tmp_path / "clip.safetensors")
    video, tokens = torch.randn(2, 4, 3, 32, 32), torch.randint(1, 500, (3, 20))
    for family in ("clip", "actionclip", "xclip"):
        asked = {"family": family, "num_frames": 4, "activation": "quick_gelu"}
        checkpoint = read_checkpoint(tmp_path / "clip.safetensors", overrides=asked)
        assert _same(checkpoint, read_checkpoint(tmp_path / "clip.safetensors", overrides=asked))
        model = checkpoint.build()
        with torch.no_grad():
            assert model.head(*model.encode_video(video)[:2], model.encode_text(tokens)).shape == (2, 3)


def test_an_older_format_is_upgraded_and_a_newer_one_refused() -> None:
    def rename(document: dict[str, Any]) -> dict[str, Any]:
        """note becomes card"""
        return {"card": document.pop("note"), **document}

    found = upgrade_checkpoint({"format": 1, "note": "x"}, upgrades={1: rename}, newest=2)
    assert found == {"format": 2, "card": "x"}
    with pytest.raises(CheckpointError, match="format must be 1 to 2, got 9"):
        upgrade_checkpoint({"format": 9})


def _meta(table: dict[str, list[Any]]) -> dict[str, torch.Tensor]:
    return {k: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for k, (kind, shape) in table.items()}


@needs_shared
def test_full_size_actionclip_keys_match_entirely() -> None:
    for path in sorted(KEYS.glob("actionclip_*.json")):
        table = json.loads(path.read_text())
        for head in table["fusion_model_state_dict"].values():
            document = {"model_state_dict": _meta(table["model_state_dict"]), "fusion_model_state_dict": _meta(head)}
            checkpoint = read_official_actionclip(document, Overrides())
            check_weights(weight_shapes(build_on_meta("actionclip", checkpoint.model_config)), checkpoint.weights)
            back = to_official_actionclip(checkpoint)
            assert _table(as_saved_on_gpu(back["model_state_dict"])) == table["model_state_dict"]
            assert _table(back["fusion_model_state_dict"]) == head


@needs_shared
def test_full_size_xclip_keys_match_entirely() -> None:
    for path in sorted(KEYS.glob("xclip_*.json")):
        table = json.loads(path.read_text())
        checkpoint = read_official_xclip({"model": _meta(table["model"])}, Overrides())
        model = build_on_meta("xclip", checkpoint.model_config)
        check_weights(weight_shapes(model), checkpoint.weights)
        assert _table(to_official_xclip(checkpoint)["model"]) == table["model"]
        assert sum(item.numel() for item in model.parameters()) == table["params"]


def _table(weights: dict[str, torch.Tensor]) -> dict[str, list[Any]]:
    return {k: [str(item.dtype).removeprefix("torch."), list(item.shape)] for k, item in weights.items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("patch_size", [32, 16], ids=["B/32", "B/16"])
def test_full_size_models_of_transformers_give_the_same_logits(tmp_path: Path, patch_size: int) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(patch_size)
    config = transformers.XCLIPConfig(vision_config={"patch_size": patch_size})
    theirs = transformers.XCLIPModel(config).eval()
    with torch.no_grad():
        for item in theirs.parameters():
            item.add_(0.02 * torch.randn_like(item))  # biases and norms of a fresh model are trivial
    theirs.save_pretrained(tmp_path)
    ours = read_checkpoint(tmp_path).build()
    video, tokens = torch.randn(1, 8, 3, 224, 224), torch.zeros(3, 77, dtype=torch.long)
    for row in range(3):
        tokens[row, : 4 + row] = torch.tensor([49406, *range(300, 302 + row), 49407])
    with torch.no_grad():
        expected = theirs(input_ids=tokens, pixel_values=video).logits_per_video
        found = ours.head(*ours.encode_video(video)[:2], ours.encode_text(tokens[:, :6]))
    print(f"largest difference: {(found - expected).abs().max():.2e}")
    scale = float(theirs.logit_scale.exp())
    assert_close(found, expected, magnitude=scale, terms=FULL_TOWER)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_torchscript_archive_reads_as_its_state_dict(tmp_path: Path, actionclip_document: dict[str, Any]) -> None:
    """OpenAI published CLIP as TorchScript with three numbers beside the weights, in half precision."""
    weights = actionclip_document["model_state_dict"]

    class Archive(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    archive = Archive()
    for name, item in weights.items():
        *path, leaf = name.split(".")
        place: torch.nn.Module = archive
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, Archive())
            place = getattr(place, part)
        place.register_parameter(leaf, torch.nn.Parameter(item.half()))
    for name, number in (("input_resolution", 32), ("context_length", 77), ("vocab_size", 600)):
        archive.register_buffer(name, torch.tensor(number))
    torch.jit.script(archive).save(str(tmp_path / "ViT.pt"))
    save_file({name: item.half().float() for name, item in weights.items()}, tmp_path / "plain.safetensors")
    assert detect_format(tmp_path / "ViT.pt") == "clip_torchscript"
    plain = read_checkpoint(tmp_path / "plain.safetensors", overrides={"activation": "quick_gelu"})
    assert _same(read_checkpoint(tmp_path / "ViT.pt"), plain)
    assert "OpenAI" in read_checkpoint(tmp_path / "ViT.pt").provenance["activation"]["source"]
    with pytest.raises(CheckpointError, match=r"must be quick_gelu .*, got gelu"):
        read_checkpoint(tmp_path / "ViT.pt", overrides={"activation": "gelu"})


def test_an_open_clip_state_dict_needs_its_name_if_tensors_are_ambiguous(tmp_path: Path) -> None:
    arch = "PE-Core-T-16-384"
    torch.manual_seed(1)
    model = open_clip.create_model(arch, pretrained=None)
    torch.save({"state_dict": {f"module.{name}": item for name, item in model.state_dict().items()}}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="arch"):
        read_checkpoint(tmp_path / "w.pt")
    checkpoint = read_checkpoint(tmp_path / "w.pt", overrides={"arch": arch, "num_frames": 1})
    assert (checkpoint.preprocess.resize, checkpoint.sampling.rule) == ("squash", "ends")
    frame = torch.randn(1, 3, 384, 384)
    with torch.no_grad():
        found = checkpoint.build().encode_video(frame[None]).video_features
        assert_close(found, model.eval().encode_image(frame), terms=FULL_TOWER)


def test_the_first_format_of_our_files_is_still_read(tmp_path: Path, xclip_weights: dict[str, torch.Tensor]) -> None:
    checkpoint = read_official_xclip({"model": xclip_weights}, Overrides())
    save_checkpoint(tmp_path / "c.pt", checkpoint)
    document = torch.load(tmp_path / "c.pt", weights_only=True)
    document["text"]["lowercase"] = document["text"].pop("cleaning") != "none"
    torch.save({**document, "format": 1}, tmp_path / "old.pt")
    assert _same(load_checkpoint(tmp_path / "old.pt"), checkpoint)
