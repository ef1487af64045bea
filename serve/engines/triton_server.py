"""A Triton server over gRPC: its calls, their errors in our words, and what it says of its models.

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
    ("grpc.max_send_message_length", -1),  # gRPC's own 4 MB are three views; the server's limit is 2 GB
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # also how long one attempt may take
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),  # finds out that the host is gone
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),  # engines do not share a connection
]
Place = tuple[str, int]  # name of a registered region, offset in it
ABANDONED_SECONDS = 120.0  # after which a call nobody waits for is cancelled after all
PROBE_SECONDS = 5.0  # for questions the server answers without work
NO_CONTROL = "explicit model load / unload is not allowed"  # what servers in other modes answer


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a loaded version of a model has done since it was loaded."""

    inferences: int
    executions: int
    successes: int
    failures: int
    success_ns: int
    queue_ns: int
    compute_ns: int

    def continues(self, earlier: "Counters") -> bool:
        """Whether both can belong to one load of the version."""
        return all(now >= before for now, before in zip(astuple(self), astuple(earlier), strict=True))


class RegionUnknown(Exception):
    """The server does not know the shared memory of a request, as after its restart."""


class TritonServer:
    """One connection. Errors name the server's fault to operators (`reason_of`) and spare callers the details."""

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
        """Rows [n, ...] -> outputs by name, each [n, ...].

        The rows lie at `place`, or are sent along. After `seconds` the server drops a request that still waits in its
        queue; the call itself goes on until it does.

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
        """Have the server open a region of shared memory.

        Raises:
            EngineFailure: it cannot, as on another host.
            EngineUnavailable, DeadlineExceeded: it does not answer.
        """
        try:
            with _translated():
                await self._client.register_system_shared_memory(name, key, num_bytes, client_timeout=PROBE_SECONDS)
        except EngineFailure as error:
            if "ALREADY_EXISTS" not in status_of(error):  # ours: the name is random
                raise

    async def unregister(self, name: str) -> None:
        """Have the server forget a region.

        Raises:
            ServiceError: it does not answer.
        """
        with _translated():
            await self._client.unregister_system_shared_memory(name, client_timeout=PROBE_SECONDS)

    async def version(self) -> str:
        """Version of the server.

        Raises:
            ServiceError: it does not answer.
        """
        with _translated():
            found = await self._client.get_server_metadata(client_timeout=PROBE_SECONDS)
        return str(found.version)

    async def is_ready(self, model: str, version: int) -> bool:
        """Whether the server has loaded a version.

        Raises:
            ServiceError: it does not answer.
        """
        try:
            with _translated():
                return bool(await self._client.is_model_ready(model, str(version), client_timeout=PROBE_SECONDS))
        except EngineUnavailable as error:
            if status_of(error) == "NOT_FOUND":
                return False
            raise

    async def signature(
        self, model: str, version: int
    ) -> tuple[dict[str, tuple[str, Shape]], dict[str, tuple[str, Shape]]]:
        """(inputs, outputs) of a version: name -> numpy's type name and shape, batch axis included.

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
        """The configuration a version runs under, in the protobuf's own names.

        Raises:
            ServiceError: the server does not answer, or has no such version.
        """
        with _translated():
            found = await self._client.get_model_config(model, str(version), as_json=True, client_timeout=PROBE_SECONDS)
        configuration: dict[str, Any] = found["config"]
        return configuration

    async def counters(self, model: str, version: int) -> Counters:
        """What a version has done since it was loaded.

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
        """Version -> state, and its reason where there is one, as the server's index has it.

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
        """Have a model loaded under a configuration; False where the server takes no such orders.

        Raises:
            EngineFailure: the server cannot load it.
            EngineUnavailable, DeadlineExceeded: it does not answer.
        """
        with _ordering() as order:
            await self._client.load_model(model, config=json.dumps(configuration), client_timeout=seconds)
        return order.is_taken

    async def unload(self, model: str) -> bool:
        """Have every version of a model let go; False where the server takes no such orders.

        Raises:
            ServiceError: the server does not answer.
        """
        with _ordering() as order:
            await self._client.unload_model(model, client_timeout=PROBE_SECONDS)
        return order.is_taken

    async def close(self) -> None:
        """Close the connection; calls under way fail."""
        await self._client.close()


def reason_of(error: BaseException) -> str:
    """What the server or gRPC said, behind an error of ours; for operators."""
    origin = _origin(error)
    return str(error if origin is None else origin.message())


def status_of(error: BaseException) -> str:
    """gRPC's status behind an error of ours, e.g. "NOT_FOUND"; empty where it has none."""
    origin = _origin(error)
    return "" if origin is None else str(origin.status()).removeprefix("StatusCode.")


def _origin(error: BaseException | None) -> Any:
    """tritonclient's exception in a chain of causes, or None."""
    while error is not None and type(error).__name__ != "InferenceServerException":
        error = error.__cause__
    return error


@dataclass
class _Order:
    """Whether a server took an order."""

    is_taken: bool = True


@contextmanager
def _ordering() -> Iterator[_Order]:
    """An order to load or unload, which servers in other control modes refuse."""
    order = _Order()
    try:
        with _translated():
            yield order
    except EngineUnavailable as error:
        if NO_CONTROL not in reason_of(error):
            raise
        order.is_taken = False


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of tritonclient as ours."""
    from tritonclient.utils import InferenceServerException

    try:
        yield
    except InferenceServerException as error:
        raise _ours(str(error.status()).removeprefix("StatusCode."), str(error.message())) from error


def _ours(status: str, told: str) -> Exception:
    """Our error for a status and message of the server."""
    if status == "NOT_FOUND" and "shared memory region" in told:
        return RegionUnknown(told)
    if status == "DEADLINE_EXCEEDED" or (status == "UNAVAILABLE" and "timeout expired" in told):
        return DeadlineExceeded("the Triton server did not answer before the deadline")
    if status == "UNAVAILABLE" and "maximum queue size" in told:
        return Overloaded("the queue of the Triton server is full")
    if status == "NOT_FOUND":
        return EngineUnavailable("the Triton server has not loaded this version of the model")
    if status in ("UNAVAILABLE", "CANCELLED"):
        return EngineUnavailable("the Triton server does not answer")
    return EngineFailure(f"the Triton server failed: {told}")


def _rows(values: NDArray[Any] | None, name: str, num_rows: int) -> Float32Array:
    """An output of a request, one row for each of its rows."""
    if values is None or len(values) != num_rows:
        raise EngineFailure(f"the Triton server gave {0 if values is None else len(values)} rows of {name}")
    return np.asarray(values, np.float32)


def _library() -> Any:
    """tritonclient's asyncio client.

    Raises:
        MissingExtra: it is not installed.
    """
    require_extra("triton", needed_by="engine triton")
    from tritonclient.grpc import aio

    return aio
