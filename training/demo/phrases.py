"""Phrases for training on demo clips: complete labels, activities and colours."""

from collections.abc import Sequence

import torch
from torch import Tensor

from serve.contract import TextContract
from training.data.prompts import TemplatedPhrases
from training.demo.captions import COLOURS, TEMPLATES, Combination, seen

CONTEXT_LENGTH = 32


DEMO_TEXT = TextContract(tokenizer="clip", context_length=CONTEXT_LENGTH, dynamic_length=True, pad_id=0)


class PhraseBank:
    """Tokens of all phrases; `tasks` maps each task to its slice of the phrases and the target of each label."""

    def __init__(self, *, seed: int, shown: Sequence[Combination] | None = None) -> None:
        shown = shown or seen()
        labels = [item.label for item in shown]
        activities = sorted({item.activity for item in shown})
        colours = [f"a person in {colour}" for colour in COLOURS]
        self._phrases = TemplatedPhrases((*labels, *activities, *colours), TEMPLATES, text=DEMO_TEXT, seed=seed)
        spans = {"label": (0, len(labels)), "activity": (len(labels), len(labels) + len(activities))}
        spans["colour"] = (spans["activity"][1], spans["activity"][1] + len(colours))
        targets = {
            "label": list(range(len(labels))),
            "activity": [activities.index(item.activity) for item in shown],
            "colour": [COLOURS.index(item.colour) for item in shown],
        }
        self.tasks: dict[str, tuple[slice, Tensor]] = {
            name: (slice(*span), torch.tensor(targets[name])) for name, span in spans.items()
        }

    def tokens(self, step: int) -> Tensor:
        """Return the tokens [R, L] of all phrases, each in a template that depends on `step`."""
        return self._phrases.tokens(step)

    def sample_tokens(self, indices: Tensor, step: int) -> Tensor:
        """Return tokens [b, L] of the label of each clip, each with a sampled template."""
        return self._phrases.sample_tokens(indices, step)
