"""The session of a command: its server, the user's names for directories, and its output."""

from dataclasses import dataclass

from .._api.server import TIMEOUT_S, Server
from .._arguments.name_mapping import configured_prefix
from .._query.lookup import Json, Lookup, wire
from .output import Output

__all__ = ["PATIENCE_S", "Json", "Session", "wire"]

PATIENCE_S = 0.5
"""The time, in seconds, for which a query is retried; transfers are more patient."""


@dataclass(frozen=True)
class Session(Lookup):
    """The server, prefix and output of one command."""

    out: Output

    @classmethod
    def of(
        cls, url: str | None, *, as_json: bool, patience_s: float = PATIENCE_S, timeout_s: float = TIMEOUT_S
    ) -> "Session":
        """Make a session; nothing is sent yet."""
        server = Server(url, timeout_s=timeout_s, patience_s=patience_s)
        return cls(server, configured_prefix(), Output(as_json=as_json))
