"""`POST /v1/embeddings`: embeddings of texts (JSON) or of a video (form or raw body)."""

from fastapi import APIRouter, Request

from serve.api.options import checked, gather
from serve.api.problems import problem_responses
from serve.embeddings import EmbeddingList, TextEmbeddingOptions, VideoEmbeddingOptions
from serve.query import query_options, reads_query
from serve.routes.bodies import VIDEO, VIDEO_PROBLEMS, form_body, json_body, media_type_of, read_json
from serve.routes.deadlines import answer_within
from serve.routes.dependencies import ServiceDep
from serve.routes.disconnection import unless_disconnected
from serve.uploads import received

router = APIRouter(prefix="/v1", tags=["embeddings"])
OPTION_FIELDS = ("options", *VideoEmbeddingOptions.model_fields)
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
PROBLEMS = problem_responses(*VIDEO_PROBLEMS)


@router.post("/embeddings", responses=PROBLEMS, openapi_extra=BODY, summary="Embeddings of texts or of a video")
@reads_query(*OPTION_FIELDS)
async def embeddings(request: Request, service: ServiceDep) -> EmbeddingList:
    """Encode the texts of a JSON body, or the video of a form or of a raw body."""
    embedder = service.embedder  # raises before the upload is read if the server is not ready
    limits = service.settings.limits
    with service.in_flight.admitted():
        async with answer_within(limits.request_deadline_seconds) as deadline:
            if media_type_of(request) == "application/json":
                query_options(request, ())  # options of texts are in the body
                wanted = await read_json(request, TextEmbeddingOptions, limit=limits.max_field_bytes)
                return await embedder.texts(wanted)
            async with received(request, service.uploads, limits, fields=OPTION_FIELDS) as upload:
                options = checked(VideoEmbeddingOptions, gather(upload.fields, upload.query))
                work = embedder.video(upload.path, options, deadline=deadline)
                return await unless_disconnected(request, work)
