"""The path of real weights, at full size with random ones: export from a file, verify, and the features torch gives."""

from pathlib import Path

import numpy as np
import onnxruntime
import open_clip
import pytest
import torch

from export.assembly import export_checkpoint
from export.sources import from_open_clip, tokenizer_bytes
from export.verification import verify_version


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("arch", "tag"), [("ViT-B-32", "openai"), ("PE-Core-B-16", "meta")])
def test_exported_features_are_torch_s(tmp_path: Path, arch: str, tag: str) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(arch, pretrained=None, force_quick_gelu=tag == "openai").eval()
    weights = tmp_path / "weights.pt"
    torch.save(model.state_dict(), weights)
    checkpoint = from_open_clip(arch, str(weights), num_frames=2, preprocess_tag=tag)
    assert checkpoint.preprocess.resize == ("squash" if arch.startswith("PE") else "shortest_side")
    exported = export_checkpoint(checkpoint, tokenizer_bytes(checkpoint, None), name="real", repository=tmp_path)
    assert verify_version(tmp_path, "real", version=None).contract == exported.contract
    frames = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 224, 224), dtype=np.uint8)
    session = onnxruntime.InferenceSession(str(tmp_path / exported.contract.graphs["video"].file))
    found = session.run(["video_features"], {"frames": frames})[0]
    rule = checkpoint.preprocess
    mean, std = torch.tensor(rule.mean).view(3, 1, 1), torch.tensor(rule.std).view(3, 1, 1)
    with torch.inference_mode():
        pixels = (torch.from_numpy(frames).float() / 255 - mean) / std
        expected = model.encode_image(pixels.flatten(0, 1)).unflatten(0, (2, 2)).mean(dim=1).numpy()
    cosine = (found * expected).sum(-1) / np.linalg.norm(found, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert cosine.min() >= 0.9999
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()
