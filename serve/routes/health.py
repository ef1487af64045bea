"""`/healthz`, `/readyz`, `/metrics`, `/v1/limits`: status and limits of the server."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from serve.admission.bodies import bodies_of
from serve.api import problems
from serve.routes.dependencies import ServiceDep
from serve.settings import LimitSettings, ServeSettings, TimelineSettings, VideoStoreSettings, VocabularySettings
from serve.video.containers import CODECS, DEMUXERS
from serve.video.limits import DecodeSettings

router = APIRouter(tags=["health"])
NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"description": "The server is starting or cannot serve requests.", "content": problems.PROBLEM_CONTENT}
}


class Readiness(BaseModel):
    """Response of a server that is ready."""

    status: str
    done: list[str] = Field(description="Completed startup steps.")
    engines: dict[str, str] = Field(description="Engine of each active model version.")
    isolation: list[str] = Field(description="Layers that isolate the decode processes; see the page on security.")
    degraded: list[str] = Field(description="Reasons why components other than classification currently do not work.")


class FeedbackLimits(BaseModel):
    """Limits of `/v1/feedback`."""

    enabled: bool
    max_bytes: int
    max_clips: int


class JobLimits(BaseModel):
    """Limits of `/v1/jobs`."""

    max_inputs: int
    max_upload_bytes: int
    max_stored_bytes: int
    max_jobs: int
    deadline_seconds: float
    keep_seconds: float
    folders: bool = Field(description="Whether inputs may be in a folder of the server.")
    urls: bool = Field(description="Whether inputs may be at URLs.")
    webhooks: bool = Field(description="Whether jobs may have a webhook.")


class Limits(LimitSettings):
    """Limits of one request."""

    vocabularies: VocabularySettings
    feedback: FeedbackLimits
    timeline: TimelineSettings
    jobs: JobLimits
    videos: VideoStoreSettings
    decode: DecodeSettings
    containers: list[str]
    codecs: list[str]


@router.get("/healthz", summary="Liveness", responses=problems.problem_responses())
async def healthz() -> dict[str, str]:
    """Return 200 while the process is running."""
    return {"status": "alive"}


@router.get(
    "/readyz", summary="Readiness", response_model=None,
    responses={200: {"model": Readiness}, **problems.problem_responses(), **NOT_READY},
)  # fmt: skip
async def readyz(request: Request, service: ServiceDep) -> dict[str, Any] | JSONResponse:
    """Return 200 once the graphs are loaded, verified and warmed up on the requested device, and 503 before."""
    readiness, detail = service.readiness, service.not_ready_reason
    if detail is None:
        return {
            "status": "ready",
            "done": readiness.done,
            "engines": service.engines,
            "isolation": service.pool.isolation,
            "degraded": await service.find_degraded(),
        }
    return problems.problem_response(
        problems.request_id_of(request),
        status=503,
        slug="not-ready",
        title="Not ready",
        detail=detail,
        extensions={"done": readiness.done},
    )


@router.get(
    "/metrics", summary="Prometheus metrics", response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/openmetrics-text": {"schema": {"type": "string"}},
            }
        },
        **problems.problem_responses(),
    },
)  # fmt: skip
async def metrics(request: Request, service: ServiceDep) -> Response:
    """Return the metrics in the text format of Prometheus, or of OpenMetrics if the client accepts it."""
    service.metrics.set_counts(service.counts())
    bodies = bodies_of(request)
    service.metrics.uploads.set(bodies.num_uploads)
    service.metrics.body_memory.set(bodies.memory_bytes)
    accept = request.headers.get("accept", "")
    body, content_type = await asyncio.to_thread(service.metrics.render, accept)  # reads /proc
    return Response(body, headers={"content-type": content_type})


@router.get(
    "/v1/limits", summary="Limits of a request", response_model=None,
    responses={200: {"model": Limits}, **problems.problem_responses()},
)  # fmt: skip
async def limits(service: ServiceDep) -> dict[str, Any]:
    """Return the limits of this server, so that clients can check a request before they send it."""
    return {
        **service.settings.limits.model_dump(mode="json"),
        "vocabularies": service.settings.vocabularies.model_dump(mode="json"),
        "feedback": service.settings.feedback.model_dump(mode="json", exclude={"dir"}),
        "timeline": service.settings.timeline.model_dump(mode="json"),
        "jobs": _job_limits(service.settings),
        "videos": service.settings.videos.model_dump(mode="json"),
        "decode": service.settings.decode.model_dump(mode="json"),
        "containers": DEMUXERS.split(","),
        "codecs": sorted(CODECS),
    }


def _job_limits(settings: ServeSettings) -> dict[str, Any]:
    names = ("max_inputs", "max_upload_bytes", "max_stored_bytes", "max_jobs", "deadline_seconds", "keep_seconds")
    return {
        **{name: getattr(settings.jobs, name) for name in names},
        "folders": settings.jobs.folder_root is not None,
        "urls": settings.outgoing.input_urls,
        "webhooks": bool(settings.jobs.webhook_secret.get_secret_value()),
    }
