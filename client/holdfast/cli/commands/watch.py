"""``holdfast watch``: the events of the server as they happen, one line each."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from ..._api.retry import Backoff, is_transient
from ..._arguments import checks
from ..._runtime.deadlines import deadline
from ...errors import HoldfastError
from .. import formatting
from ..completion import directory_names
from ..options import ServerUrl
from ..output import Cell, complain
from ..session import Json, Session
from ..statuses import Misuse, Status

_STYLES = {"checkpoint.saved": "green", "checkpoint.removed": "dim", "checkpoint.damaged": "bold red"}


def watch(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PREFIX", autocompletion=directory_names, help="Only events in directories at and below it."
        ),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(
            "--since", metavar="ID", min=0, help="Begin after the event with this id; 0 begins with the oldest."
        ),
    ] = None,
    count: Annotated[int | None, typer.Option("--count", "-n", metavar="N", min=1, help="End after N events.")] = None,
    until_saved: Annotated[bool, typer.Option("--until-saved", help="End after the first saved checkpoint.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="End after this time, with status 1.")
    ] = None,
    server: ServerUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each event.")] = False,
) -> int:
    """Follow the events of the server until Ctrl-C, one line each."""
    session = Session.of(server, as_json=as_json)
    if path is not None and not path.strip("/"):
        raise Misuse("an empty prefix means everything: leave it out")
    timeout = checks.timeout("--timeout", timeout)
    end = None if timeout is None else time.monotonic() + timeout
    seen = 0
    with deadline(timeout if timeout is not None else threading.TIMEOUT_MAX, session.server.abort):
        for event in _Following(session, session.below(path), since, end):
            _show(session, event)
            seen += 1
            if seen == count or (until_saved and event["type"] == "checkpoint.saved"):
                return Status.DONE
    return Status.NO


class _Following:
    """The events of a prefix. A broken stream is opened again, and continues after the last event."""

    def __init__(self, session: Session, prefix: str, since: int | None, end: float | None) -> None:
        self._session, self._prefix, self._end = session, prefix, end
        self._last = since
        self._waits = Backoff()
        self._is_away = self._has_begun = False

    def __iter__(self) -> Iterator[Json]:
        while not self._is_over():
            try:
                yield from self._stream()
                if self._is_over():
                    return
                time.sleep(self._waits.next_s())  # the server is stopping
            except HoldfastError as error:
                if self._is_over():
                    return
                if error.code == "events_trimmed" and self._has_begun:
                    self._last = int(error.problem["last_trimmed_id"])
                    complain("later events are no longer kept, or the catalog was rebuilt; going on with newer ones")
                    continue
                if not is_transient(error):
                    raise
                self._complain(error)
                time.sleep(self._waits.next_s(error))

    def _stream(self) -> Iterator[Json]:
        headers = {"Last-Event-ID": str(self._last)} if self._last is not None else {}
        with self._session.server.listen("/v1/events", params={"prefix": self._prefix}, headers=headers) as lines:
            self._is_away, self._has_begun = False, True
            for event in _events(lines):
                self._waits.reset()
                self._last = int(event["id"])
                if "data" in event:
                    yield {"id": self._last, **json.loads(event["data"])}

    def _complain(self, error: HoldfastError) -> None:
        if self._is_away:
            return
        self._is_away = True
        missed = "" if self._last is not None else "; events until it is reached are not shown"
        complain(f"{error}; trying again{missed}")

    def _is_over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end


def _events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield the server-sent events of a stream, and the id that it begins with; ignore an event that is cut off."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            found[name] = value.removeprefix(" ")
        elif not line:
            if "id" in found:
                yield found
            found = {}


def _show(session: Session, event: Json) -> None:
    if session.out.as_json:
        session.out.record(event)
        return
    directory, name = session.shown(event["directory"]) or formatting.NONE, event.get("name")
    known = {"id", "at", "type", "directory", "checkpoint_id", "name", "sequence"}
    more = " ".join(f"{key}={formatting.brief(value)}" for key, value in event.items() if key not in known)
    at = Cell(event["at"][11:19], event["at"], "dim")
    kind = Cell(f"{event['type'].rpartition('.')[2]:<14}", event["type"], _STYLES.get(event["type"], "yellow"))
    session.out.row(
        [at, kind, f"{directory}/{name}" if name else directory, Cell(more, more or formatting.NONE, "dim")]
    )
