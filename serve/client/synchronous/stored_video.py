# Generated from serve/client/asynchronous by `python -m serve.client_source`; do not edit.
"""One stored video of the server."""

from typing import Any, Unpack

from serve.client.calls import Call, check_options, path_of
from serve.client.synchronous.transport import Transport
from serve.client.types import (
    GoogleAnnotateVideoResponse,
    ScoreOptions,
    SegmentOptions,
    StoredClassification,
    StoredVideoInfo,
    TimelineResponse,
)

PATH = "/v1/videos/{video_id}"


class StoredVideo:
    """A stored video; `id` is the `video_id` of the response to the request that stored it."""

    def __init__(self, transport: Transport, video_id: str) -> None:
        self.id = video_id
        self._transport = transport

    def get(self) -> StoredVideoInfo:
        """Return the description of the video; its features cannot be downloaded."""
        return self._transport.send_for(self._call("GET", PATH), StoredVideoInfo)

    def delete(self) -> None:
        """Delete the video with its features."""
        self._transport.send(self._call("DELETE", PATH))

    def classify(self, **options: Unpack[ScoreOptions]) -> StoredClassification:
        """Score the video with another vocabulary or other labels; nothing is decoded."""
        call = self._call("POST", PATH + ":classify", json=check_options(options, ScoreOptions))
        return self._transport.send_for(call, StoredClassification)

    def timeline(self, **options: Unpack[SegmentOptions]) -> TimelineResponse:
        """Find the segments of the video that show a label; nothing is decoded."""
        call = self._call("POST", PATH + ":timeline", json=check_options(options, SegmentOptions))
        return self._transport.send_for(call, TimelineResponse)

    def google_timeline(self, **options: Unpack[SegmentOptions]) -> GoogleAnnotateVideoResponse:
        """Return the timeline in the format of the Google Video Intelligence API."""
        document = {**check_options(options, SegmentOptions), "format": "google-video-intelligence"}
        return self._transport.send_for(
            self._call("POST", PATH + ":timeline", json=document), GoogleAnnotateVideoResponse
        )

    def _call(self, method: str, path: str, **others: Any) -> Call:
        return Call(method=method, path=path_of(path, video_id=self.id), **others)
