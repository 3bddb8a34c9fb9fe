"""JSON responses: serialised on the worker thread of the route, so that a large one does not block the event loop."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel


class SerialisedRoute(APIRoute):
    """A route that serialises its models on its worker thread. FastAPI would do that on the event loop."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, _serialised(endpoint, options.get("status_code")), **options)


def _serialised(endpoint: Callable[..., Any], status_code: int | None) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(endpoint) or inspect.isasyncgenfunction(endpoint):
        return endpoint

    @wraps(endpoint)
    def answer(*arguments: Any, **values: Any) -> Any:
        found = endpoint(*arguments, **values)
        if not isinstance(found, BaseModel):
            return found
        body = found.model_dump_json(by_alias=True)
        response = Response(body, status_code=status_code or 200, media_type="application/json")
        for value in values.values():  # FastAPI passes in a response on which routes set a status and headers
            if isinstance(value, Response):
                response.status_code = value.status_code or response.status_code
                response.headers.raw.extend(value.headers.raw)
        return response

    return answer
