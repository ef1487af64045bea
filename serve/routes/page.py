"""The web page at `/` and its static files, which need no build step."""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

WEB = Path(__file__).resolve().parent.parent / "web"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; media-src 'self' blob:; img-src 'self' blob: data:; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> FileResponse:
    """Return the web page."""
    return FileResponse(WEB / "index.html", headers=HEADERS)


class PageFiles(StaticFiles):
    """Static files with the security headers of the page; browsers must revalidate them."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the file response with the security headers."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


def mount_files(app: FastAPI) -> None:
    """Serve the static files of the page under `/web`."""
    app.mount("/web", PageFiles(directory=WEB), name="web")
