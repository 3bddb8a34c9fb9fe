"""Described bodies: a line of JSON, and after it the bytes that it describes."""

import json
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter, ValidationError

from app.core.errors import TooLarge
from app.http.body import json_parser

MEDIA_TYPE = "application/vnd.holdfast.save"
"""That of a request: what is to be saved, and its bytes."""
CHECKPOINT_MEDIA_TYPE = "application/vnd.holdfast.checkpoint"
"""That of a response: the facts and the chunks of a checkpoint, and its bytes."""

T = TypeVar("T")


def read(body: bytes, model: TypeAdapter[T], *, max_json_bytes: int) -> tuple[T, memoryview]:
    """Return what the first line describes, validated, and the bytes after it.

    Raises
    ------
    TooLarge
        The first line is longer than ``max_json_bytes``.
    RequestValidationError
        The first line is missing, or is not JSON of the model.
    """
    end = body.find(b"\n")
    if end < 0:
        raise _invalid("json_invalid", "the line of JSON before the bytes does not end")
    if end > max_json_bytes:
        raise TooLarge(f"The line of JSON before the bytes has {end} bytes, more than {max_json_bytes}.")
    try:
        return model.validate_python(_parsed(body[:end])), memoryview(body)[end + 1 :]
    except ValidationError as error:
        raise RequestValidationError(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors(include_url=False)]
        ) from None


def _parsed(line: bytes) -> Any:
    try:
        return json_parser.loads(line)
    except json.JSONDecodeError as error:
        raise _invalid("json_invalid", error.msg) from None
    except (ValueError, RecursionError) as error:
        raise _invalid("json_invalid", str(error)) from None


def _invalid(kind: str, why: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body",), "msg": why, "input": {}, "ctx": {"error": why}}])
