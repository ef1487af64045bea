"""The reference check passes on golden folders, covers every file of them, and notices a changed number anywhere."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.shared_data import GOLDEN, needs_shared
from training.reference_check.main import run

pytestmark = pytest.mark.numeric

COPIES = Path(__file__).resolve().parents[2] / "golden"
# not of the systems' own code
OF_THIS_PROJECT = sorted([*(f"store/{path.name}" for path in (COPIES / "store").iterdir()), "text/label_lists.json"])


def _checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """(exit status, the JSON line) of a check."""
    capsys.readouterr()
    status = run(folder)
    document: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return status, document


def _exceeded(document: dict[str, Any]) -> set[str]:
    return {name.split(" (")[0] for name, group in document["groups"].items() if not group["passed"]}


def test_copies_pass_and_every_file_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    status, document = _checked(COPIES, capsys)
    assert (status, _exceeded(document), document["not_checked"]) == (0, set(), OF_THIS_PROJECT)


@needs_shared
def test_the_whole_golden_folder_passes(capsys: pytest.CaptureFixture[str]) -> None:
    status, document = _checked(GOLDEN, capsys)
    assert (status, _exceeded(document), document["not_checked"]) == (0, set(), [])
    assert sum(group["arrays"] for group in document["groups"].values()) > 4000


def test_an_empty_folder_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _checked(tmp_path, capsys)[0] == 1


def _change_array(path: Path, name: str) -> None:
    arrays = dict(np.load(path))
    arrays[name] = arrays[name].copy()
    arrays[name].flat[-1] += 1
    np.savez(path, **arrays)


def _change_record(path: Path, keys: tuple[Any, ...]) -> None:
    document = json.loads(path.read_text())
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] += 1
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("path", "keys", "group"),
    [
        ("temporal/actionclip_train_indices.json", (5, "indices", 0), "temporal actionclip training"),
        ("temporal/xclip_train_indices.json", (9, "frame_inds", 0), "temporal xclip_train"),
        ("temporal/xclip_general_indices.json", (9, "frame_inds", 0), "temporal xclip_general"),
        ("temporal/actionclip_index_bias.json", (0, "index_bias"), "temporal index bias"),
        ("temporal/actionclip_annotation_lines.json", (0, "label"), "temporal annotation lines"),
        ("spatial/xclip_multiscale_crop_boxes.json", (0, "crop_bbox_xyxy", 0), "spatial xclip training boxes"),
        ("spatial/xclip_flip_label_map.json", (0, "label"), "spatial flip labels"),
        ("spatial/xclip_val.json", ("cases", 0, "float_sum"), "spatial xclip validation sums"),
        ("losses/actionclip_lr.json", (0, "table", 3, "lrs", 0), "losses actionclip rates"),
        ("losses/actionclip_kl.json", (0, "total_loss"), "losses actionclip kl"),
        ("losses/xclip_lr.json", ("cases", 0, "table", 3, "lrs", 1), "losses xclip rates"),
        ("losses/xclip_cutmix_bbox.json", (0, "bbox", 0), "losses cutmix boxes"),
        ("losses/xclip_losses.json", ("blending", 0, "loss"), "losses of mixed clips"),
    ],
)
def test_a_changed_record_is_noticed(
    path: str, keys: tuple[Any, ...], group: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(path).parts[0]
    shutil.copytree(COPIES / folder, tmp_path / folder)
    _change_record(tmp_path / path, keys)
    status, document = _checked(tmp_path, capsys)
    assert status == 1
    assert _exceeded(document) == {group}


@pytest.mark.parametrize(
    ("path", "name", "group"),
    [
        ("spatial/actionclip_randaugment.npz", "Posterize_M9_s0", "spatial randaugment bytes"),
        ("spatial/actionclip_train_geom.npz", "48x64_py0_sth0", "spatial actionclip training bytes"),
        ("losses/xclip_blending.npz", "case0_out", "losses mixed clips"),
        ("xclip/b/io.npz", "mit_block0", "xclip/b"),
        ("actionclip/b/io.npz", "Transf_probs", "actionclip/b"),
    ],
)
def test_a_changed_array_is_noticed(
    path: str, name: str, group: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(path).parent
    shutil.copytree(COPIES / folder, tmp_path / folder)
    _change_array(tmp_path / path, name)
    status, document = _checked(tmp_path, capsys)
    assert status == 1
    assert _exceeded(document) == {group}


def test_other_sizes_and_heads_are_taken_from_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder written by another implementation, transformers', at sizes no golden file has."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path / "hf_xclip"
    folder.mkdir()
    torch.manual_seed(3)
    model = transformers.XCLIPModel(
        transformers.XCLIPConfig(
            projection_dim=96,
            prompt_layers=1,
            prompt_num_attention_heads=6,
            text_config={
                "vocab_size": 300, "hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3,
                "num_attention_heads": 3, "max_position_embeddings": 20, "eos_token_id": 299, "bos_token_id": 298,
            },
            vision_config={
                "image_size": 24, "patch_size": 8, "hidden_size": 80, "intermediate_size": 320, "num_hidden_layers": 1,
                "num_attention_heads": 5, "num_frames": 3, "mit_hidden_size": 96, "mit_intermediate_size": 384,
                "mit_num_hidden_layers": 2, "mit_num_attention_heads": 4,
            },
        )
    ).eval()  # fmt: skip
    video, tokens = torch.randn(2, 3, 3, 24, 24), torch.randint(1, 298, (4, 20))
    tokens[:, 9], tokens[:, 10:] = 299, 0
    with torch.no_grad():
        output = model(input_ids=tokens, pixel_values=video)
    save_file({name: item.contiguous() for name, item in model.state_dict().items()}, folder / "model.safetensors")
    heads = {"heads_vision": 5, "heads_text": 3, "heads_mit": 4, "heads_prompt": 6}
    (folder / "config.json").write_text(json.dumps(heads))
    np.savez(folder / "io.npz", video=video, tokens=tokens, logits_per_video=output.logits_per_video)
    status, document = _checked(tmp_path, capsys)
    assert (status, document["not_checked"]) == (0, [])
    assert [group["arrays"] for group in document["groups"].values()] == [1]
