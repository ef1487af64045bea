"""Engine on a Triton server: the towers of one version run there, over gRPC; X-CLIP's head runs in this process.

The server forms batches, so concurrent requests are sent immediately. Views are passed in shared memory if the server
can open it. If the server disconnects, the engine reports a fault. After it has reconnected or reloaded the model, the
parity clips run again before it is used, because the file of a version may have been replaced.
"""

import asyncio
import logging
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
from serve.engines.triton_configuration import configuration_on_disk, describe_instances, is_half_precision
from serve.engines.triton_instances import LoadedInstances
from serve.engines.triton_memory import ViewTransport
from serve.engines.triton_server import Place, TritonServer, reason_of
from serve.engines.triton_versions import drop_version, load_version
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

LABEL = "triton"
HALF_PRECISION_LABEL = "triton-fp16"
TOWERS = ("text", "video")
UNBATCHED_ROWS = 64  # rows per call to a model without max_batch_size; exported graphs accept so many
MAX_CALL_BYTES = 2**29  # of views in one call; gRPC and protobuf allow less than 2 GiB
POLL_SECONDS = 0.5
CLOSE_SECONDS = 10.0  # time that running calls get to finish


class TritonEngine:
    """One model version on a Triton server; `label` is `triton-fp16` if its configuration allows fp16."""

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
        self.label = LABEL
        self.frame_graphs = None  # a Triton server loads whole graphs alone
        self.has_loaded = False  # the server loaded it at our request
        self._repository = repository
        self._settings = settings
        self._max_queued = batch.max_queued_views
        self._head = head
        self._server = TritonServer(settings.url)
        self._transport = ViewTransport(
            self._server, mode=settings.shared_memory, num_bytes=settings.shared_memory_bytes
        )
        self._instances = LoadedInstances(
            self._server, {tower: self._model(tower) for tower in TOWERS}, contract.version
        )
        self._checked_epoch = 0  # epoch of the loaded models that passed the parity check
        self._refusal = (-1, "")  # epoch of the loaded models that failed it, and the reason
        self._rows_per_call = dict.fromkeys(TOWERS, UNBATCHED_ROWS)
        self._facts = {"server": settings.url}
        self._fault: str | None = None
        self._watch: asyncio.Task[None] | None = None
        self._waiting = 0
        self._calls: set[asyncio.Task[dict[str, Float32Array]]] = set()  # including those whose caller was cancelled
        self._is_open = True
        self._runs = 0
        self._views = 0

    @property
    def facts(self) -> Mapping[str, str]:
        """Address and version of the server, its instances, and how views are passed to it."""
        return {**self._facts, "views": self._transport.name}

    @property
    def fault(self) -> str | None:
        """Why the server is currently unavailable; None if it is available."""
        if self._fault is not None or self._checked_epoch == self._instances.epoch:
            return self._fault
        return f"Triton at {self._settings.url} has reloaded the model; its parity is being checked"

    @property
    def queued_views(self) -> int:
        """Number of views that were sent and not yet answered."""
        return self._waiting

    @property
    def batches(self) -> tuple[int, int]:
        """(requests to the server, views) so far; the batches it forms are in its own statistics."""
        return self._runs, self._views

    async def start(self) -> None:
        """Load the version on the server, compare its tensors with the contract, set up shared memory.

        Raises:
            ContractError: the server does not answer or cannot load the version, or its tensors differ.
        """
        await self._make_ready()
        try:
            self._facts["version"] = await self._server.version()
            await self._instances.adopt()  # the instances that the following parity check covers
            self.label = await self._check_towers()
            await self._transport.open()
            self._checked_epoch = self._instances.epoch
        except ServiceError as error:
            raise ContractError(f"Triton at {self._settings.url}: {reason_of(error)}", field="triton.url") from error
        if self._head is not None:
            await self._head.start()
        self._watch = asyncio.create_task(self._watch_server(), name="triton watch")

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        self._require_checked()
        self._admit(len(views))
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
        """Unload this version from the server and keep the others; without explicit model control, all stay loaded.

        Another gateway that still uses the version loads it again.
        """
        for tower in reversed(TOWERS):
            name, seconds = self._model(tower), self._settings.load_timeout_seconds
            try:
                configuration = configuration_on_disk(self._repository / name, self._settings.config_name)
                await drop_version(
                    self._server, name, self.contract.version, configuration=configuration, seconds=seconds
                )
            except (ServiceError, ContractError) as error:
                logger.warning("Triton keeps %s@%d: %s", name, self.contract.version, reason_of(error))

    async def close(self) -> None:
        self._is_open = False
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        if self._calls:
            await asyncio.wait(self._calls, timeout=CLOSE_SECONDS)
        await self._transport.close(is_read=bool(self._calls))
        await self._server.close()
        if self._head is not None:
            await self._head.close()

    def _model(self, tower: str) -> str:
        return self.contract.graphs[tower].file.split("/")[0]

    async def _make_ready(self) -> None:
        """Wait until the server has loaded this version; request the load if the server allows it.

        Raises:
            ContractError: the server cannot load it, or has not loaded it in time.
        """
        limit = self._settings.load_timeout_seconds
        end = asyncio.get_running_loop().time() + limit
        while True:
            reason = await self._missing()
            if reason is None:
                return
            if asyncio.get_running_loop().time() >= end:
                raise ContractError(
                    f"Triton at {self._settings.url} has no {self.contract.name}@{self.contract.version} "
                    f"within {limit:g} s: {reason}",
                    field="triton.url",
                )
            await asyncio.sleep(min(POLL_SECONDS, limit))

    async def _missing(self) -> str | None:
        """Request the load of the version if it is not ready; return why it is still not ready, or None.

        Raises:
            ContractError: the server cannot load it.
        """
        version, seconds = self.contract.version, self._settings.load_timeout_seconds
        try:
            for tower in TOWERS:
                name = self._model(tower)
                if await self._server.is_ready(name, version):
                    continue
                configuration = configuration_on_disk(self._repository / name, self._settings.config_name)
                is_loaded = await load_version(
                    self._server, name, version, configuration=configuration, seconds=seconds
                )
                self.has_loaded = self.has_loaded or is_loaded
                if not await self._server.is_ready(name, version):
                    states = await self._server.states(name)
                    found = ", ".join(f"version {number} {state}" for number, state in states.items())
                    return f"of {name} it has {found or 'nothing'}"
        except ServiceError as error:
            return reason_of(error)
        return None

    async def _check_towers(self) -> str:
        """Compare the towers' tensors with the contract; return the label for the precision they may use.

        Raises:
            ContractError: names the tensor, what was expected and what was found.
            ServiceError: the server does not answer.
        """
        is_half = [await self._check_tower(tower) for tower in TOWERS]
        return HALF_PRECISION_LABEL if any(is_half) else LABEL

    async def _check_tower(self, tower: str) -> bool:
        """Check one tower as `_check_towers` does; return whether it may compute in fp16."""
        graph, name, version = self.contract.graphs[tower], self._model(tower), self.contract.version
        inputs, outputs = await self._server.signature(name, version)
        check_tensors(f"Triton's {name}@{version}", "input", graph.inputs, inputs)
        check_tensors(f"Triton's {name}@{version}", "output", graph.outputs, outputs)
        configuration = await self._server.configuration(name, version)
        self._rows_per_call[tower] = int(configuration.get("max_batch_size", 0)) or UNBATCHED_ROWS
        self._facts[f"{tower}_instances"] = describe_instances(configuration)
        return is_half_precision(configuration)

    def _require_checked(self) -> None:
        """Refuse work until the loaded models have passed the parity check.

        Raises:
            EngineUnavailable: the check is pending or has failed.
        """
        if self._refusal[0] == self._instances.epoch:
            raise EngineUnavailable(
                "the Triton server runs another model than the contract describes; /readyz has the figures"
            )
        if self._checked_epoch != self._instances.epoch:
            raise EngineUnavailable(
                "the Triton server was unavailable or has reloaded the model; its parity is being checked"
            )

    def _admit(self, num_views: int) -> None:
        """Raise `Overloaded` if the limit of queued views would be exceeded."""
        if self._waiting + num_views > max(self._max_queued, num_views):
            raise Overloaded(
                f"Triton has {self._waiting} unanswered views, at most {self._max_queued} are allowed; try again later",
                queued=self._waiting,
                limit=self._max_queued,
            )

    async def _run_in_calls(self, tower: str, rows: NDArray[Any], deadline: float) -> dict[str, Float32Array]:
        """Run rows in calls of at most the server's largest batch, and wait for the outputs until the deadline.

        When the caller is cancelled, the calls continue: servers up to 25.01 may crash when a call is cancelled
        (triton-inference-server issues 7368 and 8034), and others still read its shared memory. The server drops
        expired calls from its queue.

        Raises:
            EngineUnavailable: the server does not answer; the engine is not ready until it does.
            DeadlineExceeded: the server did not answer in time.
        """
        if not self._is_open:
            raise EngineUnavailable("the engine is closed")
        seconds = min(deadline - asyncio.get_running_loop().time(), self._settings.request_timeout_seconds)
        if seconds <= 0:
            raise DeadlineExceeded("the deadline passed while the request waited for the engine")
        step = max(1, min(self._rows_per_call[tower], MAX_CALL_BYTES // rows[0].nbytes))
        calls = [self._begin(tower, rows[start : start + step], seconds) for start in range(0, len(rows), step)]
        try:
            async with asyncio.timeout(seconds):
                parts = [await asyncio.shield(call) for call in calls]
        except TimeoutError as error:
            raise DeadlineExceeded("the Triton server did not answer before the deadline") from error
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _begin(self, tower: str, rows: NDArray[Any], seconds: float) -> "asyncio.Task[dict[str, Float32Array]]":
        """Start a call; its views count as waiting until it ends, because the server holds them until then."""
        num_views = len(rows) if tower == "video" else 0
        self._waiting += num_views
        call = asyncio.create_task(self._call(tower, rows, seconds), name=f"triton {tower}")
        self._calls.add(call)

        def end(done: "asyncio.Task[dict[str, Float32Array]]") -> None:
            self._waiting -= num_views
            self._calls.discard(done)
            if not done.cancelled():
                done.exception()  # marks it as retrieved: the caller may be gone

        call.add_done_callback(end)
        return call

    async def _call(self, tower: str, rows: NDArray[Any], seconds: float) -> dict[str, Float32Array]:
        epoch = self._instances.epoch
        try:
            if tower == "text":
                outputs = await self._infer(tower, rows, seconds, None)
            else:
                self._runs += 1
                self._views += len(rows)
                outputs = await self._transport.send(rows, lambda place: self._infer(tower, rows, seconds, place))
            await self._instances.confirm_run(tower)
            if self._instances.epoch != epoch:
                raise EngineUnavailable("the Triton server reloaded the model during the request")
            return outputs
        except EngineUnavailable as error:
            if self._instances.epoch == epoch:
                self._mark_unavailable(reason_of(error))
            raise

    async def _infer(
        self, tower: str, rows: NDArray[Any], seconds: float, place: Place | None
    ) -> dict[str, Float32Array]:
        graph = self.contract.graphs[tower]
        return await self._server.infer(
            self._model(tower),
            self.contract.version,
            rows,
            input_name=graph.inputs[0].name,
            output_names=[tensor.name for tensor in graph.outputs],
            seconds=seconds,
            place=place,
        )

    async def _watch_server(self) -> None:
        """Detect disconnects and reconnects of the server; request the load of the version if it is missing."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                reason = await self._missing()
                if reason is not None:
                    self._mark_unavailable(reason)
                    continue
                self._set_fault(await self._unchecked())
            except ActserveError as error:
                self._mark_unavailable(reason_of(error))
            except Exception:  # the watch continues after any failure
                logger.exception("cannot query the Triton server; trying again")

    async def _unchecked(self) -> str | None:
        """Check the loaded models if they are new; return why they cannot be used, or None.

        Raises:
            ServiceError: the server does not answer.
        """
        epoch = self._instances.epoch
        if epoch in (self._checked_epoch, self._refusal[0]):
            try:
                for tower in TOWERS:
                    await self._instances.confirm(tower)
            except EngineUnavailable:
                if self._instances.epoch == epoch:  # it does not answer
                    raise
        if self._instances.epoch not in (self._checked_epoch, self._refusal[0]):
            logger.warning("Triton at %s was unavailable or has reloaded the model; checking it", self._settings.url)
            try:
                await self._recheck()
            except ContractError as error:
                self._refusal = (self._instances.epoch, error.message)
        return self._refusal[1] if self._refusal[0] == self._instances.epoch else None

    async def _recheck(self) -> None:
        """Check tensors and parity of the models that the server has loaded since the last check.

        Raises:
            ContractError: they differ from the contract.
            ServiceError: the server does not answer, or reloaded a model during the check.
        """
        await self._transport.renew()
        epoch = await self._instances.adopt()
        label = await self._check_towers()
        if label != self.label:
            raise ContractError(f"its precision changed from {self.label} to {label}; activate the version again")
        parity_file = self.contract.parity_file
        await asyncio.to_thread(verify_file, self._repository, parity_file.file, parity_file.sha256)
        await check_parity(_TowersUnderCheck(self), self._repository, cache_dir=Path(), runtime=None)
        self._checked_epoch = epoch

    def _mark_unavailable(self, reason: str) -> None:
        """Record that the server is unavailable; its models are checked again when it is back."""
        self._instances.forget()
        self._set_fault(reason)

    def _set_fault(self, reason: str | None) -> None:
        """Set or clear the fault; log a change."""
        fault = None if reason is None else f"Triton at {self._settings.url} cannot be used: {reason}"
        if (fault is None) != (self._fault is None):
            logger.warning("%s", fault or f"Triton at {self._settings.url} can be used again")
        self._fault = fault


class _TowersUnderCheck:
    """The towers of an engine for its parity check, while the engine refuses other work."""

    def __init__(self, engine: TritonEngine) -> None:
        self._engine = engine
        self.contract, self.label = engine.contract, engine.label

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        return await self._engine._encode_video(views, deadline)

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        return await self._engine._encode_text(tokens)

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        return await self._engine.prompted_logits(features, text_features)
