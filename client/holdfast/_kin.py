"""Queues of one directory under other URLs, and whether the same server is behind them.

They are of the same server if both servers have given the same id. Two servers are never taken for one: while an id is
not known, the queue is left alone.
"""

from collections.abc import Iterable, Iterator

from . import _identity
from ._http import Server
from ._interruption import suppress
from ._queue import Item, Queue
from .errors import HoldfastError


def others(queue: Queue) -> list[Queue]:
    """The queues for the same directory under other URLs in which something waits or is parked."""
    return [other for other in queue.spool.of_directory(queue.directory) if other.server != queue.server]


def meet(server: Server, queues: Iterable[Queue]) -> None:
    """Find out of queues under other URLs who their servers are; each server is asked once. Never raises.

    No token goes to another URL: a server gives its id with a refusal, too.
    """
    for queue in queues:
        if server.identify(again=server.outage.is_on) is None:
            return
        if queue.server_id is None and not _identity.is_unknowable(queue.server):
            with suppress(Exception):  # it is no URL of a server any more
                server.elsewhere(queue.server).identify()
        queue.record_server_id()


def is_same(queue: Queue, other: Queue, *, is_only_read: bool = False) -> bool | None:
    """Whether another queue is of the same server; None where one has not given its id.

    Only to read what waits, the id that the server gave to an earlier process is enough: its URL may lead to another by
    now.
    """
    ours, theirs = _identity.of(queue.server), other.server_id
    if ours is None and is_only_read:
        ours = queue.server_id
    return None if ours is None or theirs is None else ours == theirs


def groups(queues: Iterable[Queue]) -> list[list[Queue]]:
    """Queues by directory and server."""
    found: dict[tuple[str, str], list[Queue]] = {}
    for queue in queues:
        found.setdefault((queue.directory, queue.server_id or queue.server), []).append(queue)
    return list(found.values())


def turns(group: list[Queue]) -> Iterator[tuple[Queue, str | None]]:
    """The queue whose turn it is to be delivered, and the time of saving after which it is another's; until all is.

    So what waits for one directory in several queues arrives in the order of saving.
    """
    while waiting := [queue for queue in group if queue.has_items()]:
        if len(waiting) == 1:
            yield waiting[0], None
            continue
        heads = sorted((_head(queue), place) for place, queue in enumerate(waiting))
        yield waiting[heads[0][1]], heads[1][0]


def _head(queue: Queue) -> str:
    """The time at which the first that waits was saved."""
    return next((saved_at(item) for item in queue.items()[:1]), "")


def saved_at(item: Item) -> str:
    """The time at which a checkpoint was saved, in a form that sorts; nothing where that cannot be read."""
    with suppress(HoldfastError, OSError, KeyError):
        return str(item.facts()["saved_at"])
    return ""


def newest_first(queues: Iterable[Queue], *, parked: bool = True) -> Iterator[Item]:
    """What waits or is parked in queues, the newest first; the order within each is kept, whatever clocks said."""
    left = [sorted([*queue.items(), *(queue.parked() if parked else [])]) for queue in queues]
    if len(left) == 1:
        yield from reversed(left[0])
        return
    while left := [items for items in left if items]:
        yield max(left, key=lambda items: saved_at(items[-1])).pop()
