"""The engine of a Triton server: the towers of one version run there, over gRPC; X-CLIP's head runs here.

Batches form in the server, so concurrent requests are sent as they come. Views go through shared memory where the
server can open ours. A server that goes away makes the engine say so. Once it is back, or has loaded the model anew,
the parity clips run again before it is used: the file behind a version number may have been replaced.
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
from serve.engines.base import VideoFeatures
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
from serve.models.repository import verify_file
from serve.settings import BatchSettings, TritonSettings

logger = logging.getLogger(__name__)

LABEL = "triton"
HALF_PRECISION_LABEL = "triton-fp16"
TOWERS = ("text", "video")
UNBATCHED_ROWS = 64  # of one call to a model without max_batch_size: what exported graphs take
MAX_CALL_BYTES = 2**29  # of views in one call; gRPC and protobuf end at 2 GiB
POLL_SECONDS = 0.5
CLOSE_SECONDS = 10.0  # that calls under way get to end by themselves


class TritonEngine:
    """One model version on a Triton server; `label` tells where its configuration lets it compute in fp16."""

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
        self.has_loaded = False  # the server loaded it by our order
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
        self._checked_epoch = 0  # of the loaded models whose parity was checked
        self._refusal = (-1, "")  # epoch of loaded models that are not used, and why
        self._rows_per_call = dict.fromkeys(TOWERS, UNBATCHED_ROWS)
        self._facts = {"server": settings.url}
        self._fault: str | None = None
        self._watch: asyncio.Task[None] | None = None
        self._waiting = 0
        self._calls: set[asyncio.Task[dict[str, Float32Array]]] = set()  # also those whose caller has left
        self._is_open = True
        self._runs = 0
        self._views = 0

    @property
    def facts(self) -> Mapping[str, str]:
        """Address and version of the server, its instances, and how views come to it."""
        return {**self._facts, "views": self._transport.told}

    @property
    def fault(self) -> str | None:
        """Why the server cannot be used at present; None while it can."""
        if self._fault is not None or self._checked_epoch == self._instances.epoch:
            return self._fault
        return f"Triton at {self._settings.url} has loaded the model anew; its parity is being checked"

    @property
    def queued_views(self) -> int:
        """Views sent and not yet answered."""
        return self._waiting

    @property
    def batches(self) -> tuple[int, int]:
        """(requests to the server, views) so far; how the server joins them stands in its own statistics."""
        return self._runs, self._views

    async def start(self) -> None:
        """Have the version loaded, compare its tensors with the contract, find the way of the views.

        Raises:
            ContractError: there is no such server, it has not or cannot load the version, or its tensors are others.
        """
        await self._make_ready()
        try:
            self._facts["version"] = await self._server.version()
            await self._instances.adopt()  # the parity check that follows is of these
            self.label = await self._check_towers()
            await self._transport.open()
            self._checked_epoch = self._instances.epoch
        except ServiceError as error:
            raise ContractError(f"Triton at {self._settings.url}: {reason_of(error)}", field="triton.url") from error
        if self._head is not None:
            await self._head.start()
        self._watch = asyncio.create_task(self._keep_watch(), name="triton watch")

    async def encode_video(self, views: UInt8Array, *, deadline: float) -> VideoFeatures:
        self._require_checked()
        self._admit(len(views))
        return await self._encode_video(views, deadline)

    async def encode_text(self, tokens: Int64Array) -> Float32Array:
        self._require_checked()
        return await self._encode_text(tokens)

    async def _encode_video(self, views: UInt8Array, deadline: float) -> VideoFeatures:
        outputs = await self._in_calls("video", np.ascontiguousarray(views), deadline)
        return VideoFeatures(video_features=outputs["video_features"], patch_features=outputs.get("patch_features"))

    async def _encode_text(self, tokens: Int64Array) -> Float32Array:
        return (await self._in_calls("text", np.ascontiguousarray(tokens), float("inf")))["text_features"]

    async def prompted_logits(self, features: VideoFeatures, text_features: Float32Array) -> Float32Array:
        assert self._head is not None, "only X-CLIP has a head"
        return await self._head.logits(features, text_features)

    async def unload(self) -> None:
        """Have the server drop this version and keep the others; where it takes no orders, it keeps all.

        A gateway that still wants the version has it loaded again.
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
        """Wait until the server has this version, loading it where the server takes such orders.

        Raises:
            ContractError: the server cannot load it, or does not have it in time.
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
        """Why the version is not ready, after having the server load it; None where it is.

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
                    told = ", ".join(f"version {number} {state}" for number, state in states.items())
                    return f"of {name} it has {told or 'nothing'}"
        except ServiceError as error:
            return reason_of(error)
        return None

    async def _check_towers(self) -> str:
        """Compare the towers' tensors with the contract's; returns the label of what their configurations allow.

        Raises:
            ContractError: names the tensor, what was expected and what was found.
            ServiceError: the server does not answer.
        """
        is_half = [await self._check_tower(tower) for tower in TOWERS]
        return HALF_PRECISION_LABEL if any(is_half) else LABEL

    async def _check_tower(self, tower: str) -> bool:
        """As `_check_towers`, for one of them; returns whether it may compute in fp16."""
        graph, name, version = self.contract.graphs[tower], self._model(tower), self.contract.version
        inputs, outputs = await self._server.signature(name, version)
        check_tensors(f"Triton's {name}@{version}", "input", graph.inputs, inputs)
        check_tensors(f"Triton's {name}@{version}", "output", graph.outputs, outputs)
        configuration = await self._server.configuration(name, version)
        self._rows_per_call[tower] = int(configuration.get("max_batch_size", 0)) or UNBATCHED_ROWS
        self._facts[f"{tower}_instances"] = describe_instances(configuration)
        return is_half_precision(configuration)

    def _require_checked(self) -> None:
        """Refuse work while the numbers of the loaded models are not known to be the contract's.

        Raises:
            EngineUnavailable: says why.
        """
        if self._refusal[0] == self._instances.epoch:
            raise EngineUnavailable(
                "the Triton server runs another model than the contract describes; /readyz has the figures"
            )
        if self._checked_epoch != self._instances.epoch:
            raise EngineUnavailable(
                "the Triton server has been away or has loaded the model anew; its numbers are being checked"
            )

    def _admit(self, num_views: int) -> None:
        """Refuse views beyond the limit before anything is sent."""
        if self._waiting + num_views > max(self._max_queued, num_views):
            raise Overloaded(
                f"{self._waiting} views are with Triton already, {self._max_queued} may be",
                queued=self._waiting,
                limit=self._max_queued,
            )

    async def _in_calls(self, tower: str, rows: NDArray[Any], deadline: float) -> dict[str, Float32Array]:
        """Outputs of rows, in as many calls as the server's largest batch makes of them, awaited until the deadline.

        A caller who leaves leaves the calls alone: servers up to 25.01 may crash when a call is cancelled
        (triton-inference-server issues 7368 and 8034), and those that live read its shared memory to the end. The
        server drops them from its queue by its own clock.

        Raises:
            EngineUnavailable: it does not answer; readiness is off until it does.
            DeadlineExceeded: not in time.
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
        """Start a call; its views count as waiting until it ends, since the server may hold them so long."""
        num_views = len(rows) if tower == "video" else 0
        self._waiting += num_views
        call = asyncio.create_task(self._call(tower, rows, seconds), name=f"triton {tower}")
        self._calls.add(call)

        def end(done: "asyncio.Task[dict[str, Float32Array]]") -> None:
            self._waiting -= num_views
            self._calls.discard(done)
            if not done.cancelled():
                done.exception()  # nobody may be left to ask

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
                raise EngineUnavailable("the Triton server loaded the model anew while the request was under way")
            return outputs
        except EngineUnavailable as error:
            if self._instances.epoch == epoch:
                self._lose(reason_of(error))
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

    async def _keep_watch(self) -> None:
        """Notice that the server is gone, and that it is back; one that lost the version is told to load it."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                reason = await self._missing()
                if reason is not None:
                    self._lose(reason)
                    continue
                self._note(await self._unchecked())
            except ActserveError as error:
                self._lose(reason_of(error))
            except Exception:  # the watch must outlive any one failure
                logger.exception("Triton could not be asked; it is tried again")

    async def _unchecked(self) -> str | None:
        """Why the loaded models cannot be used, after running the parity clips where they are not known; None if not.

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
            logger.warning("Triton at %s has been away or has loaded the model anew: checking it", self._settings.url)
            try:
                await self._check_again()
            except ContractError as error:
                self._refusal = (self._instances.epoch, error.message)
        return self._refusal[1] if self._refusal[0] == self._instances.epoch else None

    async def _check_again(self) -> None:
        """Check tensors and parity of what the server has loaded since the last check.

        Raises:
            ContractError: it is not what the contract describes.
            ServiceError: the server does not answer, or loaded it anew meanwhile.
        """
        await self._transport.renew()
        epoch = await self._instances.adopt()
        label = await self._check_towers()
        if label != self.label:
            raise ContractError(f"it was loaded as {self.label} and is {label} now: activate the version again")
        parity_file = self.contract.parity_file
        await asyncio.to_thread(verify_file, self._repository, parity_file.file, parity_file.sha256)
        await check_parity(_TowersUnderCheck(self), self._repository, cache_dir=Path(), runtime=None)
        self._checked_epoch = epoch

    def _lose(self, reason: str) -> None:
        """Note that the server is away; what it has loaded when it is back is checked."""
        self._instances.forget()
        self._note(reason)

    def _note(self, reason: str | None) -> None:
        """Remember why the server cannot be used, or that it can; a change is logged."""
        told = None if reason is None else f"Triton at {self._settings.url} cannot be used: {reason}"
        if (told is None) != (self._fault is None):
            logger.warning("%s", told or f"Triton at {self._settings.url} is back")
        self._fault = told


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
