"""The API reference: Swagger UI, served from this server without external requests."""

import base64
import re
from hashlib import sha256

from fastapi import APIRouter, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from app.dashboard.render.page import POLICY

router = APIRouter()


@router.get("/docs")
def show_documentation(request: Request) -> Response:
    """Show the API reference. Its inline script is allowed by its hash."""
    root, files = request.scope.get("root_path", ""), "/static-offline-docs"
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="API · Holdfast",
        swagger_js_url=f"{root}{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{files}/swagger-ui.css",
        swagger_favicon_url=f"{root}{files}/favicon.png",
    )
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in re.findall(rb"<script>(.*?)</script>", page.body, re.S))
    policy = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    page.headers["Content-Security-Policy"] = policy.replace("script-src 'self'", f"script-src 'self' {hashes}")
    return page


def _hash(script: bytes) -> str:
    return base64.b64encode(sha256(script).digest()).decode()
