"""Pages as responses: templates, the content security policy, forms, redirects and error pages."""

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from jinja2 import Environment, FileSystemLoader
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.templating import Jinja2Templates

from app.core.access import ANYONE, Access, in_order
from app.core.errors import InvalidRequest, Refusal, Unauthorized
from app.dashboard.render import formatting, sparkline, urls, vendored
from app.http.body import validation_errors

HERE = Path(__file__).parents[1]
FORM_BYTES = 64 * 1024
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_environment.filters.update(formatting.FILTERS | urls.FILTERS | sparkline.FILTERS)
_environment.globals["vendored"] = vendored.FILES
_templates = Jinja2Templates(env=_environment)


def page(request: Request, template: str, /, *, status: int = 200, **values: object) -> HTMLResponse:
    """Render a template for the user of a request."""
    may: Access | None = getattr(request.state, "access", None)
    about = {
        "may": may,
        "root": request.scope.get("root_path", ""),
        "scopes": in_order(may.scopes) if may else [],
        "is_signed_in": may is not None and may.token_id != ANYONE,
    }
    answer: HTMLResponse = _templates.TemplateResponse(request, template, {**about, **values}, status_code=status)
    answer.headers["Content-Security-Policy"] = POLICY
    # With `no-referrer`, browsers send `Origin: null` with our own forms.
    answer.headers["Referrer-Policy"] = "same-origin"
    return answer


def refusal_page(request: Request, refusal: Refusal) -> HTMLResponse:
    """Render a refusal as a page."""
    answer = page(request, "refused.html", status=refusal.status, refusal=refusal, back=_referring_page(request))
    answer.headers.update(refusal.headers or {})
    return answer


def _referring_page(request: Request) -> str | None:
    """Return the page of this server with the form or link that led here."""
    referer = request.headers.get("referer", "")
    try:
        parts = urlsplit(referer)
    except ValueError:
        return None
    is_ours = parts.scheme in {"http", "https"} and parts.netloc == request.headers.get("host")
    return referer if is_ours else None


def redirect(request: Request, address: str) -> RedirectResponse:
    """Redirect to the page that shows the result of a form."""
    return RedirectResponse(request.scope.get("root_path", "") + address, status_code=303)


class PageRoute(APIRoute):
    """A route whose refusals are pages for browsers, and problem details for programs."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except (Refusal, RequestValidationError) as error:
                if isinstance(error, Unauthorized) or not accepts_html(request):
                    raise
                return refusal_page(request, error if isinstance(error, Refusal) else _invalid_address(error))

        return answer


async def _form(request: Request) -> Mapping[str, str]:
    """Return the fields of a form; the last value of a repeated one."""
    body = (await request.body()).decode("utf-8", "replace")
    return {name: values[-1] for name, values in parse_qs(body, keep_blank_values=True).items()}


Form = Annotated[Mapping[str, str], Depends(_form)]


def required(form: Mapping[str, str], name: str) -> str:
    """Return a required field of a form.

    Raises
    ------
    InvalidRequest
        The form lacks the field. A missing field must not count as a value.
    """
    if name not in form:
        raise InvalidRequest(f"The form lacks the field {name!r}.")
    return form[name]


def _invalid_address(error: RequestValidationError) -> InvalidRequest:
    """Describe the errors in an address."""
    faults = (
        f"{fault['at'].rpartition('.')[2]} {fault['message']}" for fault in validation_errors.faults(error.errors())
    )
    return InvalidRequest("The address is not valid: " + "; ".join(faults) + ".")


def accepts_html(request: Request) -> bool:
    """Tell if a request comes from a browser, not from a program."""
    return "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers
