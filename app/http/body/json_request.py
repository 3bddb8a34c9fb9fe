"""Large JSON bodies: parsed and validated on a worker thread, a piece at a time, so that the event loop goes on."""

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
from app.http.body.sliced_lists import shed

LARGE_BYTES = 256 * 1024
"""From which size on. Less is parsed at once: it takes a few milliseconds."""
AT_ONCE = 1
"""The number that is parsed at a time. Each thread that parses has the interpreter for 5 ms whenever it is its turn."""
_limiters: RunVar[CapacityLimiter] = RunVar("holdfast.large_bodies")
_INVALID: list[Any] = []
"""A value that no body may be, so that the framework refuses it after all else that it refuses a request for."""


class Collection:
    """The collection of cyclic garbage, which can be paused.

    A million new objects set off full collections, each of which holds the interpreter for about 100 ms; and what JSON
    is made of has no cycles.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._pauses = 0

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Collect nothing for a while. Pauses may overlap."""
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


COLLECTION = Collection()


class JsonRequest(Request):
    """A request whose JSON, where it is large, arrives as the model that it was validated as."""

    def __init__(self, request: Request, model: TypeAdapter[Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._model = model
        self.fault: ValidationError | Refusal | None = None
        """The fault of the body."""

    async def json(self) -> Any:
        """The body; parsed once.

        Raises
        ------
        json.JSONDecodeError, ValueError, RecursionError
            As `json_parser.loads`.
        """
        body = await self.body()
        if len(body) < LARGE_BYTES:
            return await super().json()
        if not hasattr(self, "_json"):
            self._json = await to_thread.run_sync(self._parsed, body, limiter=_limiter())
        return self._json

    def _parsed(self, body: bytes) -> Any:
        with COLLECTION.paused():
            raw = json_parser.loads(body)
            try:
                return self._model.validate_python(raw, from_attributes=True)  # as FastAPI does
            except (ValidationError, Refusal) as error:
                self.fault = error.with_traceback(None)
                return _INVALID
            finally:
                if self.fault is None:
                    shed(raw)


async def handle(
    request: Request, model: TypeAdapter[Any] | None, handler: Callable[[Request], Awaitable[Response]]
) -> Response:
    """Let a route handle a request; a large body is validated as the model of its body, if it has one."""
    if model is None:
        return await handler(request)
    request = JsonRequest(request, model)
    try:
        return await handler(request)
    except RequestValidationError as error:
        if isinstance(request.fault, Refusal):
            raise request.fault from None
        if request.fault is not None:
            raise RequestValidationError([*_others(error.errors()), *_in_body(request.fault)]) from None
        raise


def _others(faults: Sequence[Any]) -> list[Any]:
    """The faults of parameters, which come first."""
    return [fault for fault in faults if tuple(fault["loc"][:1]) != ("body",)]


def _in_body(error: ValidationError) -> list[Any]:
    return [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]


def _limiter() -> CapacityLimiter:
    """The limiter of this event loop."""
    try:
        return _limiters.get()
    except LookupError:
        limiter = CapacityLimiter(AT_ONCE)
        _limiters.set(limiter)
        return limiter
