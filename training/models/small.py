"""Small towers that can be trained on a laptop, for the bundled demo model and for tests.

The vision tower is convolutional with temporal shift (TSM, arXiv:1811.08383). Its last feature map is flattened, not
averaged, which preserves positions, so that the fusion model can follow a figure across the image.
"""

import torch
from torch import Tensor, nn

from training.models.base import TextTower, VisionTower
from training.models.clip import Blocks, make_blocks


class ShiftedBlock(nn.Module):
    """Residual pair of 3x3 convolutions after shifting an eighth of the channels one frame back, an eighth forward."""

    def __init__(self, channels: int, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames
        self.fold = channels // 8
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:  # [B*T, C, H, W]
        mixed = torch.relu(self.first_norm(self.first(self._shift(maps))))
        return torch.relu(maps + self.second_norm(self.second(mixed)))

    def _shift(self, maps: Tensor) -> Tensor:
        videos = maps.unflatten(0, (-1, self.num_frames))  # [B, T, C, H, W]
        from_next, from_previous, unshifted = videos.split(
            [self.fold, self.fold, videos.shape[2] - 2 * self.fold], dim=2
        )
        from_next = torch.cat([from_next[:, 1:], torch.zeros_like(from_next[:, :1])], dim=1)
        from_previous = torch.cat([torch.zeros_like(from_previous[:, :1]), from_previous[:, :-1]], dim=1)
        return torch.cat([from_next, from_previous, unshifted], dim=2).flatten(0, 1)


class SmallVision(VisionTower):
    """Encodes frames [B*T, 3, S, S] of whole videos into frame features [B*T, D]; S is a multiple of 16."""

    def __init__(
        self, *, image_size: int, num_frames: int, widths: list[int], embed_dim: int, kept_channels: int = 24
    ) -> None:
        super().__init__()
        self.image_size, self.embed_dim, self.frames_at_once = image_size, embed_dim, num_frames
        stages: list[nn.Module] = []
        for index, (in_channels, out_channels) in enumerate(zip([3, *widths], widths, strict=False)):
            stages += [
                nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
            if index:
                stages.append(ShiftedBlock(out_channels, num_frames))
        self.stages = nn.Sequential(*stages)
        map_size = image_size // 2 ** len(widths)
        self.keep = nn.Conv2d(widths[-1], kept_channels, 1)
        self.project = nn.Linear(kept_channels * map_size * map_size, embed_dim)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, frames: Tensor) -> Tensor:
        maps = self.stages(frames)  # [B*T, C, map_size, map_size]
        return self.norm(self.project(torch.relu(self.keep(maps)).flatten(1)))  # type: ignore[no-any-return]  # [B*T, D]


class SmallText(TextTower):
    """A causal text tower; token embeddings have `token_width` and are projected to `width` by a matrix."""

    supports_variable_length = True

    def __init__(
        self,
        *,
        context_length: int,
        vocab_size: int,
        token_width: int,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
    ) -> None:
        super().__init__()
        self.context_length, self.embed_dim, self.width = context_length, embed_dim, width
        self.token_embedding = nn.Embedding(vocab_size, token_width)
        self.widen = nn.Linear(token_width, width, bias=False)
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(context_length, width))
        self.transformer = Blocks(
            list(make_blocks(width, layers, heads, activation="gelu", mlp_width=None, drop_out=0.0))
        )
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(width**-0.5 * torch.randn(width, embed_dim))
        nn.init.normal_(self.token_embedding.weight, std=0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        embeddings = (
            self.widen(self.token_embedding(tokens)) + self.positional_embedding[: tokens.shape[1]]
        )  # [R, L, W]
        mixed = self.transformer(embeddings, is_causal=True)
        last = mixed[torch.arange(tokens.shape[0], device=tokens.device), tokens.argmax(dim=-1)]  # [R, W]
        return self.ln_final(last) @ self.text_projection  # type: ignore[no-any-return]  # [R, D]
