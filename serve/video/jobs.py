"""Jobs of the server that run inside a decode child."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from serve.video.child import Job
from serve.video.decode import load_views
from serve.video.view_request import ViewRequest


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
