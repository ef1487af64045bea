"""Jobs of the server that decode the views of a file inside a decode child."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serve.video.child import Job
from serve.video.decode import load_views
from serve.video.view_request import ViewRequest
from serve.video.window_job import NICENESS


def views(job: Job, *, path: Path, request: ViewRequest) -> dict[str, Any]:
    """Decode a file into the shared memory of the job; return the fields of `DecodedViews` except the views.

    Raises:
        ActserveError: the file cannot be used.
        OSError: the file cannot be opened.
    """
    decoded = load_views(path, request, settings=job.settings, out=job.shared_array(request.shape))
    return {
        "metadata": asdict(decoded.metadata),
        "frame_indices": decoded.frame_indices.tolist(),
        "pts_seconds": decoded.pts_seconds.tolist(),
        "decode_ms": decoded.decode_ms,
        "preprocess_ms": decoded.preprocess_ms,
    }


def background_views(job: Job, *, path: Path, request: ViewRequest) -> dict[str, Any]:
    """Do the same at low priority, which the child keeps.

    Raises:
        ActserveError, OSError: see `views`.
    """
    os.nice(NICENESS)
    return views(job, path=path, request=request)
