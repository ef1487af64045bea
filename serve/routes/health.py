"""`/healthz`, `/readyz`, `/metrics`, `/v1/limits`: what operators and clients ask before they send work."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from serve import problems
from serve.service import Service
from serve.video.containers import CODECS, DEMUXERS

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process lives")
async def healthz() -> dict[str, str]:
    """Answers as long as the process does."""
    return {"status": "alive"}


@router.get(
    "/readyz", summary="Graphs are loaded, verified, warm, on the device that was asked for", response_model=None
)
async def readyz(request: Request) -> dict[str, Any] | JSONResponse:
    """200 once ready; 503 with how far the start has come before that."""
    service: Service = request.app.state.service
    readiness = service.readiness
    is_pool_alive = bool(service.pool.pids)
    faults = [runtime.engine.fault for runtime in service.registry.active() if runtime.engine.fault is not None]
    if readiness.is_ready and is_pool_alive and not faults:
        engines = {runtime.reference: runtime.engine.label for runtime in service.registry.active()}
        return {"status": "ready", "done": readiness.done, "engines": engines, "degraded": service.degraded}
    lost = faults[0] if faults else "the decode children are gone"
    detail = readiness.fault or (lost if readiness.is_ready else "the server is starting")
    return problems.problem_response(
        problems.request_id_of(request),
        status=503,
        slug="not-ready",
        title="Not ready",
        detail=detail,
        facts={"done": readiness.done},
    )


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    """Counters and histograms in Prometheus' text format."""
    service: Service = request.app.state.service
    service.refresh_gauges()
    body, content_type = service.metrics.render()
    return Response(body, media_type=content_type)


@router.get("/v1/limits", summary="What one request may ask for")
async def limits(request: Request) -> dict[str, Any]:
    """Limits of this server, so that a client can check before it sends."""
    service: Service = request.app.state.service
    return {
        **service.settings.limits.model_dump(mode="json"),
        "vocabularies": service.settings.vocabularies.model_dump(mode="json"),
        "feedback": service.settings.feedback.model_dump(mode="json", exclude={"dir"}),
        "decode": service.settings.decode.model_dump(mode="json"),
        "containers": DEMUXERS.split(","),
        "codecs": sorted(CODECS),
    }
