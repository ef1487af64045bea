"""Compute the logits of a torch model's output in the same way as serving, for training and evaluation."""

import torch

from serve.arrays import Float32Array
from serve.contract import ScoringContract
from serve.scoring import compute_logits
from training.models.base import VideoOutput, VideoTextModel


@torch.inference_mode()
def output_logits(
    model: VideoTextModel, output: VideoOutput, bank: Float32Array, scoring: ScoringContract
) -> Float32Array:
    """Return logits [N, M, K] of N views against a bank [M, K, D], from the prompt head or from cosines."""
    if not model.has_prompt_head:
        return compute_logits(as_array(output.video_features), bank, scoring)
    texts = torch.from_numpy(bank).to(output.video_features.device)
    per_template = [model.head(output.video_features, output.patch_features, features) for features in texts]
    return as_array(torch.stack(per_template, dim=1))  # [N, M, K]


def as_array(values: torch.Tensor) -> Float32Array:
    """Convert a tensor to a float32 array."""
    array: Float32Array = values.detach().to(torch.float32).cpu().numpy()
    return array
