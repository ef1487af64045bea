"""gRPC client for a Triton server: inference, metadata, statistics and model control.

Exceptions are translated to those of `serve.errors`.

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
from serve.telemetry import spans

NUMPY_NAMES = {"UINT8": "uint8", "INT64": "int64", "FP32": "float32"}
TRITON_NAMES = {name: triton for triton, name in NUMPY_NAMES.items()}
CHANNEL_OPTIONS = [
    (
        "grpc.max_send_message_length",
        -1,
    ),  # only three views fit into gRPC's default of 4 MB; the server's limit is 2 GB
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also the timeout of one connection attempt
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),  # detects a lost host
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),  # one connection per engine
]
SharedMemoryLocation = tuple[str, int]  # name of a registered region, offset in bytes
CLIENT_GRACE_SECONDS = 120.0  # a call without a response is cancelled this long after its timeout
QUERY_TIMEOUT_SECONDS = 5.0  # timeout of calls that do not run a model
NO_MODEL_CONTROL = "explicit model load / unload is not allowed"  # message of servers without explicit model control


@dataclass(frozen=True, kw_only=True)
class ModelStatistics:
    """Statistics of a model version since it was loaded."""

    inferences: int
    executions: int
    successes: int
    failures: int
    success_ns: int
    queue_ns: int
    compute_ns: int

    def is_continuation_of(self, earlier: "ModelStatistics") -> bool:
        """Return whether no counter has decreased since `earlier`; a decrease shows that the version was reloaded."""
        return all(now >= before for now, before in zip(astuple(self), astuple(earlier), strict=True))


class UnknownRegion(Exception):
    """The shared memory region of a request is not registered with the server, e.g. because it was restarted."""


class TritonClient:
    """One connection to a Triton server.

    Most errors have a generic message for clients of the HTTP API; `server_message` returns the server's message for
    operators.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._library = _import_library()
        self._client = self._library.InferenceServerClient(url, channel_args=CHANNEL_OPTIONS)

    async def infer(
        self,
        model: str,
        version: int,
        rows: NDArray[Any],
        *,
        input_name: str,
        output_names: Sequence[str],
        timeout_seconds: float,
        location: SharedMemoryLocation | None = None,
    ) -> dict[str, Float32Array]:
        """Run a model on rows [n, ...] and return the outputs by name, each [n, ...].

        If `location` is given, the server reads the rows from shared memory; otherwise they are sent in the message.
        After `timeout_seconds` the server drops the request if it is still queued. If it is already running, the call
        waits for the result for at most `CLIENT_GRACE_SECONDS` more.

        Raises:
            UnknownRegion: the region is not registered with the server.
            Overloaded: the queue of the server is full.
        """
        tensor = self._library.InferInput(input_name, list(rows.shape), TRITON_NAMES[rows.dtype.name])
        if location is None:
            tensor.set_data_from_numpy(rows)
        else:
            region, offset = location
            tensor.set_shared_memory(region, rows.nbytes, offset)
        outputs = [self._library.InferRequestedOutput(name) for name in output_names]
        with _translate_errors():
            response = await self._client.infer(
                model,
                [tensor],
                model_version=str(version),
                outputs=outputs,
                timeout=int(timeout_seconds * 1e6),
                client_timeout=timeout_seconds + CLIENT_GRACE_SECONDS,
                headers=spans.propagation_headers(),
            )
        return {name: _check_output(response.as_numpy(name), name, len(rows)) for name in output_names}

    async def register(self, name: str, *, key: str, num_bytes: int) -> None:
        """Register a region of shared memory with the server.

        Raises:
            EngineFailure: the server cannot open it, e.g. because it runs on another host.
            EngineUnavailable, DeadlineExceeded: the server does not respond.
        """
        try:
            with _translate_errors():
                await self._client.register_system_shared_memory(
                    name, key, num_bytes, client_timeout=QUERY_TIMEOUT_SECONDS
                )
        except EngineFailure as error:
            if "ALREADY_EXISTS" not in grpc_status(error):  # names are random, so an existing region is this one
                raise

    async def unregister(self, name: str) -> None:
        """Unregister a region.

        Raises:
            ServiceError: the server does not respond.
        """
        with _translate_errors():
            await self._client.unregister_system_shared_memory(name, client_timeout=QUERY_TIMEOUT_SECONDS)

    async def server_version(self) -> str:
        """Return the version of the Triton server.

        Raises:
            ServiceError: the server does not respond.
        """
        with _translate_errors():
            metadata = await self._client.get_server_metadata(client_timeout=QUERY_TIMEOUT_SECONDS)
        return str(metadata.version)

    async def is_ready(self, model: str, version: int) -> bool:
        """Return whether the server has loaded a version.

        Raises:
            ServiceError: the server does not respond.
        """
        try:
            with _translate_errors():
                return bool(
                    await self._client.is_model_ready(model, str(version), client_timeout=QUERY_TIMEOUT_SECONDS)
                )
        except EngineUnavailable as error:
            if grpc_status(error) == "NOT_FOUND":
                return False
            raise

    async def signature(
        self, model: str, version: int
    ) -> tuple[dict[str, tuple[str, Shape]], dict[str, tuple[str, Shape]]]:
        """Return two dicts (inputs, outputs) that map tensor names to (NumPy dtype name, shape with the batch axis).

        Raises:
            ServiceError: the server does not respond, or it has not loaded this version.
        """
        with _translate_errors():
            metadata = await self._client.get_model_metadata(model, str(version), client_timeout=QUERY_TIMEOUT_SECONDS)
        inputs, outputs = (
            {
                item.name: (
                    NUMPY_NAMES.get(item.datatype, item.datatype),
                    tuple(None if size < 0 else size for size in item.shape),
                )
                for item in tensors
            }
            for tensors in (metadata.inputs, metadata.outputs)
        )
        return inputs, outputs

    async def configuration(self, model: str, version: int) -> dict[str, Any]:
        """Return the configuration of a loaded version, with protobuf field names.

        Raises:
            ServiceError: the server does not respond, or it has not loaded this version.
        """
        with _translate_errors():
            response = await self._client.get_model_config(
                model, str(version), as_json=True, client_timeout=QUERY_TIMEOUT_SECONDS
            )
        configuration: dict[str, Any] = response["config"]
        return configuration

    async def statistics(self, model: str, version: int) -> ModelStatistics:
        """Return the statistics of a version since it was loaded.

        Raises:
            ServiceError: the server does not respond, or it has no statistics for this version.
        """
        with _translate_errors():
            response = await self._client.get_inference_statistics(
                model, str(version), client_timeout=QUERY_TIMEOUT_SECONDS
            )
        for item in response.model_stats:
            if item.name == model and item.version == str(version):
                stats = item.inference_stats
                return ModelStatistics(
                    inferences=item.inference_count,
                    executions=item.execution_count,
                    successes=stats.success.count,
                    failures=stats.fail.count,
                    success_ns=stats.success.ns,
                    queue_ns=stats.queue.ns,
                    compute_ns=stats.compute_infer.ns,
                )
        raise EngineUnavailable("the Triton server has no statistics for this model version")

    async def states(self, model: str) -> dict[int, str]:
        """Return a dict from version to state, with the reason if there is one, from the server's repository index.

        Raises:
            ServiceError: the server does not respond.
        """
        with _translate_errors():
            index = await self._client.get_model_repository_index(client_timeout=QUERY_TIMEOUT_SECONDS)
        return {
            int(item.version): f"{item.state} {item.reason}".strip()
            for item in index.models
            if item.name == model and item.version
        }

    async def load(self, model: str, configuration: Mapping[str, Any], *, timeout_seconds: float) -> bool:
        """Load a model with a configuration; return False if the server does not allow model control.

        Raises:
            EngineFailure: the server cannot load it.
            EngineUnavailable, DeadlineExceeded: the server does not respond.
        """
        with _model_control() as control:
            await self._client.load_model(model, config=json.dumps(configuration), client_timeout=timeout_seconds)
        return control.is_allowed

    async def unload(self, model: str) -> bool:
        """Unload all versions of a model; return False if the server does not allow model control.

        Raises:
            ServiceError: the server does not respond.
        """
        with _model_control() as control:
            await self._client.unload_model(model, client_timeout=QUERY_TIMEOUT_SECONDS)
        return control.is_allowed

    async def close(self) -> None:
        """Close the connection; running calls fail."""
        await self._client.close()


