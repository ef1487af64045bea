"""The engine of a Triton server: the towers of one version run there, over gRPC; X-CLIP's head runs here.

Batches form in the server, so concurrent requests are sent as they come. On one host the views go through shared
memory. A server that goes away makes the engine say so, and is used again as soon as it is back.
"""

import asyncio
import contextlib
import logging
import math
import secrets
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import GraphContract, ModelContract
from serve.engines.base import VideoFeatures
from serve.engines.head import PromptHead
from serve.errors import (
    ActserveError,
    ContractError,
    DeadlineExceeded,
    EngineFailure,
    EngineUnavailable,
    Overloaded,
)
from serve.settings import BatchSettings, TritonSettings

logger = logging.getLogger(__name__)

DATA_TYPES = {"uint8": "UINT8", "int64": "INT64", "float32": "FP32"}
SHARED_FOLDER = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory
LOCAL_HOSTS = ("localhost", "127.", "[::1]", "unix:")
RECONNECT = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]
POLL_SECONDS = 0.5
LABEL = "triton"


class TritonEngine:
    """One model version on a Triton server."""

    label = LABEL

    def __init__(
        self,
        contract: ModelContract,
        repository: Path,
        *,
        settings: TritonSettings,
        batch: BatchSettings,
        head: PromptHead | None,
    ) -> None:
        self.contract = contract
        self._repository = repository
        self._settings = settings
        self._max_views = batch.max_views
        self._max_queued = batch.max_queued_views
        self._head = head
        self._client: Any = None
        self._slots: asyncio.Queue[_Slot] = asyncio.Queue()
        self._regions: list[_Slot] = []
        self._watch: asyncio.Task[None] | None = None
        self._fault: str | None = None
        self._waiting = 0
        self._runs = 0
        self._views = 0

    @property
    def fault(self) -> str | None:
        """Why the server cannot be used at present; None while it can."""
        return self._fault

    @property
    def queued_views(self) -> int:
        """Views sent and not yet answered, and those that wait to be sent."""
        return self._waiting

    @property
    def batches(self) -> tuple[int, int]:
        """(requests to the server, views) so far; how the server joins them stands in its own statistics."""
        return self._runs, self._views

    async def start(self) -> None:
        self._client = _client(self._settings.url)
        try:
            async with asyncio.timeout(self._settings.load_timeout_seconds):
                await self._make_ready()
        except TimeoutError as error:
            raise ContractError(
                f"Triton at {self._settings.url} has no {self._reference} within "
                f"{self._settings.load_timeout_seconds:g} s: {self._fault or 'it is still loading'}",
                field="triton.url",
            ) from error
        for part in ("text", "video"):
            await self._check_tensors(part)
        if self._head is not None:
            await self._head.start()
        await self._share_memory()
        self._watch = asyncio.create_task(self._keep_watch(), name="triton watch")

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        if self._waiting + len(views) > max(self._max_queued, len(views)):
            raise Overloaded(
                f"{self._waiting} views are with Triton already, {self._max_queued} may be",
                queued=self._waiting, limit=self._max_queued,
            )  # fmt: skip
        self._waiting += len(views)
        try:
            parts = [views[start : start + self._max_views] for start in range(0, len(views), self._max_views)]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._encode_part(part, deadline)) for part in parts]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            self._waiting -= len(views)
        answers = [task.result() for task in tasks]
        joined = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        return VideoFeatures(video_features=joined["video_features"], patch_features=joined.get("patch_features"))

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        tensor = _input("tokens", tokens)
        tensor.set_data_from_numpy(np.ascontiguousarray(tokens))
        return (await self._infer("text", tensor, math.inf))["text_features"]

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        assert self._head is not None, "only X-CLIP has a head"
        return await self._head.logits(features, text_features)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._client is not None:
            for slot in self._regions:
                with contextlib.suppress(Exception):  # the server may be gone; the memory is ours to free
                    await self._client.unregister_system_shared_memory(slot.name, client_timeout=1)
            await self._client.close()
        for slot in self._regions:
            slot.close()
        self._regions.clear()
        if self._head is not None:
            await self._head.close()

    async def let_go(self) -> None:
        """Have the server drop this version and keep the others; where it may not be told, it keeps all."""
        for part in ("video", "text"):
            name = self._model(part)
            others = sorted(await self._ready_versions(name) - {self.contract.version})
            try:
                if others:
                    await self._client.load_model(name, config=self._config(part, others))
                else:
                    await self._client.unload_model(name)
            except Exception as error:
                logger.warning("Triton keeps %s@%d: %s", name, self.contract.version, _message(error))

    @property
    def _reference(self) -> str:
        return f"{self.contract.name}@{self.contract.version}"

    def _model(self, part: str) -> str:
        return self.contract.graphs[part].file.split("/")[0]

    async def _encode_part(self, views: UInt8Array, deadline: float) -> dict[str, Float32Array]:
        self._runs += 1
        self._views += len(views)
        tensor = _input("frames", views)
        if not self._regions:
            tensor.set_data_from_numpy(np.ascontiguousarray(views))
            return await self._infer("video", tensor, deadline)
        async with self._slot(deadline) as slot:
            slot.write(views)
            tensor.set_shared_memory(slot.name, views.nbytes)
            try:
                return await self._infer("video", tensor, deadline)
            except EngineFailure as error:
                if "shared memory region" not in error.message:
                    raise
            await self._register(self._regions)  # the server was restarted and knows none of them
            return await self._infer("video", tensor, deadline)

    @asynccontextmanager
    async def _slot(self, deadline: float) -> "AsyncIterator[_Slot]":
        try:
            async with asyncio.timeout(_remaining(deadline)):
                slot = await self._slots.get()
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed while the request waited for the engine") from error
        try:
            yield slot
        finally:
            self._slots.put_nowait(slot)

    async def _infer(self, part: str, tensor: Any, deadline: float) -> dict[str, Float32Array]:
        graph = self.contract.graphs[part]
        timeout = _remaining(deadline)
        if timeout is not None and timeout <= 0:
            raise DeadlineExceeded("the deadline passed while the request waited for the engine")
        try:
            answer = await self._client.infer(
                self._model(part),
                [tensor],
                model_version=str(self.contract.version),
                client_timeout=self._settings.request_timeout_seconds if timeout is None else timeout,
            )
        except Exception as error:
            failure = _translated(error)
            if isinstance(failure, EngineUnavailable):
                self._fault = failure.message
            raise failure from error
        return {item.name: answer.as_numpy(item.name) for item in graph.outputs}

    async def _make_ready(self) -> None:
        """Wait until the server has this version, loading it where the server takes such orders."""
        while True:
            try:
                if await self._is_ready():
                    self._fault = None
                    return
                for part in ("text", "video"):
                    await self._load(part)
            except Exception as error:
                self._fault = _message(error)
            await asyncio.sleep(POLL_SECONDS)

    async def _is_ready(self) -> bool:
        version = str(self.contract.version)
        return all(
            [
                await self._client.is_model_ready(self._model(part), version, client_timeout=5)
                for part in ("text", "video")
            ]
        )

    async def _load(self, part: str) -> None:
        """Load this version beside those that are ready; servers in other control modes find it themselves."""
        name = self._model(part)
        ready = await self._ready_versions(name)
        if self.contract.version in ready:
            return
        try:
            await self._client.load_model(name, config=self._config(part, sorted(ready | {self.contract.version})))
        except Exception as error:
            if "not allowed" not in _message(error):
                raise

    async def _ready_versions(self, name: str) -> set[int]:
        index = await self._client.get_model_repository_index(client_timeout=5)
        return {int(item.version) for item in index.models if item.name == name and item.state == "READY"}

    def _config(self, part: str, versions: Sequence[int]) -> str:
        """The configuration on disk with these versions, as the server takes it over its own."""
        from google.protobuf import json_format, text_format
        from tritonclient.grpc import model_config_pb2

        text = (self._repository / self._model(part) / "config.pbtxt").read_text()
        config = text_format.Parse(text, model_config_pb2.ModelConfig())
        config.version_policy.specific.versions[:] = versions
        return str(json_format.MessageToJson(config, preserving_proto_field_name=True))

    async def _check_tensors(self, part: str) -> None:
        """Compare the server's model with the contract.

        Raises:
            ContractError: names the tensor, what was expected and what was found.
        """
        graph = self.contract.graphs[part]
        name, version = self._model(part), str(self.contract.version)
        found = await self._client.get_model_metadata(name, version, client_timeout=5)
        for kind, expected, given in (("input", graph.inputs, found.inputs), ("output", graph.outputs, found.outputs)):
            tensors = {item.name: (item.datatype, tuple(item.shape)) for item in given}
            for tensor in expected:
                shape = tuple(axis if isinstance(axis, int) else -1 for axis in tensor.axes)
                if tensors.get(tensor.name) != (DATA_TYPES[tensor.dtype], shape):
                    raise ContractError(
                        f"Triton's {name}@{version}, {kind} {tensor.name}: expected {DATA_TYPES[tensor.dtype]} "
                        f"{list(shape)}, found {tensors.get(tensor.name, 'none')}",
                        field=f"graphs.{part}",
                    )

    async def _share_memory(self) -> None:
        """Make regions that the server reads views from, where it can.

        Raises:
            ContractError: shared memory was asked for and is not to be had.
        """
        choice = self._settings.shared_memory
        if choice == "never" or (choice == "auto" and not self._settings.url.startswith(LOCAL_HOSTS)):
            return
        size = self._max_views * math.prod(_view_shape(self.contract.graphs["video"]))
        try:
            if shutil.disk_usage(SHARED_FOLDER).free < 2 * size * self._settings.max_in_flight:
                raise OSError(
                    f"{SHARED_FOLDER} has too little room for {self._settings.max_in_flight} regions of {size}"
                )
            self._regions = [_Slot(size) for _ in range(self._settings.max_in_flight)]
            await self._register(self._regions)
        except Exception as error:
            for slot in self._regions:
                slot.close()
            self._regions = []
            if choice == "always":
                raise ContractError(
                    f"shared memory with Triton: {_message(error)}", field="triton.shared_memory"
                ) from error
            logger.info("views go to Triton as messages: %s", _message(error))
            return
        for slot in self._regions:
            self._slots.put_nowait(slot)

    async def _register(self, slots: "Sequence[_Slot]") -> None:
        for slot in slots:
            try:
                await self._client.register_system_shared_memory(slot.name, f"/{slot.name}", slot.size)
            except Exception as error:
                if "already" not in _message(error):
                    raise

    async def _keep_watch(self) -> None:
        """Notice that the server is gone, and that it is back; one that lost the version is told to load it."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                if await self._is_ready():
                    self._fault = None
                    continue
                self._fault = f"Triton at {self._settings.url} has no {self._reference} ready"
                for part in ("text", "video"):
                    await self._load(part)
            except Exception as error:
                self._fault = f"Triton at {self._settings.url} does not answer: {_message(error)}"


class _Slot:
    """A region of shared memory for the views of one request."""

    def __init__(self, size: int) -> None:
        self.name = f"actserve-triton-{secrets.token_hex(8)}"
        self.size = size
        self._memory = SharedMemory(self.name, create=True, size=size)

    def write(self, views: UInt8Array) -> None:
        """Copy views to the start of the region."""
        np.ndarray(views.shape, np.uint8, buffer=self._memory.buf)[:] = views

    def close(self) -> None:
        """Free the region."""
        self._memory.close()
        self._memory.unlink()


def _client(url: str) -> Any:
    try:
        from tritonclient.grpc import aio
    except ModuleNotFoundError as error:
        raise ContractError(
            f"engine triton needs the extra `triton` ({error.name}): pip install 'actserve[triton]'", field="engine"
        ) from error
    return aio.InferenceServerClient(url, channel_args=RECONNECT)


def _input(name: str, values: UInt8Array | Int64Array) -> Any:
    from tritonclient.grpc import InferInput

    return InferInput(name, list(values.shape), DATA_TYPES[str(values.dtype)])


def _view_shape(graph: GraphContract) -> tuple[int, ...]:
    return tuple(axis for axis in graph.inputs[0].axes[1:] if isinstance(axis, int))


def _remaining(deadline: float) -> float | None:
    """Seconds left; None without a deadline."""
    return None if math.isinf(deadline) else deadline - asyncio.get_running_loop().time()


def _translated(error: Exception) -> ActserveError:
    """An error of the client library as one of ours."""
    status, message = str(getattr(error, "status", lambda: "")()), _message(error)
    if "Exceeds maximum queue size" in message:
        return Overloaded("Triton's queue is full")
    if status.endswith("DEADLINE_EXCEEDED") or "Request timeout expired" in message:
        return DeadlineExceeded("Triton did not answer in time")
    if status.endswith(("UNAVAILABLE", "CANCELLED", "NOT_FOUND")) and "shared memory" not in message:
        return EngineUnavailable(f"Triton cannot be used: {message}")
    return EngineFailure(f"Triton failed: {message}")


def _message(error: Exception) -> str:
    """First line of what an error says."""
    told = getattr(error, "message", None)
    text = told() if callable(told) else str(error)
    return (str(text) or type(error).__name__).splitlines()[0][:300]
