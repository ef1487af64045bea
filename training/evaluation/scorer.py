"""Compute scores of views with a torch model, using the scoring rules of serving."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serve.arrays import Float32Array, Int64Array
from serve.scoring import Scores, reduce_logits
from serve.text.encoding import encode_bank
from serve.text.tokenizer import Tokenizer
from training.data.clips.rules import normalise_clips
from training.devices import autocast_context
from training.evaluation.errors import EvaluationError
from training.evaluation.protocol import Protocol
from training.models.base import VideoTextModel
from training.torch_scoring import as_array, output_logits


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Scores views with a model and the text bank of a class list."""

    model: VideoTextModel
    protocol: Protocol
    bank: Float32Array  # [M, K, D]
    batch_size: int  # views per forward pass

    @torch.inference_mode()
    def logits(self, views: Tensor) -> Float32Array:
        """Compute logits [B, V, M, K] of views uint8 [B, V, T, 3, S, S].

        Raises:
            EvaluationError: the model's output is not finite.
        """
        logits = np.concatenate([self._view_logits(part) for part in torch.split(views.flatten(0, 1), self.batch_size)])
        if not np.isfinite(logits).all():
            raise EvaluationError("the model's logits are not finite, so it cannot be evaluated")
        return logits.reshape(*views.shape[:2], *logits.shape[1:])

    def scores(self, logits: Float32Array) -> Scores:
        """Reduce the logits [V, M, K] of a video to scores, as in serving."""
        scoring = self.protocol.scoring
        return reduce_logits(logits, scoring, function=scoring.activation)

    def _view_logits(self, views: Tensor) -> Float32Array:
        """Compute logits [N, M, K] of views uint8 [N, T, 3, S, S]."""
        device = self.model.logit_scale.device
        with _autocast(self.protocol, device):
            output = self.model.encode_video(normalise_clips(views.to(device), self.protocol.preprocess))
            return output_logits(self.model, output, self.bank, self.protocol.scoring)


def make_scorer(
    model: VideoTextModel, protocol: Protocol, labels: Sequence[str], *, tokenizer: Tokenizer, batch_size: int
) -> Scorer:
    """Create the scorer of a class list.

    Raises:
        InvalidVocabulary: a class name is invalid, too long or a duplicate.
    """
    bank = encode_text_bank(model, protocol, labels, tokenizer=tokenizer)
    return Scorer(model=model, protocol=protocol, bank=bank, batch_size=batch_size)


@torch.inference_mode()
def encode_text_bank(
    model: VideoTextModel, protocol: Protocol, labels: Sequence[str], *, tokenizer: Tokenizer
) -> Float32Array:
    """Compute text features [M, K, D] of labels with the templates and the ensembling rule of the protocol.

    Raises:
        InvalidVocabulary: a class name is invalid, too long or a duplicate.
    """
    device = model.logit_scale.device

    def encode(tokens: Int64Array) -> Float32Array:
        return as_array(model.encode_text(torch.from_numpy(tokens).to(device)))

    with _autocast(protocol, device):
        return encode_bank(
            encode,
            tokenizer,
            labels,
            text=protocol.text,
            scoring=protocol.scoring,
            has_prompt_head=model.has_prompt_head,
        )


def _autocast(protocol: Protocol, device: torch.device) -> AbstractContextManager[Any]:
    return autocast_context(protocol.precision, device, key="--precision")()