def server_message(error: BaseException) -> str:
    """Return the message of the server or of gRPC that caused an error; it is meant for operators."""
    origin = _origin(error)
    return str(error if origin is None else origin.message())


def grpc_status(error: BaseException) -> str:
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
    """Whether the server allows requests to load or unload a model."""

    is_allowed: bool = True


@contextmanager
def _model_control() -> Iterator[_ModelControl]:
    """Record whether the server allows the request in the block; servers without explicit model control reject it."""
    control = _ModelControl()
    try:
        with _translate_errors():
            yield control
    except EngineUnavailable as error:
        if NO_MODEL_CONTROL not in server_message(error):
            raise
        control.is_allowed = False


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate the exceptions of tritonclient."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        raise _error_for(str(error.status()).removeprefix("StatusCode."), str(error.message())) from error


def _error_for(status: str, message: str) -> Exception:
    """Return the error of `serve.errors` for a status and message of the server."""
    if status == "NOT_FOUND" and "shared memory region" in message:
        return UnknownRegion(message)
    if status == "DEADLINE_EXCEEDED" or (status == "UNAVAILABLE" and "timeout expired" in message):
        return DeadlineExceeded("the Triton server did not respond before the deadline")
    if status == "UNAVAILABLE" and "maximum queue size" in message:
        return Overloaded("the queue of the Triton server is full")
    if status == "NOT_FOUND":
        return EngineUnavailable("the Triton server has not loaded this version of the model")
    if status in ("UNAVAILABLE", "CANCELLED"):
        return EngineUnavailable("the Triton server does not respond")
    return EngineFailure(f"the Triton server failed: {message}")


def _check_output(values: NDArray[Any] | None, name: str, num_rows: int) -> Float32Array:
    """Return an output as float32, after checking that it has `num_rows` rows."""
    if values is None or len(values) != num_rows:
        raise EngineFailure(
            f"the Triton server returned {0 if values is None else len(values)} rows of {name} for {num_rows} inputs"
        )
    return np.asarray(values, np.float32)


def _import_library() -> Any:
    """Import tritonclient's asyncio client.

    Raises:
        MissingExtra: tritonclient is not installed.
    """
    require_extra("triton", needed_by="the triton engine")
    from tritonclient.grpc import aio

    return aio
