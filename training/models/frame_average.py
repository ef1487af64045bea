"""CLIP for videos: the mean of separately encoded frames.

The mean is over unnormalised features, as in the video results of Perception Encoder (arXiv:2504.13181), unless
`normalize_frames` is set.
"""

from torch import Tensor
from torch.nn import functional

from training.models.base import INITIAL_LOGIT_SCALE, TextTower, VideoOutput, VideoTextModel, VisionTower


class FrameAverageClip(VideoTextModel):
    """A dual encoder of images and texts, applied to T frames."""

    family = "clip"

    def __init__(
        self,
        visual: VisionTower,
        text: TextTower,
        *,
        num_frames: int,
        normalize_frames: bool = False,
        logit_scale: float = INITIAL_LOGIT_SCALE,
        logit_bias: float | None = None,
    ) -> None:
        super().__init__(visual, text, num_frames=num_frames, logit_scale=logit_scale, logit_bias=logit_bias)
        self.normalize_frames = normalize_frames

    @property
    def is_frame_wise(self) -> bool:
        return self.visual.frames_at_once == 1

    @property
    def prototype_dim(self) -> int:
        return self.visual.prototype_dim

    def encode_video(self, frames: Tensor) -> VideoOutput:
        shape = (frames.shape[0], -1)
        if not self.prototype_dim:
            features = self.visual(frames.flatten(0, 1)).unflatten(0, shape)  # [B, T, D]
            return VideoOutput(self._average(features), None)
        features, prototypes = self.visual.forward_with_prototype_features(frames.flatten(0, 1))  # [B*T, D], [B*T, E]
        video = self._average(features.unflatten(0, shape))
        return VideoOutput(video, None, self.fuse_prototypes(prototypes.unflatten(0, shape)))

    def encode_frames_with_prototypes(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return self.visual.forward_with_prototype_features(frames)

    def fuse_prototypes(self, frame_prototypes: Tensor) -> Tensor:
        return frame_prototypes.mean(dim=1)  # [B, E]

    def encode_frames(self, frames: Tensor) -> Tensor:
        return self.visual(frames) if self.is_frame_wise else super().encode_frames(frames)

    def fuse(self, frame_features: Tensor) -> Tensor:
        return self._average(frame_features) if self.is_frame_wise else super().fuse(frame_features)

    def _average(self, frame_features: Tensor) -> Tensor:
        features = functional.normalize(frame_features, dim=-1) if self.normalize_frames else frame_features
        return features.mean(dim=1)  # [B, D]
