"""URL aliases: queues of one directory under several URLs of the same server.

Queues are aliases if their servers have given the same id. Two servers are never taken for one: while an id is not
known, the queue is left alone.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile

from .._api import identity
from .._api.server import Server
from .._runtime.interruption import suppress
from ..errors import HoldfastError
from .item import SpooledCheckpoint
from .queue import Queue


def others(queue: Queue) -> list[Queue]:
    """Return the queues for the same directory under other URLs in which something waits or is parked."""
    return [other for other in queue.spool.of_directory(queue.directory) if other.server != queue.server]


def identify(server: Server, queues: Iterable[Queue], timeout_s: float | None = None) -> HoldfastError | None:
    """Ask the servers of queues under other URLs for their ids. Never raises.

    Each server is asked once, and again if it did not answer; after an outage, before anything is delivered. No token
    is sent to another URL: a server gives its id with a refusal, too.

    Parameters
    ----------
    timeout_s : float, optional
        The longest time, in seconds, that the server itself may take to answer. Default: `identity.PATIENCE_S`.

    Returns
    -------
    HoldfastError or None
        The failure of the server itself to answer. Nothing may be delivered to it then: it may be back a moment later,
        and the queues that are not known to be its own would follow too late.
    """
    was_away, has_answered, asked = server.circuit.is_open, False, set[str]()
    for queue in queues:
        if not has_answered and (was_away or not (identity.of(server.url) or identity.is_silent(server.url))):
            if (failure := server.probe(timeout_s)) is not None:
                return failure
            has_answered = True
        if identity.of(server.url) is None:
            return None
        if queue.server_id is None and queue.server not in asked:
            asked.add(queue.server)
            with suppress(Exception):  # the URL is no longer that of a server
                server.elsewhere(queue.server).identify(again=was_away)
        queue.record_server_id()
    return None


def identify_all(queues: Iterable[Queue]) -> None:
    """Ask the servers for their ids if several queues are for one directory and an id is not known. Never raises."""
    of_directory: dict[str, list[Queue]] = {}
    for queue in queues:
        of_directory.setdefault(queue.directory, []).append(queue)
    for queue in (queue for several in of_directory.values() if len(several) > 1 for queue in several):
        if queue.server_id is None:
            with suppress(Exception):
                Server(queue.server).elsewhere(queue.server).identify()
        queue.record_server_id()


def is_same(queue: Queue, other: Queue, *, is_only_read: bool = False) -> bool | None:
    """Tell if another queue is of the same server; None if one has not given its id.

    Parameters
    ----------
    is_only_read : bool
        Whether the other queue is only read. Then the id that the server gave to an earlier process is enough, although
        its URL may lead to another server by now.
    """
    ours, theirs = identity.of(queue.server), other.server_id
    if ours is None and is_only_read:
        ours = queue.server_id
    return None if ours is None or theirs is None else ours == theirs


def groups(queues: Iterable[Queue], *, one_server: bool = False) -> list[list[Queue]]:
    """Group queues by directory and server, or by directory alone if one server receives them all."""
    found: dict[tuple[str, str], list[Queue]] = {}
    for queue in queues:
        server = "" if one_server else queue.server_id or queue.server
        found.setdefault((queue.directory, server), []).append(queue)
    return list(found.values())


def turns(find: Callable[[], Iterable[Queue]]) -> Iterator[tuple[Queue, list[SpooledCheckpoint]]]:
    """Yield the queue that is next to be delivered, and those of its items that are older than all in the others.

    So what waits for one directory in several queues arrives in the order of saving, even if several threads and
    processes deliver: each of them stops at the first item whose queue another one has claimed.

    Parameters
    ----------
    find : callable
        Returns the queues for one directory of one server, which may have new ones each time.
    """
    while True:
        seen = {queue: queue.items() for queue in find()}
        # Listed a second time: this shows what was saved before an item of the first list, into a queue that had been
        # read by then.
        heads = [(saved_at(item), queue) for queue in find() for item in queue.items()[:1]]
        if not heads:
            return
        heads.sort(key=lambda head: head[0])
        first = heads[0][1]
        items = seen.get(first, [])
        if len(heads) > 1:
            items = _saved_until(heads[1][0], items)
        if items:
            yield first, items


def _saved_until(time: str, items: list[SpooledCheckpoint]) -> list[SpooledCheckpoint]:
    """Return the items before the first that was saved after a time."""
    return [*takewhile(lambda item: saved_at(item) <= time, items)]


def saved_at(item: SpooledCheckpoint) -> str:
    """Return the time at which a checkpoint was saved, in a form that sorts; empty if it cannot be read."""
    with suppress(HoldfastError, OSError, KeyError):
        return str(item.facts()["saved_at"])
    return ""


def newest_first(queues: Iterable[Queue], *, parked: bool = True) -> Iterator[SpooledCheckpoint]:
    """Yield the items that wait or are parked, newest first; each queue keeps its order, also if clocks disagree."""
    left = [sorted([*queue.items(), *(queue.parked() if parked else [])]) for queue in queues]
    if len(left) == 1:
        yield from reversed(left[0])
        return
    while left := [items for items in left if items]:
        yield max(left, key=lambda items: saved_at(items[-1])).pop()
