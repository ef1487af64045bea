"""What the server asks of a decode child. Runs inside the child."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from serve.video.child import Job
from serve.video.decode import load_views
from serve.video.views import ViewRequest


def views(job: Job, *, path: Path, request: ViewRequest) -> dict[str, Any]:
    """Decode a file into the memory that came along; return the fields of `DecodedViews` but the views.

    Raises:
        ActserveError: the file's fault.
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
