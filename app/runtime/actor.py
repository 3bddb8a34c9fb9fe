"""The actor of the current context: token, peer and request, for the audit and the log."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_SAFE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Actor:
    """The originator of an action. ``token_id`` is ``server`` for background work."""

    token_id: str = "server"
    peer: str = ""
    request_id: str = ""


SERVER = Actor()
_current: ContextVar[Actor] = ContextVar("actor", default=SERVER)


def current() -> Actor:
    """Return the actor of this context, also on threads that work for a request."""
    return _current.get()


def enter(actor: Actor) -> None:
    """Set the actor of this context from here on."""
    _current.set(actor)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Set the actor within a block."""
    token = _current.set(actor)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def finishing_for(token_id: str) -> Iterator[None]:
    """Attribute background work within a block to the token that began it; a request keeps its own actor."""
    if current() != SERVER or not token_id:
        yield
        return
    with acting(Actor(token_id)):
        yield


def safe_request_id(text: str | None) -> str | None:
    """Return a client's request id if it is harmless in a log and a header, else None."""
    return text if text is not None and _SAFE.fullmatch(text) else None
