"""Client of a Triton server over gRPC: its calls, the translation of their errors, and facts of its models.

This module and `triton_configuration` import tritonclient, which the extra `triton` installs.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serve.arrays import Float32Array
from serve.engines.signature import Shape
from serve.errors import (
    DeadlineExceeded,
    EngineFailure,
    EngineUnavailable,
    Overloaded,
)
from serve.extras import require_extra

NUMPY_NAMES = {"UINT8": "uint8", "INT64": "int64", "FP32": "float32"}
TRITON_NAMES = {name: triton for triton, name in NUMPY_NAMES.items()}
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),  # gRPC's default of 4 MB is three views; the server's limit is 2 GB
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also the longest time of one attempt
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),  # detects a lost host
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),  # one connection for each engine
]
Place = tuple[str, int]  # name of a registered region, offset in it
ABANDONED_SECONDS = 120.0  # after the deadline, until a call without an answer is cancelled
PROBE_SECONDS = 5.0  # timeout of calls that need no computation
NO_CONTROL = "explicit model load / unload is not allowed"  # answer of servers without explicit model control


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Statistics of a model version since it was loaded."""

    inferences: int
    executions: int
    successes: int
    failures: int
    success_ns: int
    queue_ns: int
    compute_ns: int

    def continues(self, earlier: "Counters") -> bool:
        """Return whether both readings can be of the same load of the version."""
        return all(now >= before for now, before in zip(astuple(self), astuple(earlier), strict=True))


class RegionUnknown(Exception):
    """The server does not know the shared memory region of a request, e.g. after its restart."""


class TritonServer:
    """One connection. Error messages hide the server's details from clients; `reason_of` returns them for operators."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._library = _library()
        self._client = self._library.InferenceServerClient(url, channel_args=CHANNEL_OPTIONS)

    async def infer(
        self,
        model: str,
        version: int,
        rows: NDArray[Any],
        *,
        input_name: str,
        output_names: Sequence[str],
        seconds: float,
        place: Place | None = None,
    ) -> dict[str, Float32Array]:
        """Run rows [n, ...] and return outputs by name, each [n, ...].

        The rows are in shared memory at `place`, or are sent in the message. After `seconds` the server drops the
        request if it is still queued; the call itself continues until then.

        Raises:
            RegionUnknown: the server does not know the region.
            Overloaded, DeadlineExceeded, EngineUnavailable, EngineFailure: see `serve.errors`.
        """
        tensor = self._library.InferInput(input_name, list(rows.shape), TRITON_NAMES[rows.dtype.name])
        if place is None:
            tensor.set_data_from_numpy(rows)
        else:
            tensor.set_shared_memory(place[0], rows.nbytes, place[1])
        outputs = [self._library.InferRequestedOutput(name) for name in output_names]
        with _translated():
            answer = await self._client.infer(
                model,
                [tensor],
                model_version=str(version),
                outputs=outputs,
                timeout=int(seconds * 1e6),
                client_timeout=seconds + ABANDONED_SECONDS,
            )
        return {name: _rows(answer.as_numpy(name), name, len(rows)) for name in output_names}

    async def register(self, name: str, *, key: str, num_bytes: int) -> None:
        """Register a region of shared memory with the server.

        Raises:
            EngineFailure: the server cannot open it, e.g. because it runs on another host.
            EngineUnavailable, DeadlineExceeded: the server does not answer.
        """
        try:
            with _translated():
                await self._client.register_system_shared_memory(name, key, num_bytes, client_timeout=PROBE_SECONDS)
        except EngineFailure as error:
            if "ALREADY_EXISTS" not in exit_status_of(error):  # this region: the name is random
                raise

    async def unregister(self, name: str) -> None:
        """Unregister a region.

        Raises:
            ServiceError: the server does not answer.
        """
        with _translated():
            await self._client.unregister_system_shared_memory(name, client_timeout=PROBE_SECONDS)

    async def version(self) -> str:
        """Return the version of the server.

        Raises:
            ServiceError: the server does not answer.
        """
        with _translated():
            found = await self._client.get_server_metadata(client_timeout=PROBE_SECONDS)
        return str(found.version)

    async def is_ready(self, model: str, version: int) -> bool:
        """Return whether the server has loaded a version.

        Raises:
            ServiceError: the server does not answer.
        """
        try:
            with _translated():
                return bool(await self._client.is_model_ready(model, str(version), client_timeout=PROBE_SECONDS))
        except EngineUnavailable as error:
            if exit_status_of(error) == "NOT_FOUND":
                return False
            raise

    async def signature(
        self, model: str, version: int
    ) -> tuple[dict[str, tuple[str, Shape]], dict[str, tuple[str, Shape]]]:
        """Return (inputs, outputs) of a version: name -> numpy dtype name and shape, batch axis included.

        Raises:
            ServiceError: the server does not answer, or has no such version.
        """
        with _translated():
            found = await self._client.get_model_metadata(model, str(version), client_timeout=PROBE_SECONDS)
        inputs, outputs = (
            {
                item.name: (
                    NUMPY_NAMES.get(item.datatype, item.datatype),
                    tuple(None if size < 0 else size for size in item.shape),
                )
                for item in tensors
            }
            for tensors in (found.inputs, found.outputs)
        )
        return inputs, outputs

    async def configuration(self, model: str, version: int) -> dict[str, Any]:
        """Return the configuration of a loaded version, with the field names of the protobuf.

        Raises:
            ServiceError: the server does not answer, or has no such version.
        """
        with _translated():
            found = await self._client.get_model_config(model, str(version), as_json=True, client_timeout=PROBE_SECONDS)
        configuration: dict[str, Any] = found["config"]
        return configuration

    async def counters(self, model: str, version: int) -> Counters:
        """Return the statistics of a version since it was loaded.

        Raises:
            ServiceError: the server does not answer, has no such version or keeps no statistics.
        """
        with _translated():
            found = await self._client.get_inference_statistics(model, str(version), client_timeout=PROBE_SECONDS)
        for item in found.model_stats:
            if item.name == model and item.version == str(version):
                spent = item.inference_stats
                return Counters(
                    inferences=item.inference_count,
                    executions=item.execution_count,
                    successes=spent.success.count,
                    failures=spent.fail.count,
                    success_ns=spent.success.ns,
                    queue_ns=spent.queue.ns,
                    compute_ns=spent.compute_infer.ns,
                )
        raise EngineUnavailable("the Triton server keeps no statistics of this version of the model")

    async def states(self, model: str) -> dict[int, str]:
        """Return version -> state (with a reason, if any) from the server's repository index.

        Raises:
            ServiceError: the server does not answer.
        """
        with _translated():
            found = await self._client.get_model_repository_index(client_timeout=PROBE_SECONDS)
        return {
            int(item.version): f"{item.state} {item.reason}".strip()
            for item in found.models
            if item.name == model and item.version
        }

    async def load(self, model: str, configuration: Mapping[str, Any], *, seconds: float) -> bool:
        """Load a model with a configuration; return False if the server does not allow model control.

        Raises:
            EngineFailure: the server cannot load it.
            EngineUnavailable, DeadlineExceeded: the server does not answer.
        """
        with _model_control() as control:
            await self._client.load_model(model, config=json.dumps(configuration), client_timeout=seconds)
        return control.is_allowed

    async def unload(self, model: str) -> bool:
        """Unload every version of a model; return False if the server does not allow model control.

        Raises:
            ServiceError: the server does not answer.
        """
        with _model_control() as control:
            await self._client.unload_model(model, client_timeout=PROBE_SECONDS)
        return control.is_allowed

    async def close(self) -> None:
        """Close the connection; running calls fail."""
        await self._client.close()


def reason_of(error: BaseException) -> str:
    """Return the message of the server or gRPC that caused an error; for operators."""
    origin = _origin(error)
    return str(error if origin is None else origin.message())


def exit_status_of(error: BaseException) -> str:
    """Return the gRPC status that caused an error, e.g. "NOT_FOUND"; empty if there is none."""
    origin = _origin(error)
    return "" if origin is None else str(origin.status()).removeprefix("StatusCode.")


def _origin(error: BaseException | None) -> Any:
    """Return tritonclient's exception in a chain of causes, or None."""
    while error is not None and type(error).__name__ != "InferenceServerException":
        error = error.__cause__
    return error


