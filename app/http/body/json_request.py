"""Large JSON bodies: parsed and validated on a worker thread, piece by piece, so that the event loop is not blocked."""

import gc
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from app.core.errors import Refusal
from app.http.body import json_parser
from app.http.body.sliced_lists import free_in_slices

LARGE_BYTES = 256 * 1024
"""Smallest large body. Smaller ones are parsed on the event loop, which takes a few milliseconds."""
AT_ONCE = 1
"""The number of bodies parsed concurrently. Each parsing thread holds the interpreter lock for 5 ms at a time."""
_limiters: RunVar[CapacityLimiter] = RunVar("holdfast.large_bodies")
_INVALID: list[Any] = []
"""A value that is invalid for every model, so that the framework reports invalid parameters first."""


class GarbageCollection:
    """Pauses the collection of cyclic garbage while JSON is parsed.

    A million new objects trigger full collections, each of which holds the interpreter lock for about 100 ms. Parsed
    JSON has no cycles.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._pauses = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the collection. Pauses may overlap."""
        with self._guard:
            self._pauses += 1
            gc.disable()
        try:
            yield
        finally:
            with self._guard:
                self._pauses -= 1
                if not self._pauses:
                    gc.enable()


GARBAGE_COLLECTION = GarbageCollection()


class JsonRequest(Request):
    """A request that parses and validates a large JSON body as a model on a worker thread."""

    def __init__(self, request: Request, model: TypeAdapter[Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._model = model
        self.fault: ValidationError | Refusal | None = None
        """The error of the body, if it is invalid."""

    async def json(self) -> Any:
        """Return the body: a large one validated, a small one as plain values.

        Raises
        ------
        json.JSONDecodeError, ValueError, RecursionError
            See `json_parser.loads`.
        """
        body = await self.body()
        if len(body) < LARGE_BYTES:
            return await super().json()
        if not hasattr(self, "_json"):
            self._json = await to_thread.run_sync(self._parsed, body, limiter=_limiter())
        return self._json

    def _parsed(self, body: bytes) -> Any:
        with GARBAGE_COLLECTION.paused():
            raw = json_parser.loads(body)
            try:
                return self._model.validate_python(raw, from_attributes=True)  # as FastAPI does
            except (ValidationError, Refusal) as error:
                self.fault = error.with_traceback(None)
                return _INVALID
            finally:
                if self.fault is None:
                    free_in_slices(raw)


async def handle(
    request: Request, model: TypeAdapter[Any] | None, handler: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Call a route's handler; a large JSON body is validated against the route's model on a worker thread."""
    if model is None:
        return await handler(request)
    request = JsonRequest(request, model)
    try:
        return await handler(request)
    except RequestValidationError as error:
        if isinstance(request.fault, Refusal):
            raise request.fault from None
        if request.fault is not None:
            raise RequestValidationError([*_parameter_errors(error.errors()), *_body_errors(request.fault)]) from None
        raise


def _parameter_errors(faults: Sequence[Any]) -> list[Any]:
    """Return the errors of parameters, which are reported first."""
    return [fault for fault in faults if tuple(fault["loc"][:1]) != ("body",)]


def _body_errors(error: ValidationError) -> list[Any]:
    return [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]


def _limiter() -> CapacityLimiter:
    """Return the limiter of the running event loop."""
    try:
        return _limiters.get()
    except LookupError:
        limiter = CapacityLimiter(AT_ONCE)
        _limiters.set(limiter)
        return limiter
