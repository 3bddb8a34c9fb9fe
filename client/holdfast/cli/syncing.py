"""``holdfast sync``: deliver the checkpoints that wait on this machine for a server that was away."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._delivery import Outcome, deliver
from .._http import Server
from .._queue import Item, Queue
from .._settings import place_of
from .._spool import Spool, default_folder
from .statuses import Status

PATIENCE_S = 10.0


def sync_all(
    *,
    spool: Path | None = None,
    server: str | None = None,
    token: str | None = None,
    token_file: Path | None = None,
    only_list: bool = False,
    retry_refused: bool = False,
    patience_s: float = PATIENCE_S,
    told: bool = True,
) -> int:
    """Deliver what waits, queue by queue; `Status.NO` where anything is left to be done.

    Parameters
    ----------
    told : bool
        Whether to say, on standard output and standard error, what becomes of it.
    """
    found = spool_at(spool)
    queues = found.queues()
    if not queues:
        _print(told, f"nothing waits in {found.folder}")
        return Status.DONE
    for queue in queues:
        if retry_refused and not only_list:
            queue.unpark()
        _say(queue, told)
        if not only_list and queue.has_items():
            outcome = deliver(
                queue,
                Server(_url(server, queue), token, token_file=token_file),
                patience_s=patience_s,
                progress=None,
                told=lambda _, what: _print(told, f"  {what}"),
            )
            _explain(queue, outcome)
    left = [queue for queue in queues if queue.has_items() or queue.parked()]
    return Status.NO if left else Status.DONE


def _url(given: str | None, queue: Queue) -> str | None:
    """Where to deliver a queue; None for what the environment names, which may have the login for that server."""
    if given is None and place_of(None).url == queue.server:
        return None
    return given or queue.server


def spool_at(folder: Path | None) -> Spool:
    """The spool in a folder, else the user's own."""
    return Spool(folder.expanduser() if folder else default_folder())


def waiting(spool: Spool) -> dict[str, Any]:
    """What waits there, and what was refused, as JSON."""
    return {
        "spool": str(spool.folder),
        "queues": [
            {
                "server": queue.server,
                "directory": queue.directory,
                "folder": str(queue.folder),
                "waiting": [_as_json(item) for item in queue.items()],
                "refused": [{**_as_json(item), "because": queue.refusal(item)} for item in queue.parked()],
            }
            for queue in spool.queues()
        ],
    }


def _as_json(item: Item) -> dict[str, Any]:
    return {"name": item.name, "size_bytes": item.size_bytes, "folder": str(item.folder)}


def _say(queue: Queue, told: bool) -> None:
    waiting, refused = queue.items(), queue.parked()
    _print(told, f"{queue.directory} for {queue.server}: {_checkpoints(waiting)} in {queue.folder}")
    for item in refused:
        _print(told, f"  refused: {item.name or item.folder.name}, {queue.refusal(item)}")
        _print(told, f"           it lies in {item.folder}")


def _checkpoints(items: Sequence[Item]) -> str:
    count, size_mib = len(items), sum(item.size_bytes for item in items) / 2**20
    return f"{count} checkpoint{'s' * (count != 1)} wait{'s' * (count == 1)}, {size_mib:,.1f} MiB,"


def _explain(queue: Queue, outcome: Outcome) -> None:
    for item, error in outcome.parked:
        parked = replace(item, folder=queue.folder / "parked" / item.folder.name)
        print(f"  refused: {parked.name or item.save_id}, {error}", file=sys.stderr)
        print(f"           it lies in {parked.folder}", file=sys.stderr)
    if outcome.error is not None:
        print(f"  still waiting: {outcome.error}", file=sys.stderr)
    elif outcome.is_claimed_by_other:
        print("  another process is delivering these", file=sys.stderr)


def _print(told: bool, line: str) -> None:
    if told:
        print(line)
