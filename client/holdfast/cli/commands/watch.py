"""``holdfast watch``: the events of the server as they happen, one line each."""

import threading
from typing import Annotated

import typer

from ..._api.events import EventStream
from ..._arguments import checks
from ..._runtime.deadlines import deadline
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
    stopping = threading.Event()

    def stop() -> None:
        stopping.set()
        session.server.abort()

    stream = EventStream(
        session.server,
        session.below(path),
        since,
        stopping=stopping,
        report=lambda interruption: complain(interruption.message),
    )
    seen = 0
    with deadline(timeout if timeout is not None else threading.TIMEOUT_MAX, stop):
        for event in filter(None, stream.positions()):
            _show(session, event)
            seen += 1
            if seen == count or (until_saved and event["type"] == "checkpoint.saved"):
                return Status.DONE
    return Status.NO


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
