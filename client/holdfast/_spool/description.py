"""Descriptions of queues, in ``queue.json``: the directory, its server, and the id of the server once that is known."""

import json
from pathlib import Path

from .._api import identity
from .._runtime.interruption import suppress
from .._transfer import fsync
from . import item as _items
from . import temporary_files


def read(folder: Path) -> tuple[str, str] | None:
    """Return the server and the directory of the queue in a folder, or None if they cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        about = json.loads((folder / "queue.json").read_text())
        if isinstance(about["server"], str) and isinstance(about["directory"], str):
            return about["server"], about["directory"]
    return None


class Description:
    """The description of one queue."""

    def __init__(self, folder: Path, server: str, directory: str) -> None:
        self._folder = folder
        self._server = server
        self._directory = directory
        self._recorded_id: str | None = None

    @property
    def server_id(self) -> str | None:
        """The id that the server has given to this process, or to an earlier one; None if it has given none."""
        return identity.of(self._server) or self._recorded_id or self._read_id()

    def _read_id(self) -> str | None:
        with suppress(OSError, ValueError, TypeError, KeyError):
            found = json.loads((self._folder / "queue.json").read_text())["server_id"]
            self._recorded_id = found if identity.is_id(found) else None
        return self._recorded_id

    def record_server_id(self) -> None:
        """Record the id of the server, if that has given one and the folder exists."""
        found = identity.of(self._server)
        if found is not None and found != self._recorded_id and self._folder.is_dir():
            with suppress(OSError):  # it is recorded later
                self.write()
                self._recorded_id = found

    def write(self) -> None:
        """Write ``queue.json`` unless it is right: without it, no later process would find what waits.

        Raises
        ------
        OSError
            It cannot be written.
        """
        about, content = self._folder / "queue.json", {"server": self._server, "directory": self._directory}
        if (server_id := identity.of(self._server)) is not None:
            content["server_id"] = server_id
        with suppress(OSError, ValueError):
            found = json.loads(about.read_text())
            if isinstance(found, dict) and content.items() <= found.items():
                return
        temporary = temporary_files.begin(self._folder / f".queue-{temporary_files.own_name()}")
        _items.write_json(temporary, {"version": 1, **content})
        temporary.replace(about)
        fsync.sync(self._folder)
