"""Who is behind what happens at the moment: which token, from where, by which request. For audit lines and the log."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who does something. ``token_id`` is the server's own word where nobody asked."""

    token_id: str = "server"
    peer: str = ""
    request_id: str = ""


SERVER = Actor()
_current: ContextVar[Actor] = ContextVar("actor", default=SERVER)


def current() -> Actor:
    """Whoever acts in this context; threads that work for a request know it, too."""
    return _current.get()


def enter(actor: Actor) -> None:
    """From here on, this context acts for somebody."""
    _current.set(actor)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Act for somebody within a block."""
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def finishing_for(token_id: str) -> Iterator[None]:
    """The server finishes what somebody began with that token, unless somebody asks for it at this moment."""
    if current() != SERVER or not token_id:
        yield
        return
    with acting(Actor(token_id)):
        yield


def safe_request_id(text: str | None) -> str | None:
    """A request's id as its sender gave it, where that can do no harm in a log or a header; else None."""
    return text if text is not None and _SAFE.fullmatch(text) else None
