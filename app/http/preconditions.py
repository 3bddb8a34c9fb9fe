"""Preconditions of requests that write: reads ``If-Match`` and ``If-None-Match`` (RFC 9110, section 13.1). Pure."""

import re

from app.core.errors import InvalidRequest
from app.core.models import Precondition

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
_WEAK = "W/"


def read(if_match: str | None, if_none_match: str | None, *, may_read: bool = False) -> Precondition:
    """Return the precondition in the two headers of a request whose token may read, or may not.

    A weak tag matches nothing in ``If-Match``, and the strong tag of the same text in ``If-None-Match``.

    Raises
    ------
    InvalidRequest
        A header is neither ``*`` nor a list of entity tags. Ignoring it would be unsafe.
    """
    strong = tuple(tag for tag in _tags("If-Match", if_match) if not tag.startswith(_WEAK))
    others = tuple(tag.removeprefix(_WEAK) for tag in _tags("If-None-Match", if_none_match))
    return Precondition(
        if_match=strong if if_match is not None else None,
        if_none_match=others if if_none_match is not None else None,
        may_read=may_read,
    )


def _tags(name: str, header: str | None) -> tuple[str, ...]:
    if header is None:
        return ()
    if header.strip() == "*":
        return ("*",)
    if _TAGS.fullmatch(header) is None:
        raise InvalidRequest(
            f"The precondition `{name}` is neither `*` nor a list of entity tags. "
            f'The tag of a checkpoint is its digest in double quotes: `{name}: "<digest>"`.'
        )
    return tuple(re.findall(_TAG, header))
