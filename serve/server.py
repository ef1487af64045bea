"""Run the application with uvicorn; implements `actserve serve`."""

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import sys
from types import FrameType
from typing import Any

import uvicorn
from starlette.datastructures import State

from serve import variables
from serve.app import create_app
from serve.connections import LINGER_SECONDS, bounded_protocol
from serve.data_folder import register_start
from serve.environment import load_settings
from serve.errors import ActserveError, ConfigurationError
from serve.exit_status import INPUT_ERROR, exit_status_of
from serve.extras import MissingExtra
from serve.http_settings import HttpSettings
from serve.settings import ServeSettings
from serve.store.database import parse_url
from serve.telemetry.logs import configure_logging

logger = logging.getLogger(__name__)

DRAIN_POLL_SECONDS = 0.05
CANCEL_SECONDS = 5.0  # for the cancelled requests to send their responses


def run(overrides: dict[str, Any]) -> int:
    """Serve until a signal stops the process; return the exit status. `overrides` take precedence over variables."""
    try:
        settings = load_settings(overrides)
    except ActserveError as error:
        for line in error.message.splitlines():
            print(f"actserve: {line}", file=sys.stderr)
        return INPUT_ERROR
    try:
        settings.require_extras()
    except MissingExtra as error:
        print(f"actserve: {error}", file=sys.stderr)
        return exit_status_of(error)
    configure_logging(settings.log_level, settings.log_format)
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        print(f"actserve: cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return INPUT_ERROR
    try:
        data = register_data_folder(settings)
    except OSError as error:
        print(
            f"actserve: cannot write to the data folder {settings.data_dir}: {error.strerror}; "
            "set SERVE_DATA_DIR to use another folder",
            file=sys.stderr,
        )
        return INPUT_ERROR
    except ConfigurationError as error:
        print(f"actserve: {error}", file=sys.stderr)
        return exit_status_of(error)
    url = local_url(settings.host, listener.getsockname()[1])
    startup_errors: list[BaseException] = []

    def on_startup_error(error: BaseException) -> None:
        startup_errors.append(error)
        server.should_exit = True

    def on_ready() -> None:
        gc.freeze()
        gc.enable()
        _print_greeting(url, data)

    app = create_app(settings, on_ready=on_ready, on_startup_error=on_startup_error)
    config = uvicorn.Config(
        app,
        log_config=None,  # its loggers use the handler of `configure_logging`
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_keep_alive=settings.http.keep_alive_seconds,  # type: ignore[arg-type]  # passed to `call_later`
        timeout_graceful_shutdown=math.ceil(LINGER_SECONDS) + 1,  # `Server` ends the requests before
        http=bounded_protocol(settings.http),
        ws="none",
        h11_max_incomplete_event_size=settings.http.max_header_bytes,
        root_path=settings.http.root_path,
        forwarded_allow_ips=settings.http.trusted_proxies,
    )
    server = Server(config, settings.http)
    server.run(sockets=[listener])
    if startup_errors:
        print(f"actserve: startup failed: {startup_errors[0]}", file=sys.stderr)
        return exit_status_of(startup_errors[0])
    return 0


class Server(uvicorn.Server):
    """A uvicorn server that drains when it is asked to stop.

    Readiness is off first, and requests are still served, until a load balancer has noticed. Then new requests get 503,
    and finally the port is closed. Requests in progress finish, and those that do not in time get 503 as well.
    """

    def __init__(self, config: uvicorn.Config, settings: HttpSettings) -> None:
        super().__init__(config)
        self._settings = settings
        self._is_graceful = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a stop signal; SIGTERM is the regular way to stop, after which the exit status is 0."""
        service = getattr(self._state, "service", None)
        if service is not None:
            service.is_stopping = True
        self._is_graceful = sig == signal.SIGTERM
        if not (self._is_graceful and self._settings.unready_seconds):
            self._state.bodies.is_stopping = True
        super().handle_exit(sig, frame)
        if self._is_graceful:
            self._captured_signals.remove(sig)  # uvicorn would raise it again at the end

    @property
    def _state(self) -> State:
        """The state of the application."""
        return self.config.app.state  # type: ignore[union-attr,no-any-return]  # the FastAPI application

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close the listener and the application."""
        await self._drain()
        await super().shutdown(sockets)

    async def _drain(self) -> None:
        requests, settings = self.server_state.tasks, self._settings
        clock = asyncio.get_running_loop().time
        start = clock()
        if self._is_graceful and settings.unready_seconds:
            logger.info("stopping: not ready; requests are served for %g s more", settings.unready_seconds)
            await self._wait_until(start + settings.unready_seconds)
        self._state.bodies.is_stopping = True
        logger.info("stopping: %d requests are in progress, new ones get 503", len(requests))
        if self._is_graceful:
            await self._wait_until(clock() + settings.drain_seconds)
        for server in self.servers:
            server.close()  # new connections are refused
        await self._wait_until(start + settings.unready_seconds + settings.shutdown_seconds, even_if_idle=False)
        unfinished = list(requests)
        for task in unfinished:
            task.cancel()
        if unfinished:
            await asyncio.wait(unfinished, timeout=CANCEL_SECONDS)
        logger.info("drained in %.1f s; %d requests were ended with 503", clock() - start, len(unfinished))

    async def _wait_until(self, end: float, *, even_if_idle: bool = True) -> None:
        """Wait until a time of the event loop, or until no request is in progress, unless the exit is forced."""
        clock = asyncio.get_running_loop().time
        while not self.force_exit and clock() < end and (even_if_idle or self.server_state.tasks):  # noqa: ASYNC110
            await asyncio.sleep(DRAIN_POLL_SECONDS)


def _listen(host: str, port: int) -> socket.socket:
    """Bind the socket before the server starts, to report a port in use and to know the port chosen for port 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.set_inheritable(False)
    return listener


def local_url(host: str, port: int) -> str:
    """Return the URL at which a server that listens on `host` is reachable from this machine."""
    local_host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{local_host}]:{port}" if ":" in local_host else f"http://{local_host}:{port}"


def register_data_folder(settings: ServeSettings) -> str:
    """Record this start in the data folder; return a description of the folder and of its other users.

    With a database URL, nothing is recorded and the URL is returned without its password.

    Raises:
        OSError: the data folder cannot be written.
        ConfigurationError: the database URL cannot be used.
    """
    url = settings.store_url.get_secret_value()
    if url:
        return parse_url(url).render_as_string(hide_password=True)
    folder = settings.data_dir.expanduser().resolve()
    usage = register_start(folder)
    return f"{folder} ({usage})" if usage else str(folder)


def _print_greeting(url: str, data: str) -> None:
    """Print the URL of the web page, an example request, the data folder and the variable for other commands."""
    print(
        f"\nactserve is ready.\n  page     {url}/\n  API      {url}/docs\n"
        f"  request  curl -F video=@clip.mp4 -F top_k=3 {url}/v1/classify  # use a video of your own\n"
        f"  data     {data}\n"
        f"  in other terminals: export {variables.SERVER}={url}\n",
        flush=True,
    )
