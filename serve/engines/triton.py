"""Engine that runs the towers of one model version on a Triton server over gRPC; X-CLIP's head runs in this process.

The server forms batches, so requests are sent immediately. Views are passed in shared memory if the server can open it.
If the server disconnects, the engine reports a fault. After the server has reconnected or reloaded the model, the
parity check is repeated before the model is used, because its files may have been replaced.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array, Int64Array, UInt8Array
from serve.contract import ModelContract
from serve.engines.head import PromptHead
from serve.engines.parity_check import check_parity
from serve.engines.signature import check_tensors
from serve.engines.triton_client import SharedMemoryLocation, TritonClient, server_message
from serve.engines.triton_configuration import describe_instances, is_half_precision, read_configuration
from serve.engines.triton_instances import LoadedInstances
from serve.engines.triton_memory import ViewTransport
from serve.engines.triton_versions import load_version, unload_version
from serve.errors import (
    ActserveError,
    ContractError,
    DeadlineExceeded,
    EngineUnavailable,
    Overloaded,
    ServiceError,
)
from serve.features import VideoFeatures
from serve.repository import verify_file
from serve.settings import BatchSettings, TritonSettings

logger = logging.getLogger(__name__)

NAME = "triton"
HALF_PRECISION_NAME = "triton-fp16"
TOWERS = ("text", "video")
DEFAULT_ROWS_PER_CALL = 64  # for models without max_batch_size; exported graphs support it
MAX_CALL_BYTES = 2**29  # maximum size of the views in one call; gRPC and protobuf allow less than 2 GiB
POLL_SECONDS = 0.5
CLOSE_SECONDS = 10.0  # time that running calls get to finish when the engine is closed


class TritonEngine:
    """Runs one model version on a Triton server; `name` is `triton-fp16` if its configuration allows fp16."""

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
        self.name = NAME
        self.frame_graphs = None  # Triton model repositories contain only the whole video graph
        self.has_loaded = False  # whether the server loaded the version at the request of this engine
        self._repository = repository
        self._settings = settings
        self._max_queued = batch.max_queued_views
        self._head = head
        self._client = TritonClient(settings.url)
        self._transport = ViewTransport(
            self._client, mode=settings.shared_memory, num_bytes=settings.shared_memory_bytes
        )
        self._instances = LoadedInstances(
            self._client, {tower: self._model_name(tower) for tower in TOWERS}, contract.version
        )
        self._checked_epoch = 0  # epoch of the loaded models that passed the last check
        self._failed_check = (-1, "")  # epoch of the loaded models that failed the check, and the reason
        self._rows_per_call = dict.fromkeys(TOWERS, DEFAULT_ROWS_PER_CALL)
        self._details = {"server": settings.url}
        self._fault: str | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._num_pending_views = 0
        self._calls: set[asyncio.Task[dict[str, Float32Array]]] = set()  # including calls whose caller was cancelled
        self._is_open = True
        self._call_sizes: Counter[int] = Counter()

    @property
    def details(self) -> Mapping[str, str]:
        """URL and version of the server, instances of the towers, and how views are passed."""
        return {**self._details, "views": self._transport.name}

    @property
    def fault(self) -> str | None:
        """Why the server is currently unavailable; None if it is available."""
        if self._fault is not None or self._checked_epoch == self._instances.epoch:
            return self._fault
        return f"Triton at {self._settings.url} has reloaded the model; the parity check is running"

    @property
    def queued_views(self) -> int:
        """Number of views sent to the server without a response yet."""
        return self._num_pending_views

    @property
    def batch_sizes(self) -> Mapping[int, int]:
        """Number of calls sent to the server, by their views; the server's statistics count the batches it forms."""
        return self._call_sizes

    async def start(self) -> None:
        """Load the version on the server, compare its tensors with the contract and set up shared memory.

        Raises:
            ContractError: the server does not respond or cannot load the version, or its tensors differ.
        """
        await self._wait_until_loaded()
        try:
            self._details["version"] = await self._client.server_version()
            await self._instances.adopt()  # before the tensors and the parity of the instances are checked
            self.name = await self._check_towers()
            await self._transport.open()
            self._checked_epoch = self._instances.epoch
        except ServiceError as error:
            raise ContractError(
                f"Triton at {self._settings.url}: {server_message(error)}", field="triton.url"
            ) from error
        if self._head is not None:
            await self._head.start()
        self._watch_task = asyncio.create_task(self._watch_server(), name="triton watch")

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        self._require_checked()
        self._check_queue(len(views))
        return await self._encode_video(views, deadline)

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        self._require_checked()
        return await self._encode_text(tokens)

    async def _encode_video(self, views: UInt8Array, deadline: float) -> VideoFeatures:
        outputs = await self._run_in_calls("video", np.ascontiguousarray(views), deadline)
        return VideoFeatures(
            video_features=outputs["video_features"],
            patch_features=outputs.get("patch_features"),
            prototype_features=outputs.get("prototype_features"),
        )

    async def _encode_text(self, tokens: Int64Array) -> Float32Array:
        return (await self._run_in_calls("text", np.ascontiguousarray(tokens), float("inf")))["text_features"]

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        assert self._head is not None, "only X-CLIP has a head"
        return await self._head.logits(features, text_features)

    async def unload(self) -> None:
        """Unload this version from the server and keep the others; without explicit model control, do nothing.

        If another server process still uses the version, that process loads it again.
        """
        version, timeout_seconds = self.contract.version, self._settings.load_timeout_seconds
        for tower in reversed(TOWERS):
            name = self._model_name(tower)
            try:
                configuration = read_configuration(self._repository / name, self._settings.config_name)
                await unload_version(
                    self._client, name, version, configuration=configuration, timeout_seconds=timeout_seconds
                )
            except (ServiceError, ContractError) as error:
                logger.warning("cannot unload %s@%d from Triton: %s", name, version, server_message(error))

    async def close(self) -> None:
        self._is_open = False
        if self._watch_task is not None:
            self._watch_task.cancel()
            await asyncio.gather(self._watch_task, return_exceptions=True)
        if self._calls:
            await asyncio.wait(self._calls, timeout=CLOSE_SECONDS)
        await self._transport.close(in_use=bool(self._calls))
        await self._client.close()
        if self._head is not None:
            await self._head.close()

    def _model_name(self, tower: str) -> str:
        """Return the name of a tower's model on the server."""
        return self.contract.graphs[tower].file.split("/")[0]

    async def _wait_until_loaded(self) -> None:
        """Wait until the server has loaded this version; request the load if the server allows model control.

        Raises:
            ContractError: the server cannot load the version, or has not loaded it before the timeout.
        """
        timeout_seconds = self._settings.load_timeout_seconds
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            reason = await self._ensure_loaded()
            if reason is None:
                return
            if asyncio.get_running_loop().time() >= deadline:
                raise ContractError(
                    f"Triton at {self._settings.url} did not load {self.contract.name}@{self.contract.version} "
                    f"within {timeout_seconds:g} s: {reason}",
                    field="triton.url",
                )
            await asyncio.sleep(min(POLL_SECONDS, timeout_seconds))

    async def _ensure_loaded(self) -> str | None:
        """Request the load of the version if it is not ready; return the reason if it is still not ready.

        Raises:
            ContractError: the server cannot load the version.
        """
        version, timeout_seconds = self.contract.version, self._settings.load_timeout_seconds
        try:
            for tower in TOWERS:
                name = self._model_name(tower)
                if await self._client.is_ready(name, version):
                    continue
                configuration = read_configuration(self._repository / name, self._settings.config_name)
                is_loaded = await load_version(
                    self._client, name, version, configuration=configuration, timeout_seconds=timeout_seconds
                )
                self.has_loaded = self.has_loaded or is_loaded
                if not await self._client.is_ready(name, version):
                    states = await self._client.states(name)
                    versions = ", ".join(f"version {number} {state}" for number, state in states.items())
                    return f"{name} is not ready; the server reports {versions or 'no versions of it'}"
        except ServiceError as error:
            return server_message(error)
        return None

    async def _check_towers(self) -> str:
        """Compare the towers' tensors with the contract; return the engine name, which depends on their precision.

        Raises:
            ContractError: a tensor differs from the contract.
            ServiceError: the server does not respond.
        """
        is_half = [await self._check_tower(tower) for tower in TOWERS]
        return HALF_PRECISION_NAME if any(is_half) else NAME

    async def _check_tower(self, tower: str) -> bool:
        """Compare one tower's tensors with the contract; return whether the tower may compute in fp16."""
        graph, name, version = self.contract.graphs[tower], self._model_name(tower), self.contract.version
        inputs, outputs = await self._client.signature(name, version)
        check_tensors(f"Triton's {name}@{version}", "input", graph.inputs, inputs)
        check_tensors(f"Triton's {name}@{version}", "output", graph.outputs, outputs)
        configuration = await self._client.configuration(name, version)
        self._rows_per_call[tower] = int(configuration.get("max_batch_size", 0)) or DEFAULT_ROWS_PER_CALL
        self._details[f"{tower}_instances"] = describe_instances(configuration)
        return is_half_precision(configuration)

    def _require_checked(self) -> None:
        """Raise unless the loaded models have passed the check.

        Raises:
            EngineUnavailable: the check is pending or has failed.
        """
        if self._failed_check[0] == self._instances.epoch:
            raise EngineUnavailable(
                "the model on the Triton server differs from the contract; see /readyz for the details"
            )
        if self._checked_epoch != self._instances.epoch:
            raise EngineUnavailable(
                "the Triton server was unavailable or has reloaded the model; the parity check is running"
            )

    def _check_queue(self, num_views: int) -> None:
        """Raise `Overloaded` if the limit of queued views would be exceeded."""
        if self._num_pending_views + num_views > max(self._max_queued, num_views):
            raise Overloaded(
                f"{self._num_pending_views} views are waiting for Triton, at most {self._max_queued} may; "
                "try again later",
                queued=self._num_pending_views,
                limit=self._max_queued,
            )

    async def _run_in_calls(self, tower: str, rows: NDArray[Any], deadline: float) -> dict[str, Float32Array]:
        """Run rows in calls of at most the model's maximum batch size, and wait for the outputs until the deadline.

        If the caller is cancelled, the calls are not, because servers up to 25.01 may crash when a call is cancelled
        (triton-inference-server issues 7368 and 8034), and later ones may still read its shared memory. The server
        drops expired calls from its queue.

        Raises:
            EngineUnavailable: the server does not respond; the engine is unavailable until it does.
            DeadlineExceeded: the server did not respond before the deadline.
        """
        if not self._is_open:
            raise EngineUnavailable("the engine is closed")
        timeout_seconds = min(deadline - asyncio.get_running_loop().time(), self._settings.request_timeout_seconds)
        if timeout_seconds <= 0:
            raise DeadlineExceeded("the deadline passed while the request waited for the engine")
        step = max(1, min(self._rows_per_call[tower], MAX_CALL_BYTES // rows[0].nbytes))
        calls = [
            self._start_call(tower, rows[start : start + step], timeout_seconds) for start in range(0, len(rows), step)
        ]
        try:
            async with asyncio.timeout(timeout_seconds):
                parts = [await asyncio.shield(call) for call in calls]
        except TimeoutError as error:
            raise DeadlineExceeded("the Triton server did not respond before the deadline") from error
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _start_call(
        self, tower: str, rows: NDArray[Any], timeout_seconds: float
    ) -> "asyncio.Task[dict[str, Float32Array]]":
        """Start a call; its views count as pending until it finishes, because the server holds them until then."""
        num_views = len(rows) if tower == "video" else 0
        self._num_pending_views += num_views
        call = asyncio.create_task(self._call(tower, rows, timeout_seconds), name=f"triton {tower}")
        self._calls.add(call)

        def on_done(done: "asyncio.Task[dict[str, Float32Array]]") -> None:
            self._num_pending_views -= num_views
            self._calls.discard(done)
            if not done.cancelled():
                done.exception()  # mark it as retrieved, because the caller may have been cancelled

        call.add_done_callback(on_done)
        return call

    async def _call(self, tower: str, rows: NDArray[Any], timeout_seconds: float) -> dict[str, Float32Array]:
        """Run a tower and check that the server did not reload its model during the call."""
        epoch = self._instances.epoch
        try:
            if tower == "text":
                outputs = await self._infer(tower, rows, timeout_seconds, None)
            else:
                self._call_sizes[len(rows)] += 1
                outputs = await self._transport.send(
                    rows, lambda location: self._infer(tower, rows, timeout_seconds, location)
                )
            await self._instances.confirm_run(tower)
            if self._instances.epoch != epoch:
                raise EngineUnavailable("the Triton server reloaded the model during the request")
            return outputs
        except EngineUnavailable as error:
            if self._instances.epoch == epoch:
                self._mark_unavailable(server_message(error))
            raise

    async def _infer(
        self, tower: str, rows: NDArray[Any], timeout_seconds: float, location: SharedMemoryLocation | None
    ) -> dict[str, Float32Array]:
        graph = self.contract.graphs[tower]
        return await self._client.infer(
            self._model_name(tower),
            self.contract.version,
            rows,
            input_name=graph.inputs[0].name,
            output_names=[tensor.name for tensor in graph.outputs],
            timeout_seconds=timeout_seconds,
            location=location,
        )

    async def _watch_server(self) -> None:
        """Detect disconnects and reconnects of the server; request the load of the version if it is missing."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                reason = await self._ensure_loaded()
                if reason is not None:
                    self._mark_unavailable(reason)
                    continue
                self._set_fault(await self._check_if_changed())
            except ActserveError as error:
                self._mark_unavailable(server_message(error))
            except Exception:  # keep watching after any failure
                logger.exception("cannot query the Triton server; trying again")

    async def _check_if_changed(self) -> str | None:
        """Check the loaded models if they may have changed; return the reason if they cannot be used.

        Raises:
            ServiceError: the server does not respond.
        """
        epoch = self._instances.epoch
        if epoch in (self._checked_epoch, self._failed_check[0]):
            try:
                for tower in TOWERS:
                    await self._instances.confirm(tower)
            except EngineUnavailable:
                if self._instances.epoch == epoch:  # not reloaded: the server does not respond
                    raise
        if self._instances.epoch not in (self._checked_epoch, self._failed_check[0]):
            logger.warning(
                "Triton at %s was unavailable or has reloaded the model; running the parity check", self._settings.url
            )
            try:
                await self._check_again()
            except ContractError as error:
                self._failed_check = (self._instances.epoch, error.message)
        return self._failed_check[1] if self._failed_check[0] == self._instances.epoch else None

    async def _check_again(self) -> None:
        """Check tensors and parity of the models that the server has loaded now.

        Raises:
            ContractError: the models differ from the contract, or use another precision than before.
            ServiceError: the server does not respond, or it reloaded a model during the check.
        """
        await self._transport.register_again()
        epoch = await self._instances.adopt()
        name = await self._check_towers()
        if name != self.name:
            raise ContractError(f"the precision changed from {self.name} to {name}; activate the version again")
        parity_file = self.contract.parity_file
        await asyncio.to_thread(verify_file, self._repository, parity_file.file, parity_file.sha256)
        await check_parity(_UncheckedTowers(self), self._repository, cache_dir=Path(), runtime_version=None)
        self._checked_epoch = epoch

    def _mark_unavailable(self, reason: str) -> None:
        """Report a fault; the loaded models are checked again when the server is available."""
        self._instances.invalidate()
        self._set_fault(reason)

    def _set_fault(self, reason: str | None) -> None:
        """Set or clear the fault; log if the engine becomes unavailable or available."""
        fault = None if reason is None else f"Triton at {self._settings.url} cannot be used: {reason}"
        if (fault is None) != (self._fault is None):
            logger.warning("%s", fault or f"Triton at {self._settings.url} can be used again")
        self._fault = fault


class _UncheckedTowers:
    """Access to the towers of an engine for the parity check, while the engine rejects requests."""

    def __init__(self, engine: TritonEngine) -> None:
        self._engine = engine
        self.contract, self.name = engine.contract, engine.name

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        return await self._engine._encode_video(views, deadline)

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        return await self._engine._encode_text(tokens)

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        return await self._engine.prompted_logits(features, text_features)
