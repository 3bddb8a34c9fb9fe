"""Answers about a checkpoint with the bytes of a small one after its facts: one round trip instead of three. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from .._connection.content_digest import is_digest_of
from .._connection.messages import Response
from .._connection.responses import parse_errors, parse_json
from ..errors import ServerUnreachable

MEDIA_TYPE = "application/vnd.holdfast.checkpoint"
ACCEPT = f"{MEDIA_TYPE}, application/json"


class Attached(NamedTuple):
    """The contents of a checkpoint that came with its facts: the JSON of its chunks, and the bytes of its file."""

    contents: Mapping[str, Any]
    data: memoryview


def parse(response: Response, asked: str, secrets: Iterable[str]) -> tuple[dict[str, Any], Attached | None]:
    """Return the facts of a successful response, and what came after them; older servers send facts alone.

    Raises
    ------
    ServerUnreachable
        The facts were altered on their way.
    """
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        return parse_json(response, asked, secrets, may_be_empty=False), None
    end = response.body.find(b"\n") + 1
    line = response.body[:end]
    if not is_digest_of(response.headers.get("holdfast-facts-digest", ""), line):
        raise ServerUnreachable("the facts of a checkpoint were altered on their way")
    found = parse_json(response._replace(body=line), asked, secrets, may_be_empty=False)
    with parse_errors():
        return found["checkpoint"], Attached(found["contents"], memoryview(response.body)[end:])
