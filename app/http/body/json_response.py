"""JSON answers: serialised on the worker thread that made them, so that a large one does not stop the event loop."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from fastapi import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel


class SerialisedRoute(APIRoute):
    """A route whose models become bytes where its blocking function runs; FastAPI would do that on the event loop."""

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
        for said in values.values():  # the response that FastAPI hands in, for a status and headers of one's own
            if isinstance(said, Response):
                response.status_code = said.status_code or response.status_code
                response.headers.raw.extend(said.headers.raw)
        return response

    return answer