@dataclass
class _ModelControl:
    """Whether a server allowed a request to load or unload a model."""

    is_allowed: bool = True


@contextmanager
def _model_control() -> Iterator[_ModelControl]:
    """Record whether the server allows the request; servers without explicit model control refuse it."""
    control = _ModelControl()
    try:
        with _translated():
            yield control
    except EngineUnavailable as error:
        if NO_CONTROL not in reason_of(error):
            raise
        control.is_allowed = False


@contextmanager
def _translated() -> Iterator[None]:
    """Translate the exceptions of tritonclient."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        raise _error_for(str(error.status()).removeprefix("StatusCode."), str(error.message())) from error


def _error_for(status: str, message: str) -> Exception:
    """Return the error of `serve.errors` for a status and message of the server."""
    if status == "NOT_FOUND" and "shared memory region" in message:
        return RegionUnknown(message)
    if status == "DEADLINE_EXCEEDED" or (status == "UNAVAILABLE" and "timeout expired" in message):
        return DeadlineExceeded("the Triton server did not answer before the deadline")
    if status == "UNAVAILABLE" and "maximum queue size" in message:
        return Overloaded("the queue of the Triton server is full")
    if status == "NOT_FOUND":
        return EngineUnavailable("the Triton server has not loaded this version of the model")
    if status in ("UNAVAILABLE", "CANCELLED"):
        return EngineUnavailable("the Triton server does not answer")
    return EngineFailure(f"the Triton server failed: {message}")


def _rows(values: NDArray[Any] | None, name: str, num_rows: int) -> Float32Array:
    """Return an output as float32 after checking that it has `num_rows` rows."""
    if values is None or len(values) != num_rows:
        raise EngineFailure(
            f"the Triton server returned {0 if values is None else len(values)} rows of {name} for {num_rows} rows"
        )
    return np.asarray(values, np.float32)


def _library() -> Any:
    """Import tritonclient's asyncio client.

    Raises:
        MissingExtra: it is not installed.
    """
    require_extra("triton", needed_by="engine triton")
    from tritonclient.grpc import aio

    return aio
