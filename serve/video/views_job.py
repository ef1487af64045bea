"""The jobs of a decode child that decode a file into views."""

import os
from dataclasses import asdict
from typing import Any

from serve.video.child import Job
from serve.video.decode import load_views
from serve.video.view_request import ViewRequest
from serve.video.window_job import NICENESS


def decode_views(job: Job, *, request: ViewRequest) -> dict[str, Any]:
    """Decode a file into the shared memory of the job; return the fields of `DecodedViews` except the views.

    Raises:
        ActserveError: the file cannot be used.
        OSError: the file cannot be read.
    """
    decoded = load_views(job.file, request, settings=job.settings, out=job.shared_array(request.shape))
    return {
        "metadata": asdict(decoded.metadata),
        "frame_indices": decoded.frame_indices.tolist(),
        "pts_seconds": decoded.pts_seconds.tolist(),
        "decode_ms": decoded.decode_ms,
        "preprocess_ms": decoded.preprocess_ms,
    }


def decode_views_in_background(job: Job, *, request: ViewRequest) -> dict[str, Any]:
    """Run `decode_views` at low priority; the child keeps this priority.

    Raises:
        ActserveError, OSError: see `decode_views`.
    """
    os.nice(NICENESS)
    return decode_views(job, request=request)
