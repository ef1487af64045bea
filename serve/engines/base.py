"""What an engine is: tensors in, features out, under a contract; nothing of files, HTTP or class names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import ModelContract


@dataclass(frozen=True, kw_only=True)
class VideoFeatures:
    """Features of V views; `patch_features` only where the family's prompt head asks for them."""

    video_features: Float32Array  # [V, D]
    patch_features: Float32Array | None = None  # [V, P, D]
    queue_ms: float = 0.0  # of the time it took, spent waiting for a turn


class Engine(Protocol):
    """Runs the graphs of one model version."""

    contract: ModelContract
    label: str  # runtime and precision, e.g. "openvino-bf16"

    @property
    def facts(self) -> Mapping[str, str]:
        """What the label does not say, for operators: where and how the graphs run."""

    @property
    def fault(self) -> str | None:
        """Why it cannot be used at present; None while it can."""

    @property
    def queued_views(self) -> int:
        """Views that wait for the video graph."""

    @property
    def batches(self) -> tuple[int, int]:
        """(runs, views) of the video graph so far."""

    async def start(self) -> None:
        """Load, check against the contract and parity clips, warm up.

        Raises:
            ContractError: the graphs differ from the contract, or their numbers from the parity clips.
        """

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        """views [V, T, 3, S, S] -> features of each view, by `deadline` (seconds of the event loop's clock).

        Raises:
            Overloaded: too many views wait already.
            DeadlineExceeded: the turn would come too late.
            EngineFailure: the runtime failed.
        """

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        """tokens [R, L] -> text features [R, D], of any length."""

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        """X-CLIP's prompt head: V views and K classes [K, D] -> logits [V, K], scale included."""

    async def unload(self) -> None:
        """Called before `close` when the version is not needed any more: give up what others hold for it."""

    async def close(self) -> None:
        """Release the graphs; running work is finished first."""


class Session(Protocol):
    """One loaded graph of a runtime. Called from one thread only (see `GraphWorker`)."""

    def input_shapes(self) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """Name -> (numpy dtype name, shape with None for a dynamic axis)."""

    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""

    def run(self, inputs: Mapping[str, Int64Array | UInt8Array | Float32Array]) -> dict[str, Float32Array]:
        """Run once; outputs by name."""
