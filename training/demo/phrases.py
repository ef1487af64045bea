"""The phrases a demo clip is trained against: whole labels, activities alone, colours alone."""

from pathlib import Path

import open_clip
import torch
from torch import Tensor

from serve.contract import TextContract
from serve.text.tokenizer import Tokenizer, clip_tokenizer_json, pad_rows
from training.demo.captions import COLOURS, TEMPLATES, seen

CONTEXT_LENGTH = 32


DEMO_TEXT = TextContract(tokenizer="clip", context_length=CONTEXT_LENGTH, dynamic_length=True, pad_id=0)


def clip_tokenizer(text: TextContract = DEMO_TEXT) -> Tokenizer:
    """CLIP's tokenizer from the merges open_clip ships."""
    from tokenizers import Tokenizer as TokenizerFile

    merges = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    return Tokenizer(TokenizerFile.from_str(clip_tokenizer_json(merges)), text)


class PhraseBank:
    """Token rows of all phrases; `tasks` says which rows a clip's combination is told apart from."""

    def __init__(self, *, seed: int) -> None:
        tokenizer = clip_tokenizer()
        labels = [item.label for item in seen()]
        activities = sorted({item.activity for item in seen()})
        colours = [f"a person in {colour}" for colour in COLOURS]
        self._generator = torch.Generator().manual_seed(seed)
        self._seed = seed
        filled = [
            tokenizer.encode([template.replace("{}", phrase) for phrase in (*labels, *activities, *colours)])
            for template in TEMPLATES
        ]
        width = max(len(row) for rows in filled for row in rows)
        self._rows = torch.stack([torch.from_numpy(pad_rows(rows, pad_id=0, length=width)) for rows in filled])
        spans = {"label": (0, len(labels)), "activity": (len(labels), len(labels) + len(activities))}
        spans["colour"] = (spans["activity"][1], spans["activity"][1] + len(colours))
        places = {
            "label": list(range(len(labels))),
            "activity": [activities.index(item.activity) for item in seen()],
            "colour": [COLOURS.index(item.colour) for item in seen()],
        }
        self.tasks: dict[str, tuple[slice, Tensor]] = {
            name: (slice(*span), torch.tensor(places[name])) for name, span in spans.items()
        }

    def tokens(self, step: int) -> Tensor:
        """Tokens [R, L] of all phrases, each under a template drawn by the step."""
        self._generator.manual_seed(self._seed * 1_000_003 + step)
        num_rows = self._rows.shape[1]
        chosen = torch.randint(len(TEMPLATES), (num_rows,), generator=self._generator)
        return self._rows[chosen, torch.arange(num_rows)]
