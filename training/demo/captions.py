"""Labels of demo videos: combinations of action, direction and colour of the clothes; some are held out."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache

from training.demo.actions import IN_PLACE, PAIRS, TRAVELLING

COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
DIRECTIONS = ("left", "right")
TEMPLATES = ("{}", "a video of {}", "a clip of {}")


@dataclass(frozen=True, order=True)
class Combination:
    """One label of the demo vocabulary; `direction` is empty for actions in place."""

    action: str
    direction: str
    colour: str

    @property
    def activity(self) -> str:
        """Return action and direction, e.g. `walking to the left`."""
        return f"{self.action} to the {self.direction}" if self.direction else self.action

    @property
    def label(self) -> str:
        """Return the label text, e.g. `a person in red walking to the left`."""
        return f"a person in {self.colour} {self.activity}"


@cache
def combinations() -> tuple[Combination, ...]:
    """Return all combinations, in the order of the demo vocabulary."""
    moves = [(action, "") for action in IN_PLACE]
    moves += [(action, direction) for action in TRAVELLING for direction in DIRECTIONS]
    return tuple(Combination(action, direction, colour) for action, direction in moves for colour in COLOURS)


@cache
def held_out() -> frozenset[Combination]:
    """Return the combinations excluded from training: for each activity one colour, chosen by a hash of its name."""
    chosen = set()
    for combination in combinations():
        number = int.from_bytes(hashlib.sha256(combination.activity.encode()).digest()[:4], "big")
        if combination.colour == COLOURS[number % len(COLOURS)]:
            chosen.add(combination)
    return frozenset(chosen)


@cache
def opposite(shown: Combination) -> Combination | None:
    """Return the combination whose videos show the same frames in reverse order, or None if there is none."""
    if shown.direction:
        return replace(shown, direction=next(name for name in DIRECTIONS if name != shown.direction))
    action = next((b if a == shown.action else a for a, b in PAIRS if shown.action in (a, b)), None)
    return replace(shown, action=action) if action else None


@cache
def seen() -> tuple[Combination, ...]:
    """Return the combinations used for training."""
    return tuple(combination for combination in combinations() if combination not in held_out())
