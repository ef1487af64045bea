"""Interfaces of engines, which run the graphs of a model on arrays, as described by its contract.

Engines are independent of files, HTTP and class names.
"""

from collections.abc import Mapping
from typing import Protocol

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import ModelContract
from serve.features import VideoFeatures


class FrameGraphs(Protocol):
    """A frame-wise video graph split into two graphs: one encodes single frames, the other fuses clips."""

    async def encode(self, frames: UInt8Array) -> Mapping[str, Float32Array]:
        """Encode frames [N, 3, S, S]; return frame features [N, ...] by tensor name, as input for `fuse`.

        Raises:
            ContractError: the graphs cannot be loaded, or their results differ from the whole video graph.
            EngineFailure: the runtime failed.
        """

    async def fuse(self, frame_features: Mapping[str, Float32Array]) -> VideoFeatures:
        """Fuse the frame features [B, T, ...] of B clips.

        Raises:
            ContractError, EngineFailure: see `encode`.
        """


class Engine(Protocol):
    """Runs the graphs of one model version."""

    contract: ModelContract
    name: str  # runtime and precision, e.g. "openvino-bf16"

    @property
    def frame_graphs(self) -> FrameGraphs | None:
        """The frame graphs; None if the model version has none, or if the engine does not support them."""

    @property
    def details(self) -> Mapping[str, str]:
        """Additional information for operators about where and how the graphs run."""

    @property
    def fault(self) -> str | None:
        """Why the engine is currently unavailable; None if it is available."""

    @property
    def queued_views(self) -> int:
        """Number of views waiting for the video graph."""

    @property
    def batch_sizes(self) -> Mapping[int, int]:
        """Number of runs of the video graph since it was loaded, by the number of views in a run."""

    async def start(self) -> None:
        """Load the graphs, check their tensors against the contract and warm up.

        Raises:
            ContractError: the graphs cannot be loaded, or their tensors differ from the contract.
        """

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        """Encode views [V, T, 3, S, S] before `deadline`, a time of the event loop's clock in seconds.

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: the views were still in the queue at the deadline.
            EngineFailure: the runtime failed.
        """

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        """Encode tokens [R, L]; return text features [R, D], not normalised.

        Raises:
            EngineFailure: the runtime failed.
        """

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        """Run X-CLIP's prompt head on V views and K classes [K, D]; return logits [V, K], scale included.

        Raises:
            EngineFailure: the runtime failed.
        """

    async def unload(self) -> None:
        """Unload the model version from an external server; called before `close` if it is no longer needed."""

    async def close(self) -> None:
        """Finish running calls and release the graphs."""


class Session(Protocol):
    """One loaded graph of a runtime; used from one thread only (see `GraphWorker`)."""

    def input_shapes(self) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """Return input name -> (NumPy dtype name, shape with None for a dynamic axis)."""

    def output_names(self) -> tuple[str, ...]:
        """Return the names of the outputs."""

    def run(self, inputs: Mapping[str, Int64Array | UInt8Array | Float32Array]) -> dict[str, Float32Array]:
        """Run the graph once; return the outputs by name.

        Raises:
            EngineFailure: the runtime failed.
        """
