"""Options of requests for stored videos."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from serve.api.options import ScoreOptions, Tag
from serve.videos.records import VideoFilter, timestamp


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is outside the years 1 to 9999") from error


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
MAX_TOP_K = 1000


class FilterOptions(BaseModel):
    """Options that select stored videos."""

    tag: Tag | None = Field(None, description="Only videos with this tag.")
    created_after: Moment | None = Field(None, description="Only videos stored at or after this time, RFC 3339.")
    created_before: Moment | None = Field(None, description="Only videos stored before this time, RFC 3339.")

    def to_filter(self, key_id: str | None) -> VideoFilter:
        """Return a filter for the video store; with `key_id`, only for videos of that API key."""
        return VideoFilter(
            key_id=key_id,
            tag=self.tag,
            created_after=_text(self.created_after),
            created_before=_text(self.created_before),
        )


class RescorePageOptions(ScoreOptions, FilterOptions):
    """Options for scoring all stored videos that match a filter, page by page."""

    page_size: int = Field(100, ge=1, le=1000, description="Number of videos per page.")
    page_token: str | None = Field(None, max_length=500, description="`next_page_token` of the previous page.")


class SearchOptions(FilterOptions):
    """Options of a search."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(10, ge=1, le=MAX_TOP_K, description="Number of windows to return, best first.")
    model: str | None = Field(
        None,
        description="Model (`name` or `name@version`) whose windows are searched; defaults to the server's default.",
    )


class ExampleSearchOptions(SearchOptions):
    """Options of a search for windows that are similar to a part of a stored video."""

    video_id: str = Field(max_length=200, description="Id of the stored video that is the example.")
    start_seconds: float | None = Field(
        None, ge=0, description="Start of the example; defaults to the start of the video."
    )
    end_seconds: float | None = Field(None, gt=0, description="End of the example; defaults to the end of the video.")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        start, end = self.start_seconds, self.end_seconds
        if start is not None and end is not None and end <= start:
            raise ValueError(f"`end_seconds` ({end:g}) must be greater than `start_seconds` ({start:g})")
        return self


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)
