"""The transaction that each reply reports, and if it was durable when the reply left: read from a strace log.

    ``event``   a line of the record at which a call began or ended; their order is that of the kernel's stops

A transaction of SQLite in WAL mode is a run of writes to the catalog's log by one thread; it is durable once a sync of
the log has ended that began after its last write. Transactions of other threads, such as those of the freeing thread,
come after it and have syncs of their own: that theirs are still to come says nothing of it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.crash.harness.tracing import SYNCING

SENDING = ("sendto", "sendmsg", "writev", "write")
TRACED = ("pwrite64", "pwritev", "fsync", "fdatasync", *SENDING)
_LOG = "catalog.db-wal>"
_LINE = re.compile(r"^(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)$", re.DOTALL)


@dataclass
class Call:
    """A call of a thread; ``began`` and ``ended`` count lines. One that never ended has failed to prove anything."""

    thread: str
    name: str
    text: str
    began: int
    ended: int | None = None


@dataclass
class Transaction:
    """A run of writes to the log by one thread."""

    thread: str
    writes: list[Call] = field(default_factory=list)

    @property
    def ended(self) -> int | None:
        ends = [call.ended for call in self.writes]
        return None if None in ends else max(end for end in ends if end is not None)


def calls(lines: Iterable[str]) -> list[Call]:
    """Every call of a record, in the order in which they began."""
    found: list[Call] = []
    under_way: dict[str, Call] = {}
    for number, line in enumerate(lines):
        match = _LINE.match(line)
        if match is None:
            continue
        thread, resumed, name, rest = match.groups()
        if resumed is not None:
            if (call := under_way.pop(thread, None)) is not None:
                call.ended, call.text = number, call.text + rest
            continue
        call = Call(thread, name, rest, number, number)
        found.append(call)
        if rest.rstrip().endswith("<unfinished ...>"):
            call.ended, under_way[thread] = None, call
    return found


def transactions(found: Sequence[Call]) -> Iterator[Transaction]:
    """The runs of writes to the log: each ends with a sync by its thread, or where another thread writes."""
    current: Transaction | None = None
    for call in found:
        if _LOG not in call.text:
            continue
        if call.name.startswith("pwrite"):
            if current is None or current.thread != call.thread:
                if current is not None:
                    yield current
                current = Transaction(call.thread)
            current.writes.append(call)
        elif call.name in SYNCING and current is not None and current.thread == call.thread:
            yield current
            current = None
    if current is not None:
        yield current


@dataclass(frozen=True)
class Verdict:
    """The replies of a record: those found, those that came too early, and those beside open transactions."""

    reported: list[str]
    too_early: list[str]
    while_others_were_open: list[str]


def judge(lines: Iterable[str], marks: dict[str, tuple[str, str]]) -> Verdict:
    """Judge each reply, by what its transaction writes first of all transactions, and what the reply says.

    Parameters
    ----------
    marks : dict
        By a name for people: the text that only this transaction and later ones write, and that of the reply.
    """
    found = calls(lines)
    all_of_them = list(transactions(found))
    syncs = [call for call in found if call.name in SYNCING and _LOG in call.text and call.ended is not None]
    sends = [call for call in found if call.name in SENDING and "catalog.db" not in call.text]
    verdict = Verdict([], [], [])
    for name, (written, said) in marks.items():
        own = next((one for one in all_of_them if any(written in call.text for call in one.writes)), None)
        reply = next((call for call in sends if said in call.text), None)
        if own is None or reply is None:
            continue
        verdict.reported.append(name)
        if not _is_durable(own, syncs, reply):
            verdict.too_early.append(name)
        before = [one for one in all_of_them if one is not own and one.writes[0].began < reply.began]
        if not all(_is_durable(one, syncs, reply) for one in before):
            verdict.while_others_were_open.append(name)
    return verdict


def _is_durable(transaction: Transaction, syncs: Sequence[Call], reply: Call) -> bool:
    """Tell if a sync that began after the last write had ended when the reply began."""
    ended = transaction.ended
    return ended is not None and any(
        ended < sync.began and sync.ended is not None and sync.ended < reply.began for sync in syncs
    )
