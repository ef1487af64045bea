"""The phrases a demo clip is trained against: whole labels, activities alone, colours alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from serve.contract import TextContract
from training.data.prompts import TemplatedPhrases
from training.demo.captions import COLOURS, TEMPLATES, Combination, seen

CONTEXT_LENGTH = 32


DEMO_TEXT = TextContract(tokenizer="clip", context_length=CONTEXT_LENGTH, dynamic_length=True, pad_id=0)


class PhraseBank:
    """Token rows of all phrases; `tasks` says among which rows a clip's combination is classified."""

    def __init__(self, *, seed: int, shown: Sequence[Combination] | None = None) -> None:
        shown = shown or seen()
        labels = [item.label for item in shown]
        activities = sorted({item.activity for item in shown})
        colours = [f"a person in {colour}" for colour in COLOURS]
        self._phrases = TemplatedPhrases((*labels, *activities, *colours), TEMPLATES, text=DEMO_TEXT, seed=seed)
        spans = {"label": (0, len(labels)), "activity": (len(labels), len(labels) + len(activities))}
        spans["colour"] = (spans["activity"][1], spans["activity"][1] + len(colours))
        places = {
            "label": list(range(len(labels))),
            "activity": [activities.index(item.activity) for item in shown],
            "colour": [COLOURS.index(item.colour) for item in shown],
        }
        self.tasks: dict[str, tuple[slice, Tensor]] = {
            name: (slice(*span), torch.tensor(places[name])) for name, span in spans.items()
        }

    def tokens(self, step: int) -> Tensor:
        """Tokens [R, L] of all phrases, each under a template drawn by the step."""
        return self._phrases.tokens(step)

    def of_samples(self, indices: Tensor, step: int) -> Tensor:
        """Tokens [b, L] of the label of each clip, each under a template drawn for it."""
        return self._phrases.of_samples(indices, step)
