"""One stored video of the server."""

from typing import Any, Unpack

from serve.client.asynchronous.transport import AsyncTransport
from serve.client.calls import Call, check_options, path_of
from serve.client.types import (
    GoogleAnnotateVideoResponse,
    ScoreOptions,
    SegmentOptions,
    StoredClassification,
    StoredVideoInfo,
    TimelineResponse,
)

PATH = "/v1/videos/{video_id}"


class AsyncStoredVideo:
    """A stored video; `id` is the `video_id` of the response to the request that stored it."""

    def __init__(self, transport: AsyncTransport, video_id: str) -> None:
        self.id = video_id
        self._transport = transport

    async def get(self) -> StoredVideoInfo:
        """Return the description of the video; its features cannot be downloaded."""
        return await self._transport.send_for(self._call("GET", PATH), StoredVideoInfo)

    async def delete(self) -> None:
        """Delete the video with its features."""
        await self._transport.send(self._call("DELETE", PATH))

    async def classify(self, **options: Unpack[ScoreOptions]) -> StoredClassification:
        """Score the video with another vocabulary or other labels; nothing is decoded."""
        call = self._call("POST", PATH + ":classify", json=check_options(options, ScoreOptions))
        return await self._transport.send_for(call, StoredClassification)

    async def timeline(self, **options: Unpack[SegmentOptions]) -> TimelineResponse:
        """Find the segments of the video that show a label; nothing is decoded."""
        call = self._call("POST", PATH + ":timeline", json=check_options(options, SegmentOptions))
        return await self._transport.send_for(call, TimelineResponse)

    async def google_timeline(self, **options: Unpack[SegmentOptions]) -> GoogleAnnotateVideoResponse:
        """Return the timeline in the format of the Google Video Intelligence API."""
        document = {**check_options(options, SegmentOptions), "format": "google-video-intelligence"}
        return await self._transport.send_for(
            self._call("POST", PATH + ":timeline", json=document), GoogleAnnotateVideoResponse
        )

    def _call(self, method: str, path: str, **others: Any) -> Call:
        return Call(method=method, path=path_of(path, video_id=self.id), **others)
