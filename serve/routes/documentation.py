"""The page `/docs` (Swagger UI), whose files are served by this server."""

import base64
import hashlib
import re

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

FILES = "/static-offline-docs"  # mounted by FastAPIOffline
INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def documentation(request: Request) -> HTMLResponse:
    """Return the page, with a content security policy that allows its inline script by hash."""
    root = str(request.scope.get("root_path", ""))
    page = get_swagger_ui_html(
        openapi_url=f"{root}{request.app.openapi_url}",
        title=f"{request.app.title} API",
        swagger_js_url=f"{root}{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{FILES}/swagger-ui.css",
        swagger_favicon_url=f"{root}{FILES}/favicon.png",
    )
    page.headers["Content-Security-Policy"] = _content_security_policy(bytes(page.body))
    return page


def _content_security_policy(body: bytes) -> str:
    hashes = (base64.b64encode(hashlib.sha256(script).digest()).decode() for script in INLINE_SCRIPT.findall(body))
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'self'; script-src 'self' {allowed}; img-src 'self' data:; frame-ancestors 'none'"
