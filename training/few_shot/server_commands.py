"""Commands that give a server the shots of a draw as examples, so that it fits the same prototypes."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from training.data.listings import Entry


def server_commands(vocabulary: str, labels_file: Path, names: Sequence[str], shots: Sequence[Entry]) -> list[str]:
    """`actserve` commands for a shell: the class names as a vocabulary, then the clips of each class.

    Frames that were extracted cannot be sent, so only video files are named.
    """
    found = [["actserve", "vocab", "put", vocabulary, str(labels_file)]]
    for label, name in enumerate(names):
        clips = [str(entry.path.absolute()) for entry in shots if entry.label == label and entry.num_frames is None]
        if clips:
            found.append(["actserve", "vocab", "add-examples", "--wait", "300", "--", vocabulary, name, *clips])
    return [shlex.join(words) for words in found]
