"""Run the application with uvicorn; implements `actserve serve`."""

import gc
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
from serve.exit_status import INPUT_ERROR, exit_status_of
from serve.extras import MissingExtra
from serve.settings import ServeSettings
from serve.telemetry.logs import configure_logging


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
        timeout_graceful_shutdown=30,
        http=bounded_protocol(settings.http),
        ws="none",
        h11_max_incomplete_event_size=settings.http.max_header_bytes,
        root_path=settings.http.root_path,
        forwarded_allow_ips=settings.http.trusted_proxies,
    )
    server = Server(config)
    server.run(sockets=[listener])
    if startup_errors:
        print(f"actserve: startup failed: {startup_errors[0]}", file=sys.stderr)
        return exit_status_of(startup_errors[0])
    return 0


class Server(uvicorn.Server):
    """A uvicorn server that ends open-ended responses, such as event streams, when it is asked to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handle a stop signal."""
        service = getattr(self.config.app.state, "service", None)  # type: ignore[union-attr]  # the FastAPI app
        if service is not None:
            service.is_stopping = True
        super().handle_exit(sig, frame)


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
    """
    url = settings.store_url.get_secret_value()
    if url:
        return sa.make_url(url).render_as_string(hide_password=True)
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
