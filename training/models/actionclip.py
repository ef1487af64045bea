"""ActionCLIP (arXiv:2109.08472): CLIP encodes each frame, a fusion model combines the frame features.

Evaluation multiplies cosines by 100 instead of the learned exp(logit_scale), which only training uses; the factor is
stored in the checkpoint's scoring contract.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from training.models.base import (
    INITIAL_LOGIT_SCALE,
    ModelConfigError,
    TextTower,
    VideoOutput,
    VideoTextModel,
    VisionTower,
)
from training.models.fusion import build_fusion


class ActionClip(VideoTextModel):
    """A dual encoder with a fusion model that maps frame features [B, T, D] to video features [B, D]."""

    family = "actionclip"

    def __init__(
        self,
        visual: VisionTower,
        text: TextTower,
        *,
        num_frames: int,
        fusion: Mapping[str, Any],
        logit_scale: float = INITIAL_LOGIT_SCALE,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__(visual, text, num_frames=num_frames, logit_scale=logit_scale, logit_bias=logit_bias)
        if getattr(visual, "time_embedding", None) is not None and fusion.get("kind") != "meanP":
            raise ModelConfigError(
                "fusion.kind: must be meanP for joint attention, which gives one feature per video, "
                f"got {fusion.get('kind')!r}"
            )
        if visual.frames_at_once not in (1, num_frames):
            raise ModelConfigError(f"vision.num_frames: must be {num_frames}, got {visual.frames_at_once}")
        self.fusion = build_fusion(fusion, embed_dim=visual.embed_dim, num_frames=num_frames, text_width=text.width)

    @property
    def is_frame_wise(self) -> bool:
        """Whether frames are encoded separately; False for temporal shift and joint attention, which mix frames."""
        return self.visual.frames_at_once == 1

    def encode_video(self, frames: Tensor) -> VideoOutput:
        features = self.visual(frames.flatten(0, 1)).unflatten(
            0, (frames.shape[0], -1)
        )  # [B, T, D]; T = 1 for joint attention
        return VideoOutput(self.fusion(features), None)  # [B, D]

    def encode_frames(self, frames: Tensor) -> Tensor:
        return self.visual(frames) if self.is_frame_wise else super().encode_frames(frames)

    def fuse(self, frame_features: Tensor) -> Tensor:
        return self.fusion(frame_features) if self.is_frame_wise else super().fuse(frame_features)
