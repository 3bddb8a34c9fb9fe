"""``holdfast sync``: deliver the checkpoints that wait on this machine for an unreachable server."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..._api.server import Server
from ..._connection.base_url import base_url_of
from ..._spool import disposal, url_aliases
from ..._spool.delivery import Outcome, deliver
from ..._spool.item import SpooledCheckpoint
from ..._spool.queue import Queue
from ..._spool.spool import Spool, default_folder
from .. import formatting
from ..statuses import Status

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
    is_verbose: bool = True,
) -> int:
    """Deliver the waiting checkpoints, queue by queue; `Status.NO` if any are left waiting or refused.

    Parameters
    ----------
    is_verbose : bool
        True to print the outcome of each checkpoint.
    """
    found = spool_at(spool)
    queues = found.queues()
    if not only_list:
        disposal.tidy(found.every_queue(), found.folder)
    if not queues:
        _print(is_verbose, f"nothing waits in {found.folder}")
        return Status.DONE
    if not only_list and server is None:
        url_aliases.identify_all(queues)
    for group in url_aliases.groups(queues, one_server=server is not None):
        for queue in group:
            if retry_refused and not only_list:
                queue.unpark()
            _say(queue, is_verbose)
        for queue, items in url_aliases.turns(partial(list, group)) if not only_list else ():
            outcome = deliver(
                queue,
                _server(server, queue, token, token_file),
                patience_s=patience_s,
                progress=None,
                report=lambda _, what: _print(is_verbose, f"  {what}"),
                items=items,
            )
            _explain(queue, outcome)
            if not outcome.is_progress:
                break
    left = [queue for queue in queues if queue.has_items() or queue.parked()]
    return Status.NO if left else Status.DONE


def _server(given: str | None, queue: Queue, token: str | None, token_file: Path | None) -> Server:
    """Return the server for a queue: the given one, else the environment's if it is the queue's server.

    The environment may have the login for that server, and a URL at which it is still there.
    """
    if given is not None:
        return Server(given, token, token_file=token_file)
    here = base_url_of(None).url
    current = Server(None, token, token_file=token_file)
    if here == queue.server or (queue.server_id is not None and current.identify() == queue.server_id):
        return current
    return Server(queue.server, token, token_file=token_file)


def spool_at(folder: Path | None) -> Spool:
    """Return the spool in a folder, else the user's own."""
    return Spool(folder.expanduser() if folder else default_folder())


def waiting(spool: Spool) -> dict[str, Any]:
    """Return the waiting and the refused checkpoints as JSON."""
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


def _as_json(item: SpooledCheckpoint) -> dict[str, Any]:
    return {"name": item.name, "size_bytes": item.size_bytes, "folder": str(item.folder)}


def _say(queue: Queue, is_verbose: bool) -> None:
    waiting, refused = queue.items(), queue.parked()
    _print(is_verbose, f"{queue.directory} for {queue.server}: {_checkpoints(waiting)} in {queue.folder}")
    for item in refused:
        _print(is_verbose, f"  refused: {item.name or item.folder.name}, {queue.refusal(item)}")
        _print(is_verbose, f"           stored in {item.folder}")


def _checkpoints(items: Sequence[SpooledCheckpoint]) -> str:
    size_bytes = sum(item.size_bytes for item in items)
    verb = "waits" if len(items) == 1 else "wait"
    return f"{formatting.count(len(items), 'checkpoint')} {verb}, {formatting.size(size_bytes)},"


def _explain(queue: Queue, outcome: Outcome) -> None:
    for item, error in outcome.parked:
        parked = replace(item, folder=queue.folder / "parked" / item.folder.name)
        print(f"  refused: {parked.name or item.save_id}, {error}", file=sys.stderr)
        print(f"           stored in {parked.folder}", file=sys.stderr)
    if outcome.error is not None:
        print(f"  still waiting: {outcome.error}", file=sys.stderr)
    elif outcome.is_claimed_by_other:
        print("  another process is delivering these", file=sys.stderr)


def _print(is_verbose: bool, line: str) -> None:
    if is_verbose:
        print(line)
