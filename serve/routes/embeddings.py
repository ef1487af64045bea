"""`POST /v1/embeddings`: embeddings of texts (JSON body) or of a video (form or raw body)."""

from fastapi import APIRouter, Request

from serve.api.options import merge_options, validate_options
from serve.api.problems import problem_responses
from serve.embeddings import EmbeddingList, TextEmbeddingOptions, VideoEmbeddingOptions
from serve.query import accepts_query, read_query
from serve.routes.bodies import VIDEO_PROBLEMS, VIDEO_SCHEMA, form_body, json_body, media_type_of, read_json
from serve.routes.deadlines import request_deadline
from serve.routes.dependencies import ServiceDep
from serve.routes.slots import TEXTS_PER_VIEW, check_room, run_in_slot
from serve.uploads import receive_upload

router = APIRouter(prefix="/v1", tags=["embeddings"])
OPTION_FIELDS = ("options", *VideoEmbeddingOptions.model_fields)
_FORM = form_body("video", VIDEO_SCHEMA, options=VideoEmbeddingOptions, is_raw_allowed=True)
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
@accepts_query(*OPTION_FIELDS)
async def embeddings(request: Request, service: ServiceDep) -> EmbeddingList:
    """Encode the texts of a JSON body, or the video of a form or of a raw body."""
    embedder = service.embedder  # raises before the upload is read if the server is not ready
    limits = service.settings.limits
    check_room(request, service)
    async with request_deadline(request, limits.request_deadline_seconds) as deadline:
        if media_type_of(request) == "application/json":
            read_query(request, ())  # text options are in the body
            text_options = await read_json(request, TextEmbeddingOptions, limit=limits.max_field_bytes)
            return await run_in_slot(
                request,
                service,
                lambda: embedder.embed_texts(text_options),
                views=1 + len(text_options.texts) // TEXTS_PER_VIEW,
                deadline=deadline,
            )
        async with receive_upload(request, service.uploads, limits, fields=OPTION_FIELDS) as upload:
            options = validate_options(VideoEmbeddingOptions, merge_options(upload.fields, upload.query))
            return await run_in_slot(
                request,
                service,
                lambda: embedder.embed_video(upload.path, options, deadline=deadline),
                views=options.num_clips * options.num_crops,
                deadline=deadline,
            )
