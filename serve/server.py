"""Run the application under uvicorn: the work of `actserve serve`."""

import gc
import logging
import os
import socket
import sys
from types import FrameType
from typing import Any

import sqlalchemy as sa
import uvicorn

from serve import variables
from serve.app import create_app
from serve.connections import bounded_protocol
from serve.data_folder import register_start
from serve.environment import load_settings
from serve.errors import ActserveError
from serve.exit_status import UNUSABLE, status_of
from serve.extras import MissingExtra
from serve.settings import ServeSettings


def run(given: dict[str, Any]) -> int:
    """Serve until a signal stops the process; return the exit status. `given` overrides the environment."""
    try:
        settings = load_settings(given)
    except ActserveError as error:
        for line in error.message.splitlines():
            print(f"actserve: {line}", file=sys.stderr)
        return UNUSABLE
    try:
        settings.require_extras()
    except MissingExtra as error:
        print(f"actserve: {error}", file=sys.stderr)
        return status_of(error)
    set_up_logging(settings.log_level)
    try:
        listener = _listen(settings.host, settings.port)
    except OSError as error:
        print(f"actserve: cannot listen on {settings.host}:{settings.port}: {error.strerror}", file=sys.stderr)
        return UNUSABLE
    try:
        data = data_in_use(settings)
    except OSError as error:
        print(
            f"actserve: the data folder {settings.data_dir} cannot be written: {error.strerror}; "
            "SERVE_DATA_DIR names another",
            file=sys.stderr,
        )
        return UNUSABLE
    address = address_of(settings.host, listener.getsockname()[1])
    faults: list[BaseException] = []

    def on_fault(error: BaseException) -> None:
        faults.append(error)
        server.should_exit = True

    def on_ready() -> None:
        gc.freeze()
        gc.enable()
        _greet(address, data)

    app = create_app(settings, on_ready=on_ready, on_fault=on_fault)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=30,
        http=bounded_protocol(settings.http),
        ws="none",
        h11_max_incomplete_event_size=settings.http.max_header_bytes,
        root_path=settings.http.root_path,
        forwarded_allow_ips=settings.http.trusted_proxies,
    )
    server = Server(config)
    server.run(sockets=[listener])
    if faults:
        print(f"actserve: cannot serve: {faults[0]}", file=sys.stderr)
        return status_of(faults[0])
    return 0


class Server(uvicorn.Server):
    """A server that ends answers without an end of their own, such as streams of events, when it is asked to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: called by the handlers of signals."""
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]  # the app of `run`
        if service is not None:
            service.is_stopping = True
        super().handle_exit(sig, frame)


def set_up_logging(level: str) -> None:
    """Log to standard error: modules of actserve at the level of the settings, libraries from warnings on."""
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("serve").setLevel(level.upper())


def _listen(host: str, port: int) -> socket.socket:
    """Open a listening socket, so that a used port fails immediately and the number of port 0 is known."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.set_inheritable(False)
    return listener


def address_of(host: str, port: int) -> str:
    """Return the URL by which this machine reaches a server that listens on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def data_in_use(settings: ServeSettings) -> str:
    """Return the data folder and which other installations have used it; register this start there.

    Raises:
        OSError: the data folder cannot be written.
    """
    url = settings.store_url.get_secret_value()
    if url:
        return sa.make_url(url).render_as_string(hide_password=True)
    folder = settings.data_dir.expanduser().resolve()
    usage = register_start(folder)
    return f"{folder} ({usage})" if usage else str(folder)


def _greet(address: str, data: str) -> None:
    """Print the address of the page, a working request, the data folder and the setting for other commands."""
    print(
        f"\nactserve is ready.\n  page     {address}/\n  API      {address}/docs\n"
        f"  request  curl -F video=@clip.mp4 -F top_k=3 {address}/v1/classify  # clip.mp4: a video of yours\n"
        f"  data     {data}\n"
        f"  commands export {variables.SERVER}={address}\n",
        flush=True,
    )
