"""`POST /v1/embeddings`: embeddings of texts (JSON) or of a video (form or raw body)."""

import asyncio

from fastapi import APIRouter, Request

from serve import errors
from serve.embeddings import EmbeddingList, TextEmbeddingOptions, VideoEmbeddingOptions
from serve.options import checked, gather
from serve.problems import problem_responses
from serve.query import query_options, reads_query
from serve.routes.admission import admitted
from serve.routes.bodies import BINARY, form_body, json_body, media_type_of, read_json
from serve.routes.dependencies import ServiceDep
from serve.routes.disconnection import unless_disconnected
from serve.uploads import received

router = APIRouter(prefix="/v1", tags=["embeddings"])
OPTION_FIELDS = ("options", *VideoEmbeddingOptions.model_fields)
VIDEO = {**BINARY, "description": "The video file."}
_FORM = form_body("video", VIDEO, options=VideoEmbeddingOptions, is_raw_allowed=True)
BODY = {
    **_FORM,
    "requestBody": {
        "required": True,
        "content": {
            **json_body(TextEmbeddingOptions)["requestBody"]["content"],
            **_FORM["requestBody"]["content"],
        },
    },
}
PROBLEMS = problem_responses(
    errors.UnknownModel,
    errors.UploadTooLarge,
    errors.UnsupportedMedia,
    errors.InvalidVocabulary,
    errors.VideoError,
    errors.Overloaded,
    errors.EngineUnavailable,
    errors.DeadlineExceeded,
    errors.EngineFailure,
)


@router.post("/embeddings", responses=PROBLEMS, openapi_extra=BODY, summary="Embeddings of texts or of a video")
@reads_query(*OPTION_FIELDS)
async def embeddings(request: Request, service: ServiceDep) -> EmbeddingList:
    """Encode the texts of a JSON body, or the video of a form or of a raw body."""
    embedder = service.embedder  # raises before the upload is read if the server is not ready
    limits = service.settings.limits
    async with admitted(service):
        deadline = asyncio.get_running_loop().time() + limits.request_deadline_seconds
        try:
            async with asyncio.timeout_at(deadline):
                if media_type_of(request) == "application/json":
                    query_options(request, ())  # options of texts are in the body
                    wanted = await read_json(request, TextEmbeddingOptions, limit=limits.max_field_bytes)
                    return await embedder.texts(wanted)
                async with received(request, service.uploads, limits, fields=OPTION_FIELDS) as upload:
                    options = checked(VideoEmbeddingOptions, gather(upload.fields, upload.query))
                    work = embedder.video(upload.path, options, deadline=deadline)
                    return await unless_disconnected(request, work)
        except TimeoutError as error:
            raise errors.DeadlineExceeded(f"no answer within {limits.request_deadline_seconds} s") from error
