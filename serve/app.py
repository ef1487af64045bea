"""The FastAPI application: `create_app(settings)` assembles routes, error handlers and the service."""

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from serve import scopes
from serve.access.rules import BrowserRules
from serve.admission.bodies import BodyAdmission
from serve.api import openapi, problems
from serve.api.browsers import BrowserGuard, cors_options
from serve.api.inference_errors import InferenceErrorMiddleware
from serve.api.middleware import RequestContextMiddleware
from serve.api.timeouts import check_timeout
from serve.errors import ActserveError
from serve.extras import require_extra
from serve.query import check_request_line
from serve.routes import (
    calibrate,
    classify,
    documentation,
    embeddings,
    examples,
    feedback,
    health,
    inference_protocol,
    jobs,
    models,
    page,
    search,
    timeline,
    videos,
    vocabularies,
)
from serve.routes.authorization import authorize
from serve.service import Service
from serve.settings import ServeSettings, TelemetrySettings
from serve.telemetry.spans import NO_TRACER, Tracer
from serve.version import VERSION
from serve.watchdog import LoopWatchdog

logger = logging.getLogger(__name__)

ROUTERS = (
    classify, timeline, embeddings, jobs, videos, search, vocabularies, examples, calibrate, models, feedback,
    inference_protocol, health, documentation, page,
)  # fmt: skip

DESCRIPTION = """
Zero-shot video action recognition: POST a video, get the top-k actions of a vocabulary you choose.

Errors are RFC 9457 problems (`application/problem+json`); those of `/v2` have the shape of the Open
Inference Protocol. Every response carries `X-Request-Id`.
"""


def create_app(
    settings: ServeSettings,
    *,
    on_ready: Callable[[], None] | None = None,
    on_startup_error: Callable[[BaseException], None] | None = None,
) -> FastAPI:
    """Create the application. Its lifespan starts the service in the background.

    During startup `/healthz` and `/readyz` already respond. `on_ready` is called once the service is ready;
    `on_startup_error` is called with the exception if startup fails.
    """
    app = FastAPIOffline(  # its /docs page loads nothing from other hosts
        title="actserve",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,  # `routes.documentation` serves it
        redoc_url=None,
        dependencies=[Depends(authorize), Depends(check_request_line), Depends(check_timeout)],
    )
    app.state.settings = settings
    app.state.tracer = make_tracer(settings.telemetry)
    app.state.bodies = BodyAdmission(settings.bodies)
    app.state.on_ready = on_ready
    app.state.on_startup_error = on_startup_error
    problems.install(app)
    origins = settings.http.origins
    if origins:
        app.add_middleware(CORSMiddleware, **cors_options(origins))
    app.add_middleware(
        BrowserGuard,
        rules=BrowserRules.of(listen_on=settings.host, hosts=settings.http.hosts, origins=origins),
    )
    app.add_middleware(RequestContextMiddleware, tracer=app.state.tracer)
    app.add_middleware(InferenceErrorMiddleware)  # added last, so it is the outermost
    for module in ROUTERS:
        app.include_router(module.router)
    page.mount_files(app)
    check_scopes()
    openapi.install(app)
    return app


def make_tracer(settings: TelemetrySettings) -> Tracer:
    """Return the tracer of the settings.

    Raises:
        MissingExtra: traces are on and the extra `telemetry` is not installed.
    """
    if not settings.traces_endpoint:
        return NO_TRACER
    require_extra("telemetry", needed_by="SERVE_TELEMETRY__TRACES_ENDPOINT")
    from serve.telemetry.otel import OtelTracer

    return OtelTracer(
        settings.traces_endpoint,
        sample_ratio=settings.sample_ratio,
        service_name=settings.service_name,
        instance=f"{socket.gethostname()}-{os.getpid()}",
    )


def check_scopes() -> None:
    """Check that `ROUTE_SCOPES` lists exactly the routes of the application.

    Raises:
        RuntimeError: it does not; the message lists the differences.
    """
    routes = (route for module in ROUTERS for route in module.router.routes if isinstance(route, APIRoute))
    declared = {(method, route.path) for route in routes for method in route.methods or ()}
    if unmatched := declared ^ scopes.ROUTE_SCOPES.keys():
        raise RuntimeError(f"serve.scopes.ROUTE_SCOPES and the routes differ: {sorted(unmatched)}")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service = app.state.service = Service(app.state.settings, runs_jobs=True)
    starting = asyncio.create_task(_start(app, service), name="startup")
    watchdog = LoopWatchdog(service.metrics.loop_stalls)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.stop()
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await service.close()
        await asyncio.to_thread(app.state.tracer.close)


async def _start(app: FastAPI, service: Service) -> None:
    try:
        await service.start()
    except Exception as error:  # `on_startup_error` decides whether the process exits
        if app.state.on_startup_error is not None:
            app.state.on_startup_error(error)
        else:
            logger.error("startup failed: %s", error)
        if not isinstance(error, ActserveError):
            logger.error("startup failed with an unexpected exception", exc_info=error)
        return
    if app.state.on_ready is not None:
        app.state.on_ready()
