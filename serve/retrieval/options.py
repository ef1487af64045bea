"""Options of requests about stored videos."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from serve.api.options import ScoreOptions, Tag
from serve.videos.store import VideoFilter, timestamp


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is outside the years 1 to 9999") from error


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
MAX_TOP_K = 1000


class FilterOptions(BaseModel):
    """Options that select stored videos."""

    tag: Tag | None = Field(None, description="Videos with this tag.")
    created_after: Moment | None = Field(None, description="Videos stored at this time or later, RFC 3339.")
    created_before: Moment | None = Field(None, description="Videos stored before this time, RFC 3339.")

    def chosen(self, key_id: str | None) -> VideoFilter:
        """Return the filter for the store; with `key_id` for the videos of that API key."""
        return VideoFilter(
            key_id=key_id,
            tag=self.tag,
            created_after=_text(self.created_after),
            created_before=_text(self.created_before),
        )


class RescorePageOptions(ScoreOptions, FilterOptions):
    """Options of scoring all stored videos that a filter selects, a page at a time."""

    page_size: int = Field(100, ge=1, le=1000, description="Number of videos of a page.")
    page_token: str | None = Field(None, max_length=500, description="`next_page_token` of the previous page.")


class SearchOptions(FilterOptions):
    """Options of a search."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    top_k: int = Field(10, ge=1, le=MAX_TOP_K, description="Number of windows to return, best first.")
    model: str | None = Field(
        None,
        description="A model, `name` or `name@version`, whose windows are searched; by default that of the server.",
    )


class ExampleSearchOptions(SearchOptions):
    """Options of a search by a part of a stored video."""

    video_id: str = Field(max_length=200, description="The stored video that shows what is searched.")
    start_seconds: float | None = Field(None, ge=0, description="Start of the part; by default that of the video.")
    end_seconds: float | None = Field(None, gt=0, description="End of the part; by default that of the video.")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        start, end = self.start_seconds, self.end_seconds
        if start is not None and end is not None and end <= start:
            raise ValueError(f"`end_seconds` is {end:g}, which is not after `start_seconds`, {start:g}")
        return self


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)
