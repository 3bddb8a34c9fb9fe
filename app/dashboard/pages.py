"""The pages: signing in and out, what there is, and the description of the API.

Pages know sessions only. What a session may do is asked of its token for every page, see `app.gate`.
"""

import base64
import re
from hashlib import sha256
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from app.access import ANYONE, in_order
from app.api.dependencies import FindingDep, Reader
from app.auth import Sessions
from app.auth.sessions import LASTS
from app.errors import Unauthorized
from app.gate import COOKIE

HERE = Path(__file__).parent
FORM_BYTES = 4096
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
_templates = Jinja2Templates(HERE / "templates")
router = APIRouter(include_in_schema=False, max_body_size=FORM_BYTES)


def install(app: FastAPI) -> None:
    """Add the pages and what they are drawn with."""
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")


def _sessions(request: Request) -> Sessions:
    found: Sessions = request.state.sessions
    return found


SessionsDep = Annotated[Sessions, Depends(_sessions)]


@router.get("/")
def home(request: Request, finding: FindingDep, may: Reader) -> Response:
    """The directories that the token reaches."""
    summaries, following = finding.directories(may.prefix, after="", limit=100)
    return _page(
        request,
        "home.html",
        may=may,
        scopes=in_order(may.scopes),
        is_signed_in=may.token_id != ANYONE,
        summaries=summaries,
        is_more=following is not None,
    )


@router.get("/sign-in")
def show_sign_in(request: Request) -> Response:
    """Where a token is asked for."""
    return _page(request, "sign_in.html", to=_own_page(request.query_params.get("to", "/")))


@router.post("/sign-in")
async def sign_in(request: Request, sessions: SessionsDep) -> Response:
    """Open a session with a token."""
    form = parse_qs((await request.body()).decode("ascii", "replace"))
    to = _own_page(form.get("to", ["/"])[0])
    try:
        secret, _ = await run_in_threadpool(sessions.begin, form.get("token", [""])[0])
    except Unauthorized as error:
        return _page(request, "sign_in.html", status=401, to=to, fault=error.detail)
    answer = RedirectResponse(to, status_code=303)
    answer.set_cookie(
        COOKIE,
        secret,
        max_age=int(LASTS.total_seconds()),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/sign-out")
def sign_out(request: Request, sessions: SessionsDep) -> Response:
    """End the session."""
    if secret := request.cookies.get(COOKIE):
        sessions.end(secret)
    answer = RedirectResponse("/sign-in", status_code=303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


@router.get("/docs")
def show_documentation(request: Request) -> Response:
    """The description of the API, to be tried out. Its one script is allowed by its hash."""
    root, files = request.scope.get("root_path", ""), "/static-offline-docs"
    page = get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title="Holdfast",
        swagger_js_url=f"{root}{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{files}/swagger-ui.css",
        swagger_favicon_url=f"{root}{files}/favicon.png",
    )
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in re.findall(rb"<script>(.*?)</script>", page.body, re.S))
    policy = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
    page.headers["Content-Security-Policy"] = f"{policy}; script-src 'self' {hashes}; connect-src 'self'"
    return page


def _page(request: Request, name: str, *, status: int = 200, **said: object) -> HTMLResponse:
    page = _templates.TemplateResponse(request, name, said, status_code=status)
    page.headers["Content-Security-Policy"] = POLICY
    page.headers["Referrer-Policy"] = (
        "same-origin"  # with none, browsers say of our own forms that they come from nowhere
    )
    return page


def _own_page(address: str) -> str:
    """Where to go on: a page of ours, and nothing that a browser could take for an address elsewhere."""
    return address if re.fullmatch(r"/[A-Za-z0-9_.~@=+-][A-Za-z0-9_.~@=+/-]*", address) else "/"


def _hash(script: bytes) -> str:
    return base64.b64encode(sha256(script).digest()).decode()
