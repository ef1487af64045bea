"""Interfaces of engines: tensors in, features out, under a contract. Engines know no files, HTTP or class names."""

from collections.abc import Mapping
from typing import Protocol

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import ModelContract
from serve.features import VideoFeatures


class FrameGraphs(Protocol):
    """The two halves of a frame-wise video graph."""

    async def encode(self, frames: UInt8Array) -> Mapping[str, Float32Array]:
        """Encode frames [N, 3, S, S] to rows [N, ...] by name, which `fuse` reads.

        Raises:
            ContractError: the halves cannot be loaded, or differ from the whole graph.
            EngineFailure: the runtime failed.
        """

    async def fuse(self, rows: Mapping[str, Float32Array]) -> VideoFeatures:
        """Fuse rows [B, T, ...] of the frames of clips."""


class Engine(Protocol):
    """Runs the graphs of one model version."""

    contract: ModelContract
    label: str  # runtime and precision, e.g. "openvino-bf16"

    @property
    def frame_graphs(self) -> FrameGraphs | None:
        """The halves of a frame-wise video graph; None if the version has none, or the engine does not load them."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Further facts for operators: where and how the graphs run."""

    @property
    def fault(self) -> str | None:
        """Why the engine is currently unavailable; None if it is available."""

    @property
    def queued_views(self) -> int:
        """Number of views waiting for the video graph."""

    @property
    def batches(self) -> tuple[int, int]:
        """(runs, views) of the video graph so far."""

    async def start(self) -> None:
        """Load the graphs, check their tensors against the contract, warm up.

        Raises:
            ContractError: the graphs cannot be loaded or differ from the contract.
        """

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        """Encode views [V, T, 3, S, S] before `deadline` (seconds of the event loop's clock).

        Raises:
            Overloaded: the queue is full.
            DeadlineExceeded: the views were still in the queue at the deadline.
            EngineFailure: the runtime failed.
        """

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        """Encode tokens [R, L] as text features [R, D], not normalised."""

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        """Run X-CLIP's prompt head: V views and K classes [K, D] -> logits [V, K], scale included."""

    async def unload(self) -> None:
        """Unload the version from an external server; called before `close` when the version is no longer needed."""

    async def close(self) -> None:
        """Finish running work and release the graphs."""


class Session(Protocol):
    """One loaded graph of a runtime; used from one thread only (see `GraphWorker`)."""

    def input_shapes(self) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """Name -> (numpy dtype name, shape with None for a dynamic axis)."""

    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""

    def run(self, inputs: Mapping[str, Int64Array | UInt8Array | Float32Array]) -> dict[str, Float32Array]:
        """Run the graph once; return the outputs by name."""
