"""Optimisation profiles: the shapes that TensorRT builds an engine for, from the contract's axes."""

from collections.abc import Mapping
from dataclasses import dataclass

from serve.contract import GraphContract, TextContract

USUAL_VIEWS = 8  # per run: the queue of a busy graph, or the crops and clips of one video
USUAL_PROMPTS = 64
USUAL_TOKENS = 16  # start, a dozen words, end

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Smallest, usual and largest shape of one input, batch axis included."""

    input: str
    smallest: Shape
    usual: Shape
    largest: Shape

    def __post_init__(self) -> None:
        for low, middle, high in zip(self.smallest, self.usual, self.largest, strict=True):
            if not 1 <= low <= middle <= high:
                raise ValueError(
                    f"profile of {self.input}: {self.smallest} <= {self.usual} <= {self.largest} is needed"
                )


def graph_profiles(graph: GraphContract, *, max_batch_size: int, text: TextContract) -> tuple[Profile, ...]:
    """Return one profile for each input of a served graph; the first axis is the batch (B views, R prompts)."""
    ranges = {
        "B": (1, min(USUAL_VIEWS, max_batch_size), max_batch_size),
        "R": (1, min(USUAL_PROMPTS, max_batch_size), max_batch_size),
        "L": (1, min(USUAL_TOKENS, text.context_length), text.context_length),
    }
    return tuple(_profile(item.name, item.axes, ranges) for item in graph.inputs)


def shape_text(shape: Shape) -> str:
    """`1x8x3x224x224`, as onnxruntime's provider options and trtexec write it."""
    return "x".join(map(str, shape))


def _profile(name: str, axes: tuple[str | int, ...], ranges: Mapping[str, Shape]) -> Profile:
    smallest, usual, largest = (
        tuple(axis if isinstance(axis, int) else ranges[axis][i] for axis in axes) for i in range(3)
    )
    return Profile(input=name, smallest=smallest, usual=usual, largest=largest)
