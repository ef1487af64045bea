"""Optimisation profiles, derived from the contract: the shapes for which TensorRT builds an engine."""

from collections.abc import Mapping
from dataclasses import dataclass

from serve.contract import GraphContract, TextContract

USUAL_VIEWS = 8  # views per run, of several requests or of one video
USUAL_PROMPTS = 64  # prompts per run
USUAL_TOKENS = 16  # tokens per prompt

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Smallest, usual and largest shape of one input, including the batch axis."""

    input: str
    smallest: Shape
    usual: Shape
    largest: Shape

    def __post_init__(self) -> None:
        for low, middle, high in zip(self.smallest, self.usual, self.largest, strict=True):
            if not 1 <= low <= middle <= high:
                raise ValueError(
                    f"profile of {self.input}: must be smallest <= usual <= largest, "
                    f"got {self.smallest}, {self.usual}, {self.largest}"
                )


def make_graph_profiles(graph: GraphContract, *, max_batch_size: int, text: TextContract) -> tuple[Profile, ...]:
    """Return a profile for each input of a graph; the first axis is the batch axis (B views or R prompts)."""
    ranges = {
        "B": (1, min(USUAL_VIEWS, max_batch_size), max_batch_size),
        "R": (1, min(USUAL_PROMPTS, max_batch_size), max_batch_size),
        "L": (1, min(USUAL_TOKENS, text.context_length), text.context_length),
    }
    return tuple(_profile(item.name, item.axes, ranges) for item in graph.inputs)


def format_shape(shape: Shape) -> str:
    """Format a shape like onnxruntime's provider options and trtexec, e.g. `1x8x3x224x224`."""
    return "x".join(map(str, shape))


def _profile(name: str, axes: tuple[str | int, ...], ranges: Mapping[str, Shape]) -> Profile:
    smallest, usual, largest = (
        tuple(axis if isinstance(axis, int) else ranges[axis][i] for axis in axes) for i in range(3)
    )
    return Profile(input=name, smallest=smallest, usual=usual, largest=largest)
